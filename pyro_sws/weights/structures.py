"""Inputs and targets of any structure that torch's pytree knows, handled as one tensor would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

Forward = Callable[[nn.Module, Any], Any]


class Structure:
    """The tensors of a batch's inputs or targets, examples (B, ...) each, in their structure.

    As a tensor it has a length, and parts by slice, mask and index. What is no tensor, or has no
    dimension, is the same in every part. A network is given a tuple or list as positional
    arguments, a mapping as keywords, and all else as ``forward(net, value)`` says.

    Raises ValueError for a structure without tensors, and for tensors of different lengths.
    """

    def __init__(self, value: Any, what: str = "inputs", forward: Forward | None = None):
        leaves, spec = tree_flatten(_plain(value))
        self._set(leaves, spec, forward)
        lengths = {len(tensor) for tensor in self.tensors}
        if not lengths:
            raise ValueError(f"{what} have no tensor of examples (B, ...), only {shape_of(value)}")
        if len(lengths) > 1:
            raise ValueError(
                f"{what} have tensors of different lengths, {shape_of(value)}; each must have the "
                "examples in its first dimension, and what all of them share belongs to the network"
            )

    def _set(self, leaves: Sequence[Any], spec: TreeSpec, forward: Forward | None) -> None:
        self._leaves, self._spec, self.forward = tuple(leaves), spec, forward
        self.tensors = [leaf for leaf in self._leaves if _has_examples(leaf)]

    @property
    def value(self) -> Any:
        """The structure itself."""
        return tree_unflatten(self._leaves, self._spec)

    @property
    def device(self) -> torch.device:
        return self.tensors[0].device

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, part: slice | Tensor) -> Structure:
        return self.mapped(lambda tensor: tensor[part] if tensor.dim() else tensor)

    def mapped(self, function: Callable[[Tensor], Tensor]) -> Structure:
        """The same structure of what each tensor, one without a dimension too, becomes."""
        leaves = [function(x) if isinstance(x, Tensor) else x for x in self._leaves]
        return self._of(leaves)

    def joined(self, others: Sequence[Structure]) -> Structure:
        """This and others of its form, one after the other."""
        parts = zip(self._leaves, *(other._leaves for other in others), strict=True)
        leaves = [torch.cat(own) if _has_examples(own[0]) else own[0] for own in parts]
        return self._of(leaves)

    def form(self) -> tuple[Any, ...]:
        """What parts that can be joined have in common."""
        shapes = [x.shape[1:] if _has_examples(x) else x for x in self._leaves]
        return self._spec, *(repr(shape) for shape in shapes)

    def _of(self, leaves: Sequence[Any]) -> Structure:
        other = object.__new__(Structure)
        other._set(leaves, self._spec, self.forward)
        return other


def as_part(value: Any, what: str) -> Any:
    """A tensor, a Structure and None as they are; all else as a Structure."""
    return value if isinstance(value, Tensor | Structure | None) else Structure(value, what)


def tensors_in(part: Any) -> list[Tensor]:
    """The tensors of examples in inputs, targets or outputs, of any structure."""
    if isinstance(part, Tensor):
        return [part]
    if isinstance(part, Structure):
        return part.tensors
    return [leaf for leaf in tree_leaves(_plain(part)) if isinstance(leaf, Tensor)]


def mapped(part: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """What each of its tensors becomes, in the same structure."""
    if isinstance(part, Tensor):
        return function(part)
    if isinstance(part, Structure):
        return part.mapped(function)
    return tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, _plain(part))


def joined(parts: Sequence[Any]) -> Any:
    """Parts of one form, one after the other."""
    first, *others = parts
    if isinstance(first, Structure):
        return first.joined(others)
    return torch.cat([*parts])


def form(part: Tensor | Structure) -> Any:
    """What parts that can be joined have in common."""
    return part.shape[1:] if isinstance(part, Tensor) else part.form()


def value_of(part: Any) -> Any:
    """What a user's function, or a likelihood, is given of it."""
    return part.value if isinstance(part, Structure) else part


def named_output(outputs: Any) -> Any:
    """The logits among several outputs named by keys or fields, as Hugging Face's; else all."""
    keyed = isinstance(outputs, Mapping)
    logits = outputs.get("logits") if keyed else getattr(outputs, "logits", None)
    return logits if isinstance(logits, Tensor) else outputs


def loose(part: Any) -> Any:
    """What a batch is seen as: its value, unless it says itself how a network is given that."""
    return part if isinstance(part, Structure) and part.forward is not None else value_of(part)


def fed(net: nn.Module, inputs: Any) -> Any:
    """What the network returns for these inputs, a tensor, a Structure or the structure itself."""
    value, forward = taken_apart(inputs)
    if forward is not None:
        return forward(net, value)
    arguments, keywords = arguments_of(value)
    return net(*arguments, **keywords)


def fed_with(net: nn.Module, tensors: Mapping[str, Tensor], inputs: Any) -> Any:
    """``fed``, with these tensors in the place of the network's own of their names."""
    return run_with(net, tensors, *taken_apart(inputs))


def taken_apart(inputs: Any) -> tuple[Any, Forward | None]:
    """What a network is given, and the function that gives it, if there is one."""
    return value_of(inputs), inputs.forward if isinstance(inputs, Structure) else None


def run_with(
    net: nn.Module, tensors: Mapping[str, Tensor], value: Any, forward: Forward | None = None
) -> Any:
    """``fed_with``, of inputs that are taken apart."""
    places = _places(net, tensors)
    if forward is None:
        return functional_call(net, places, *arguments_of(value), tie_weights=False)
    own = {f"net.{name}": tensor for name, tensor in places.items()}
    return functional_call(_Forwarded(net, forward), own, (value,), tie_weights=False)


def _places(net: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by every place that is to have them: of a tied one, several.

    A module that is registered under several names has one. functional_call would put its tensors
    in the place of each other under every name, and at the end not all of its own back.
    """
    every = (net.named_parameters, net.named_buffers)
    known = {name: id(own) for named in every for name, own in named(remove_duplicate=False)}
    exchanged = {known.get(name): tensor for name, tensor in tensors.items()}
    found = {name: tensor for name, tensor in tensors.items() if name not in known}
    for prefix, module in net.named_modules():
        for name, own in (*module._parameters.items(), *module._buffers.items()):
            if id(own) in exchanged:
                found[f"{prefix}.{name}".removeprefix(".")] = exchanged[id(own)]
    return found


def arguments_of(value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a network is given of inputs: its positional and keyword arguments."""
    if isinstance(value, Mapping):
        return (), dict(value)
    return (tuple(value), {}) if isinstance(value, tuple | list) else ((value,), {})


def shape_of(value: Any) -> str:
    """A structure in one line, shapes in the place of tensors: for errors."""
    plain = _plain(value_of(value))
    if isinstance(plain, Tensor):
        return str(tuple(plain.shape))
    if isinstance(plain, Mapping):
        return "{" + ", ".join(f"{key!r}: {shape_of(each)}" for key, each in plain.items()) + "}"
    if isinstance(plain, tuple | list):
        inner = ", ".join(map(shape_of, plain))
        return f"[{inner}]" if isinstance(plain, list) else f"({inner})"
    return type(plain).__name__


class _Forwarded(nn.Module):
    """A network run by a function, so that its tensors can be exchanged while it is."""

    def __init__(self, net: nn.Module, forward: Forward):
        super().__init__()
        self.net, self._run = net, forward

    def forward(self, value: Any) -> Any:
        return self._run(self.net, value)


def _plain(value: Any) -> Any:
    """Mappings that the pytree does not know, such as a tokenizer's, as dicts; copies no tensor."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_plain(each) for each in value)
    return value


def _has_examples(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0
