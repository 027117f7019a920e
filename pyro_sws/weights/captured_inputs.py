"""The second moments of what a network's weights multiply, summed up while it runs. Torch only.

Seen below autograd, op by op, where each module and function has become a few products: a weight
is known by the memory of the operand, so that views of it, parts of it and tied ones are found.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_sws.weights.curvature import Layout
from pyro_sws.weights.products import USES, Use

MOST_MOMENTS = 2**26  # of one tensor, 256 MiB in float32: of more the diagonal alone is kept

Key = tuple[int, int, Layout]  # offset, size and layout of the part of a tensor that was used


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the positions and examples that were seen."""

    layout: Layout
    seconds: Tensor  # (G, C, C), or (G, C): the diagonal alone
    firsts: Tensor  # (G, C)
    positions: Tensor  # (G, 1), at which weights were used
    bias: str | None = None  # the tensor that is added to the products


class CapturedInputs(TorchDispatchMode):
    """While it is entered, sums up the moments of what ``tensors`` multiply, by their names.

    The tensors must be contiguous, each in memory of its own, and be what the network computes
    with. Seen are products of matrices, convolutions, lookups of embeddings and oneDNN's recurrent
    layers; of what is used otherwise, or after it was made into something else, as under weight
    norm, there is nothing.
    """

    supports_higher_order_operators = True

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        self._tensors = dict(tensors)
        self._names = {
            t.untyped_storage().data_ptr(): name for name, t in tensors.items() if t.numel()
        }
        self._sums: dict[str, dict[Key, Moments]] = {}
        # The last product without a bias, which may be added next, and whose it was.
        self._last: tuple[Tensor, str, Key] | None = None

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        name = getattr(getattr(func, "overloadpacket", None), "__name__", "")
        if name in USES and all(map(_plain, args)):
            with torch.no_grad():
                for use in USES[name](args, kwargs or {}, outputs):
                    self._add(use, outputs)
        elif name in ("add", "add_") and len(args) > 1 and not kwargs:
            self._add_bias(*args[:2])
        elif name.endswith("_") and args and self._is_last(args[0]):
            self._last = None  # as by a ReLU in place: what is added next is added to that
        return outputs

    def moments(self) -> dict[str, Moments]:
        """What was seen, by tensor; without those that are used in ways that do not add up."""
        found = {name: self._united(name, uses) for name, uses in self._sums.items()}
        return {name: each for name, each in found.items() if each is not None}

    def _name(self, tensor: Any) -> str | None:
        if not isinstance(tensor, Tensor) or tensor.layout != torch.strided:
            return None
        name = self._names.get(tensor.untyped_storage().data_ptr())
        return name if name is None or tensor.dtype == self._tensors[name].dtype else None

    def _add(self, use: Use, outputs: Any) -> None:
        name = self._name(use.weight)
        layout = None if name is None else _layout_of(use)
        if name is None or layout is None or self._name(use.other) is not None:
            return  # of two weights neither is the other's input: what follows is neither
        uses, bias = self._sums.setdefault(name, {}), self._name(use.bias)
        key = (int(use.weight.storage_offset()), use.weight.numel(), layout)
        for part in use.inputs():
            inputs = part.detach().to(torch.promote_types(part.dtype, torch.float32))
            if key not in uses:
                uses[key] = _empty(layout, inputs, use.one_hot, bias)
            _add_to(uses[key], inputs, use.one_hot)
        if bias is None and isinstance(outputs, Tensor):
            self._last = outputs, name, key

    def _add_bias(self, products: Any, bias: Any) -> None:
        """Of a sum, whose first part may be a view of the last product."""
        name = self._name(bias)
        if self._last is None or name is None or not self._is_last(products):
            return
        _, weight, key = self._last
        sums, self._last = self._sums[weight], None
        if bias.dim() == 1 and len(bias) * sums[key].firsts.shape[-1] == key[1]:
            sums[key] = replace(sums[key], bias=name)

    def _is_last(self, tensor: Any) -> bool:
        """Whether it has the memory of the last product."""
        if self._last is None or not isinstance(tensor, Tensor) or not _plain(tensor):
            return False
        last = self._last[0].untyped_storage().data_ptr()
        return tensor.untyped_storage().data_ptr() == last

    def _united(self, name: str, uses: Mapping[Key, Moments]) -> Moments | None:
        size = self._tensors[name].numel()
        if all(part == size for _, part, _ in uses):
            return _summed(list(uses.values()))
        return _tiled(size, _cut(uses))


def _plain(argument: Any) -> bool:
    """Whether it is no tensor, or one with strides."""
    if not isinstance(argument, Tensor):
        return True
    return argument.layout == torch.strided and not argument.is_nested


def _empty(layout: Layout, inputs: Tensor, one_hot: bool, bias: str | None) -> Moments:
    groups, columns = (1 if one_hot else len(inputs)), inputs.shape[-1]
    dense = not one_hot and groups * columns * columns <= MOST_MOMENTS
    shape = (groups, columns, columns) if dense else (groups, columns)
    zeros = inputs.new_zeros(groups, columns)
    return Moments(layout, inputs.new_zeros(shape), zeros, zeros.new_zeros(groups, 1), bias)


def _add_to(sums: Moments, inputs: Tensor, one_hot: bool) -> None:
    """In place: the moments are the largest thing there is."""
    firsts = inputs if one_hot else inputs.sum(1)
    positions = inputs.sum() if one_hot else inputs.shape[1]
    if sums.seconds.dim() == 3:
        sums.seconds.baddbmm_(inputs.transpose(1, 2), inputs)
    else:
        sums.seconds.add_(firsts if one_hot else inputs.square().sum(1))
    sums.firsts.add_(firsts)
    sums.positions.add_(positions)


def _layout_of(use: Use) -> Layout | None:
    """How the operand's memory, row by row, is groups, rows and columns; None where it has gaps."""
    sizes, strides = list(use.weight.shape), list(use.weight.stride())
    wanted = [(dim, 0) for dim in use.groups]
    wanted += [(dim, 1) for dim in use.rows] + [(dim, 2) for dim in use.columns]
    by_stride = sorted(
        range(len(sizes)), key=lambda dim: -(strides[dim] if sizes[dim] > 1 else math.inf)
    )
    step = 1
    for dim in reversed(by_stride):
        if sizes[dim] > 1 and strides[dim] != step:
            return None
        step *= sizes[dim]
    if use.split > 1:
        shape = tuple(sizes)
        transposed = 0 in use.columns
        return (Layout.transposed if transposed else Layout.grouped)(shape, use.split)
    kept = [dim for dim in by_stride if sizes[dim] > 1 or dim in use.rows]
    order = [(kept.index(dim), role) for dim, role in wanted if dim in kept]
    roles = [role for _, role in order]
    return Layout(
        tuple(sizes[dim] for dim in kept),
        tuple(at for at, _ in order),
        roles.count(0),
        roles.count(1),
    )


def _summed(uses: Sequence[Moments]) -> Moments:
    """Of uses of a whole tensor: where it is laid out otherwise, as an embedding that is the last
    layer too, the mean of the one's diagonal is added to that of the other.
    """
    first = max(uses, key=lambda each: each.seconds.dim())
    for other in uses:
        if other is first:
            continue
        means = other.seconds.diagonal(dim1=-2, dim2=-1) if other.seconds.dim() == 3 else None
        mean = (other.seconds if means is None else means).mean()
        dense = first.seconds.dim() == 3
        (first.seconds.diagonal(dim1=-2, dim2=-1) if dense else first.seconds).add_(mean)
    return first


Parts = list[tuple[int, int, Moments]]  # offset and size of each in its tensor


def _cut(uses: Mapping[Key, Moments]) -> Parts:
    """Parts of rows with the same columns, cut to pieces of as many rows; others as they are."""
    parts = [(offset, size, moments) for (offset, size, _), moments in uses.items()]
    columns = {moments.firsts.shape[-1] for *_, moments in parts}
    plain = all(m.layout.order == (0, 1) and m.layout.rows == 1 for *_, m in parts)
    (width,) = columns if len(columns) == 1 else (0,)
    if not plain or not width or any(offset % width for offset, *_ in parts):
        return parts
    piece = math.gcd(*(edge for offset, size, _ in parts for edge in (offset, offset + size)))
    layout = Layout((piece // width, width), (0, 1))
    return [
        (at, piece, replace(moments, layout=layout))
        for offset, size, moments in parts
        for at in range(offset, offset + size, piece)
    ]


def _tiled(size: int, parts: Parts) -> Moments | None:
    """Of parts of one size and layout, the whole tensor's, each part being a group."""
    offset, piece, first = parts[0]
    same = all(s == piece and m.layout == first.layout and o % piece == 0 for o, s, m in parts)
    if not same or size % piece or first.layout.groups or len(first.firsts) != 1:
        return None
    tiles, columns = size // piece, first.firsts.shape[-1]
    dense = first.seconds.dim() == 3 and tiles * columns * columns <= MOST_MOMENTS
    shape = (tiles, columns, columns) if dense else (tiles, columns)
    seconds, firsts = first.seconds.new_zeros(shape), first.firsts.new_zeros(tiles, columns)
    positions = firsts.new_zeros(tiles, 1)
    for offset, _, part in parts:
        at, own = offset // piece, part.seconds[0]
        seconds[at] += own if dense or own.dim() == 1 else own.diagonal()
        firsts[at] += part.firsts[0]
        positions[at] += part.positions[0]
    layout = Layout(
        (tiles, *first.layout.split),
        (0, *(dim + 1 for dim in first.layout.order)),
        groups=1,
        rows=first.layout.rows,
    )
    (bias,) = names if len(names := {part.bias for *_, part in parts}) == 1 else (None,)
    return Moments(layout, seconds, firsts, positions, bias)
