"""What of a batch a network is given, and what are its targets: by its form, or by functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pyro_sws.weights.structures import Forward, Structure, named_output, shape_of

Targets = str | Callable[[Any], Any]
LABELS = "labels"  # of a mapping's targets, as Hugging Face names them
TOKENS = "input_ids"
IGNORED = -100  # a label that does not count, there


@dataclass(frozen=True)
class Reading:
    """How a batch is read as (inputs, targets).

    Without functions a batch is a pair (inputs, targets), a longer tuple whose last part is the
    targets, or a mapping with "labels". ``targets`` is the name of a mapping's targets, or a
    function of the batch that returns them; ``forward(net, batch)`` returns the outputs for a
    batch, whatever that is. Inputs that are a tuple or list are a network's positional arguments,
    and those that are a mapping its keywords. ``next_tokens`` says whether "labels" are of the
    outputs before them; None: where they are the tokens themselves, batch by batch. ``keywords``
    are the names by which a network is given even an only input, which else is its first argument.
    """

    forward: Forward | None = None
    targets: Targets | None = None
    next_tokens: bool | None = None
    keywords: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.forward is not None and not callable(self.forward):
            raise TypeError(
                f"forward must be a function of network and batch, got {self.forward!r}"
            )
        if not isinstance(self.targets, str | None) and not callable(self.targets):
            raise TypeError(
                "targets must be a name in a mapping or a function of the batch, got "
                f"{self.targets!r}"
            )

    def __call__(self, batch: Any, what: str) -> tuple[Any, Any]:
        """Inputs and targets, a tensor or Structure each. Raises TypeError for what is none."""
        if type(batch) is tuple and len(batch) == 2 and all(map(_is_part, batch)):
            read_already = any(isinstance(part, Structure) for part in batch)
            if read_already or (self.forward is None and not callable(self.targets)):
                return batch
        inputs, targets, forward = self._parts(batch, what)
        kinds = f"({type(inputs).__name__}, {type(targets).__name__})"
        return (
            _part(inputs, "inputs", what, kinds, forward),
            _part(targets, "targets", what, kinds),
        )

    def _parts(self, batch: Any, what: str) -> tuple[Any, Any, Forward | None]:
        if self.forward is not None:
            targets = self._targets(batch, what)
            if is_dataclass(batch) and not isinstance(batch, Mapping):
                held = {each.name: getattr(batch, each.name) for each in fields(batch)}
                return held, targets, partial(_with_object, self.forward, type(batch))
            return batch, targets, self.forward
        if isinstance(batch, Mapping):
            return self._of_mapping(batch, what)
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            kind = type(batch).__name__
            raise TypeError(
                f"{what} must be a pair (inputs, targets), got {kind}; of other batches say what "
                "is what by forward=lambda net, batch: ... and targets=lambda batch: ..."
            )
        inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
        return inputs, self._targets(batch, what), None

    def _targets(self, batch: Any, what: str) -> Any:
        if callable(self.targets):
            return self.targets(batch)
        if isinstance(batch, Mapping):
            name = self.targets or LABELS
            if name not in batch:
                _no_targets(batch, name, what)
            return batch[name]
        if isinstance(batch, tuple | list) and len(batch) > 1 and self.targets is None:
            return batch[-1]
        raise TypeError(
            f"{what} is {shape_of(batch)}; say by targets=lambda batch: ... what its targets are"
        )

    def _of_mapping(self, batch: Mapping, what: str) -> tuple[Any, Any, Forward | None]:
        targets = self._targets(batch, what)
        if self.targets is None:
            shifted = _next_tokens(batch) if self.next_tokens is None else self.next_tokens
            if shifted:
                return batch, targets[:, 1:], _next_token_outputs
            return batch, targets, _outputs_without_labels
        named = [self.targets]
        if callable(self.targets):
            named = [key for key, value in batch.items() if value is targets]
        if len(named) != 1:
            found = f"are {' and '.join(map(repr, named))}" if named else "are others"
            raise TypeError(
                f"{what} is {shape_of(batch)}, and what targets= makes of it {found}; say by "
                "forward=lambda net, batch: ... what the network is given"
            )
        rest = {key: value for key, value in batch.items() if key != named[0]}
        only = len(rest) == 1 and not self.keywords.intersection(rest)
        return next(iter(rest.values())) if only else rest, targets, None


@dataclass(frozen=True, eq=False)
class Read:
    """A re-iterable of batches as they are read: each a pair of a tensor or Structure."""

    batches: Iterable
    reading: Reading

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for i, batch in enumerate(self.batches):
            yield self.reading(batch, f"batch {i}")

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]


def read_by(batches: Iterable | None, reading: Reading) -> Any:
    """The batches, with how they are read where that is not by their form."""
    return batches if batches is None or reading == Reading() else Read(batches, reading)


def behind(batches: Iterable) -> Iterable:
    """The caller's own batches."""
    return batches.batches if isinstance(batches, Read) else batches


def _is_part(part: Any) -> bool:
    return isinstance(part, Tensor | Structure)


def _part(part: Any, name: str, what: str, kinds: str, forward: Forward | None = None) -> Any:
    """A tensor as it is, unless a function is to be given it; a Structure of all else."""
    if isinstance(part, Structure) or (isinstance(part, Tensor) and forward is None):
        return part
    if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(_as_dict(part))):
        if forward is not None:
            raise TypeError(
                f"{what} is a {type(part).__name__}; forward= is given parts of batches, each a "
                "tensor, or a tuple, list, dict or dataclass of tensors with the examples in their "
                "first dimension: make one of it, as by the loader's collate_fn"
            )
        raise TypeError(f"{what} must be a pair of tensors, got {kinds}{made(part)}")
    return Structure(part, f"{name} of {what}", forward)


def made(part: object) -> str:
    """How to make a tensor of it, for an error; "" for what is no array and no list."""
    array = isinstance(part, np.ndarray | list | tuple)
    return "; give torch.as_tensor(...) of it" if array else "; a loader needs a batch_size"


def _as_dict(part: Any) -> Any:
    return dict(part) if isinstance(part, Mapping) else part


def _no_targets(batch: Mapping, name: str, what: str) -> NoReturn:
    key = list(batch)[-1] if batch else "label"
    raise TypeError(
        f"{what} must be a pair (inputs, targets) or a mapping with {name!r}, got "
        f"{type(batch).__name__} {shape_of(batch)}; say which of it are the targets, such as "
        f"targets={key!r}"
    )


def _next_tokens(batch: Mapping) -> bool:
    """Whether labels are the tokens themselves, so that each output is for the token after it.

    Models of Hugging Face that predict the next token shift such labels in their loss.
    """
    labels, tokens = batch[LABELS], batch.get(TOKENS)
    if not isinstance(labels, Tensor) or not isinstance(tokens, Tensor):
        return False
    if labels.shape != tokens.shape or labels.dim() != 2 or labels.shape[1] < 2:
        return False
    counted = labels != IGNORED
    return bool(counted.any()) and torch.equal(labels[counted], tokens[counted])


def without_labels(net: nn.Module, batch: Mapping) -> dict[str, Any]:
    """What the network is given of a batch: all but the labels, unless its inputs are made of them.

    A decoder's are, where the batch has none for it.
    """
    config = getattr(net, "config", None)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" not in batch:
        return dict(batch)
    return {key: value for key, value in batch.items() if key != LABELS}


def _outputs_without_labels(net: nn.Module, batch: Mapping) -> Any:
    given = without_labels(net, batch)
    outputs = net(**given)
    if LABELS in given:
        return outputs
    logits, labels = named_output(outputs), batch[LABELS]
    if isinstance(logits, Tensor) and isinstance(labels, Tensor) and labels.is_floating_point():
        # A head of one number has outputs (B, 1) and labels (B,), there.
        return logits.squeeze(-1) if logits.shape == (*labels.shape, 1) else outputs
    return outputs


def _next_token_outputs(net: nn.Module, batch: Mapping) -> Tensor:
    outputs = _outputs_without_labels(net, batch)
    return named_output(outputs)[:, :-1]


def _with_object(forward: Forward, kind: type, net: nn.Module, held: Mapping[str, Any]) -> Any:
    """What the function returns for an object of this kind, a dataclass, with these fields."""
    batch: Any = object.__new__(kind)
    for name, value in held.items():
        object.__setattr__(batch, name, value)  # also of a frozen one
    return forward(net, batch)
