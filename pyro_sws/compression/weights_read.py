"""Whether a network computes with the weights that a fit moves: looked at on a few examples.

A module may compute with a copy that it made before, or reach its weights through a list: then a
fit moves weights that nothing reads, and the file holds others than the network uses. So the
outputs' gradient is taken through the very path that a fit uses. A tensor without one is moved, all
others being moved too, so that no dead unit and no layer of zeros hides it.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from pyro_sws.inference.batches import Part
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint, outputs_of
from pyro_sws.rewriting.restored import restored
from pyro_sws.weights.held import captured, is_telling, named_held, unregistered
from pyro_sws.weights.network import copied, listed

EXAMPLES = 8  # of the batch
SIZE = 0.1  # of a move, in standard deviations of the tensor; and at least
LEAST = 0.01
NO_GRADIENT = "its outputs have none, as under no_grad, inference_mode or activation checkpointing"

Weights = Mapping[str, Tensor]


def unread(model: Joint, inputs: Part) -> tuple[str, ...]:
    """The covered tensors that no output depends on, as in a layer that is not used.

    A few passes and one gradient, on a few of the inputs (B, ...), and some more of both on all of
    them where a tensor has none. The inputs are where the model is and in its dtype. The network
    and the generators are as they were.

    Raises ValueError for a tensor that the network uses and a fit does not reach: one that is read
    in place alone, one of which a copy or a copied part is used, one without a gradient, and one
    that no module registers.
    """
    names = [name for group in model.groups.values() for name in group.shapes]
    own = {name: p for name, p in model.net.named_parameters() if name in names}
    with pyro_step(), restored(model.net), forked_rng(0, inputs.device):
        look = _Look(model, _few(model, inputs, own), own)
        suspects, reason = look.without_gradient(look.given)
        look.check_other_weights()
        if suspects and len(inputs) > EXAMPLES:  # others may go through other layers
            look = _Look(model, inputs, own)
            suspects, reason = look.without_gradient(look.given)
        if suspects:
            look.check_gradients(suspects, reason)
            suspects = [name for name in suspects if not look.changes(name)]
            with _written(list(model.net.parameters()), to=None):  # eval() may merge them anew
                for name in suspects:
                    look.check_unused(name)
        if len(suspects) == len(names):
            raise ValueError(
                f"no output of {type(model.net).__name__} depends on its parameters as a fit "
                "exchanges them; its forward must read them from its own modules (self.weight)"
            )
        look.check_all_registered()
        look.check_no_copied_part()
    return tuple(suspects)


class _Look:
    """A network's outputs for some inputs, with weights exchanged or written in place."""

    def __init__(self, model: Joint, inputs: Part, own: Weights):
        self.model, self.inputs, self.own = model, inputs, own
        self.given = {name: p.detach().clone() for name, p in own.items()}

    @cached_property
    def bases(self) -> list[dict[str, Tensor]]:
        """Other weights, near the given ones and far from them."""
        generator = torch.Generator().manual_seed(0)
        others = [
            {name: change(p, generator) for name, p in self.given.items()}
            for change in (_moved, _drawn)
        ]
        return [weights for weights in others if self._computes(weights)]

    def check_other_weights(self) -> None:
        """Raise ValueError where the network writes into weights, if not into those it has now."""
        assert self.bases is not None  # making them is the look

    def _computes(self, weights: Weights) -> bool:
        """Whether the network takes these weights. Raises ValueError where it writes into them."""
        copies = {name: p.clone() for name, p in weights.items()}
        try:
            with torch.no_grad():
                self.outputs(copies)
        except ValueError:
            return False
        self._check_written(weights, copies)
        return True

    def _check_written(self, before: Weights, after: Weights) -> None:
        if changed := [name for name, p in before.items() if not _same(after[name].detach(), p)]:
            raise ValueError(
                f"{type(self.model.net).__name__} writes into its weights as it computes: "
                f"{listed(changed)}; a forward must leave them as they are"
            )

    def outputs(self, weights: Weights) -> Tensor:
        with forked_rng(0, self.inputs.device):  # those who draw draw the same each time
            return self.model.outputs(weights, self.inputs)

    def without_gradient(self, weights: Weights) -> tuple[list[str], str | None]:
        """The tensors without a gradient, not even 0, and why there is none at all, if so."""
        leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
        with torch.enable_grad():
            outputs = self.outputs(leaves)
            self._check_written(weights, leaves)
            if not outputs.requires_grad:
                return list(leaves), NO_GRADIENT
            try:
                part = torch.cos(torch.arange(outputs.numel(), device=outputs.device) + 1.0)
                total = (outputs.reshape(-1) * part.to(outputs.dtype)).sum()
                found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).strip().partition("\n")[0]
                raise ValueError(
                    f"{type(self.model.net).__name__} has no gradient in its weights ({reason}); "
                    "turn activation checkpointing off, and write into no tensor that is needed"
                ) from error
        pairs = zip(leaves, found, strict=True)
        return [name for name, g in pairs if g is None], None

    def check_gradients(self, suspects: list[str], reason: str | None) -> None:
        """Raise ValueError where one of these changes an output and has no gradient there.

        Both at the same weights: others may send the examples through other layers, as experts.
        """
        found = set()
        for base in (self.given, *self.bases):
            without, _ = self.without_gradient(base)
            found |= {n for n in suspects if n in without and self._changes_at(base, n)}
        if found:
            names = [name for name in suspects if name in found]
            raise ValueError(_no_gradient(self.model.net, names, reason))

    def changes(self, name: str) -> bool:
        """Whether another tensor of this name, exchanged as a fit does, changes an output."""
        return any(self._changes_at(base, name) for base in (self.given, *self.bases))

    @torch.no_grad()
    def _changes_at(self, base: Weights, name: str) -> bool:
        other = _drawn(self.given[name], torch.Generator().manual_seed(1))
        return not _same(self.outputs(base), self.outputs({**base, name: other}))

    @torch.no_grad()
    def check_unused(self, name: str) -> None:
        """Raise ValueError unless neither writing into it nor into a copy of it changes anything.

        Where an output changes only after train() and eval(), a module prepared a copy there.
        """
        if self._changes_when_written(name, self.own[name]):
            raise ValueError(
                f"{name!r} is read in place alone, as through a list of weights or .data: a fit "
                "does not reach it; let forward read it from its module (self.weight)"
            )
        if self._changes_when_written(name, self.own[name], prepared=True):
            raise ValueError(
                f"the network does not read {name!r} but a copy that it made in train() or eval(); "
                "give a network that computes with its parameters, such as unmerged or unfused"
            )
        for where, tensor in captured(self.model.net):
            if tensor.shape == self.own[name].shape and torch.equal(
                tensor.detach().to(self.own[name]), self.own[name]
            ):
                raise ValueError(
                    f"the network does not read {name!r} but a tensor that a function in {where!r} "
                    "has from outside; let forward read it from its module (self.weight)"
                )
        owner = self.model.net.get_submodule(name.rpartition(".")[0])
        own = [held for _, held in named_held(owner)]
        for where, held in named_held(self.model.net):
            near = any(held is tensor for tensor in own) or held.numel() == self.own[name].numel()
            if near and held.is_floating_point() and self._changes_when_written(name, held):
                raise ValueError(
                    f"the network does not read {name!r} but a tensor that it keeps in {where!r}; "
                    "compute it from the parameter in forward"
                )
        if self._changes_when_filled(name):
            raise ValueError(
                f"the network does not read {name!r} but what it made of it when first used; "
                "compute it from the parameter in each forward"
            )

    @torch.no_grad()
    def check_all_registered(self) -> None:
        """Raise ValueError where outputs depend on parameters that the file would not have."""
        held, trained = unregistered(self.model.net), self._trained_elsewhere()
        used = [
            where
            for where, theirs in held.items()
            if any(id(p) in trained for p in theirs) or self._changes_when_all_written(theirs)
        ]
        if trained and not used:
            inside = [where for where, p in captured(self.model.net) if id(p) in trained]
            used = list(dict.fromkeys(inside)) or ["a place outside of it"]
        if used:
            raise ValueError(
                f"outputs of {type(self.model.net).__name__} depend on parameters in "
                f"{listed(used)} that no module registers, so the file would lack them; put "
                "layers into a ModuleList, parameters into a ParameterList"
            )

    @torch.enable_grad()
    def _trained_elsewhere(self) -> set[int]:
        """The ids of tensors that outputs have a gradient in, where the network's own have none."""
        nodes, seen, found = [self.outputs(self.given).grad_fn], set(), set()
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            nodes += [above for above, _ in node.next_functions]
            if hasattr(node, "variable"):  # where a gradient is accumulated
                found.add(id(node.variable))
        return found

    def _changes_when_all_written(self, tensors: list[Tensor]) -> bool:
        before = [self.outputs(base) for base in (*self.bases, {})]
        with _written(tensors, _drawn):
            after = [self.outputs(base) for base in (*self.bases, {})]
        return not all(map(_same, before, after))

    @torch.no_grad()
    def check_no_copied_part(self) -> None:
        """Raise ValueError where outputs depend on values that a module copied from a parameter."""
        net = self.model.net
        for where, tensor in (*net.named_buffers(), *named_held(net)):
            place = where.rpartition(".")[0]
            own = net.get_submodule(place).named_parameters(place, recurse=False)
            source = next((name for name, p in own if _is_part(tensor, p)), None)
            if source is not None and self._changes_when_all_written([tensor]):
                raise ValueError(
                    f"the network computes with {where!r}, a copy of {source!r} or of a part of "
                    "it; compute it from the parameter in forward"
                )

    def _changes_when_filled(self, name: str) -> bool:
        """Whether a new copy gives other outputs when it is filled before it is first used."""
        other = {name: _drawn(self.given[name], torch.Generator().manual_seed(1))}
        return any(
            not _same(self._filled_outputs(base), self._filled_outputs({**base, **other}))
            for base in self.bases
        )

    def _filled_outputs(self, weights: Weights) -> Tensor:
        net = copied(self.model.net).train()
        for name, parameter in net.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])
        net.eval()
        with forked_rng(0, self.inputs.device):
            return outputs_of(net, {}, self.inputs, self.model.likelihood)

    def _changes_when_written(self, name: str, tensor: Tensor, prepared: bool = False) -> bool:
        """Whether outputs change when a tensor is written into, others exchanged or as they are.

        With ``prepared`` it is written into in train mode, and eval() may make its copies anew.
        """
        modes = (self.model.net.train, self.model.net.eval) if prepared else (_nothing, _nothing)
        changed = False
        for base in (*self.bases, {}):
            others = {other: values for other, values in base.items() if other != name}
            before = self.outputs(others)
            modes[0]()
            with _written([tensor], _drawn):
                modes[1]()
                after = self.outputs(others)
                modes[0]()
            modes[1]()
            changed = changed or not _same(before, after)
        return changed


def _nothing() -> None:
    pass


@contextmanager
def _written(
    tensors: list[Tensor], to: Callable[[Tensor, torch.Generator], Tensor] | None
) -> Iterator[None]:
    """Other values in these tensors, or for None the same; afterwards they are as before."""
    generator = torch.Generator().manual_seed(1)
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        for tensor, values in zip(tensors, before, strict=True):
            if to is not None:
                tensor.detach().copy_(to(values, generator))
        yield
    finally:
        for tensor, values in zip(tensors, before, strict=True):
            tensor.detach().copy_(values)


def _few(model: Joint, inputs: Part, own: Weights) -> Part:
    """A few of the inputs; all of them, where the network takes no fewer."""
    try:
        with torch.no_grad():
            model.outputs({name: p.clone() for name, p in own.items()}, inputs[:EXAMPLES])
    except ValueError:
        return inputs
    return inputs[:EXAMPLES]


def _moved(values: Tensor, generator: torch.Generator) -> Tensor:
    spread = float(values.double().std(correction=0)) if values.numel() else 0.0
    noise = torch.randn(values.shape, generator=generator).to(values)
    return values + max(SIZE * spread, LEAST) * noise


def _drawn(values: Tensor, generator: torch.Generator) -> Tensor:
    """Other values, at which a signal neither vanishes nor explodes: He et al. 2015, around 0."""
    inputs = math.prod(values.shape[1:]) if values.dim() > 1 else 2
    noise = torch.randn(values.shape, generator=generator).to(values)
    return noise * math.sqrt(2 / max(inputs, 1))


def _is_part(tensor: Tensor, parameter: Tensor) -> bool:
    """Whether a tensor's values are all the parameter's, and too many for chance."""
    if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() > parameter.numel():
        return False
    values, own = tensor.detach().to(parameter), parameter.detach()
    return bool(torch.isin(values, own).all()) and is_telling(values) and is_telling(own)


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one, other) or torch.equal(one.nan_to_num(), other.nan_to_num())


def _no_gradient(net: nn.Module, names: list[str], reason: str | None) -> str:
    why = reason or "as behind no_grad, detach or activation checkpointing"
    return (
        f"{type(net).__name__}'s outputs depend on {listed(names)} without a gradient ({why}): a "
        "fit could only forget them; mend forward, or leave them out of the prior's rules"
    )
