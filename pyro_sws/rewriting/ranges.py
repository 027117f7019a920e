"""Ranges: between which values the units of a network can be, by interval arithmetic. Torch only.

A unit whose range is one value is a constant, whatever the inputs are: one without weights, or one
that a rectifier never lets through. Constants that the forward makes itself (a recurrence's first
state) are not followed: what they meet may be another thing on inputs of another length.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from pyro_sws.rewriting.trace import Trace, in_place
from pyro_sws.rewriting.traced_ops import ELEMENTWISE

Values = Callable[[str], Tensor]  # a stored tensor by name, as it is computed with

# Larger inputs never give smaller outputs.
RISING = frozenset(
    "relu relu6 leaky_relu elu celu selu sigmoid tanh softplus hardtanh hardsigmoid clamp "
    "clamp_min clamp_max softshrink tanhshrink softsign log_sigmoid".split()
)
SHAPES = frozenset("view _unsafe_view reshape unsqueeze squeeze permute transpose t expand".split())
SAME = frozenset("clone contiguous detach alias".split())
MEANS = frozenset(
    "adaptive_avg_pool1d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_avg_pool2d "
    "adaptive_max_pool2d adaptive_max_pool3d".split()
)
MAXIMA = frozenset("max_pool2d_with_indices max_pool3d_with_indices".split())
AVERAGES = frozenset("avg_pool1d avg_pool2d avg_pool3d".split())


# Nodes are ``Any`` where arguments are taken apart: fx says of them only what all can be.


class Range(NamedTuple):
    """The bounds of a tensor; they broadcast to its shape."""

    low: Tensor
    high: Tensor


@dataclass(frozen=True, eq=False)
class Read:
    """What a weight that is used once sums over, along an axis of it."""

    weight: str
    axis: int
    bias: str | None  # is added, and used once
    low: Tensor  # (size of the axis,)
    high: Tensor
    bordered: bool  # zeros may stand for what is read: a constant is none at the border

    @property
    def constants(self) -> Tensor:
        """What is read that is constant, NaN elsewhere."""
        return torch.where(self.low == self.high, self.low, math.nan)


def reads(traces: Sequence[Trace], values: Values, *, nonnegative: bool = False) -> list[Read]:
    """What weights read, in the order of computation; what holds in every trace alone.

    ``nonnegative``: no input is below 0.
    """
    found = [_Ranges(trace, values, nonnegative).reads for trace in traces]
    if not found:
        return []
    first, *others = found
    for other in others:
        first = {key: _hull(first[key], other[key]) for key in first if key in other}
    return list(first.values())


def _hull(one: Read, other: Read) -> Read:
    low, high = torch.minimum(one.low, other.low), torch.maximum(one.high, other.high)
    bias = one.bias if one.bias == other.bias else None
    return Read(one.weight, one.axis, bias, low, high, one.bordered or other.bordered)


class _Ranges:
    """One pass over a graph."""

    def __init__(self, trace: Trace, values: Values, nonnegative: bool):
        self.trace, self.values = trace, values
        self.low = 0.0 if nonnegative else -math.inf
        self.known: dict[fx.Node, Any] = {}
        self.live: set[fx.Node] = set()
        self.reads: dict[tuple[str, int], Read] = {}
        nodes = list(trace.graph.nodes)
        if any(in_place(node) for node in nodes):
            return
        for node in nodes:
            if node.op == "placeholder" and node not in trace.stored:
                self.live.add(node)
                self.known[node] = self._input(node)
            elif node.op == "call_function":
                if any(source in self.live for source in node.all_input_nodes):
                    self.live.add(node)
                try:
                    self.known[node] = self._result(node)
                except (RuntimeError, TypeError, ValueError, IndexError):
                    self.known[node] = None  # arguments that no rule here knows

    def _input(self, node: fx.Node) -> Range | None:
        value = node.meta.get("val")
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return None
        ones = torch.ones([1] * value.dim(), dtype=_computing(value.dtype))
        return Range(ones * self.low, ones * math.inf)

    def _result(self, node: Any) -> Any:
        if not hasattr(node.target, "overloadpacket"):
            whole = self.known.get(node.args[0])
            return whole if node.args[1] == 0 else None
        name = node.target.overloadpacket.__name__
        if name in ("mm", "addmm", "linear"):
            return self._linear(node, name)
        if name == "convolution":
            return self._convolution(node)
        if "batch_norm" in name:
            return self._batch_norm(node, name)
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        known = self.known.get(source) if source is not None else None
        if known is None:
            return None
        others = [n for n in node.all_input_nodes if n is not source]
        if others:
            other = self.known.get(others[0]) if len(others) == 1 else None
            return None if other is None else _together(name, node, known, other)
        return _alone(name, node, known)

    def _linear(self, node: Any, name: str) -> Range | None:
        """(n, k) times a weight (m, k), plus a bias."""
        bias, inputs, weight = node.args if name == "addmm" else (None, *node.args[:2])
        if name == "linear":
            bias = node.args[2] if len(node.args) > 2 else None
        stored = self._weight(weight)
        if stored is None or node.kwargs:
            return None
        wanted, across = stored
        if name == "linear":
            across = not across
        columns = 1 if across else 0
        low, high = self._vector(inputs, 1 if inputs.meta["val"].dim() < 3 else -1)
        self._read(wanted, columns, node, weight, bias, (inputs, low, high), bordered=False)
        matrix = self.values(wanted)
        added = self._added(bias, matrix)
        if added is None:
            return None
        return _sums(matrix if columns else matrix.T, low, high, added, dims=node.meta["val"].dim())

    def _convolution(self, node: Any) -> Range | None:
        images, weight, bias, _, padding, _, transposed, _, groups = node.args
        stored = self._weight(weight)
        if stored is None or transposed:
            return None
        low, high = self._vector(images, 1)
        padded = any(padding)
        if groups == 1:
            self._read(stored[0], 1, node, weight, bias, (images, low, high), bordered=padded)
        if padded:
            low, high = low.clamp(max=0), high.clamp(min=0)
        kernels = self.values(stored[0])
        added = self._added(bias, kernels)
        if added is None:
            return None
        wide = kernels.reshape(groups, -1, *kernels.shape[1:2], math.prod(kernels.shape[2:]))
        bounds = [
            _bounds(wide[g].clamp(min=0).sum(-1), wide[g].clamp(max=0).sum(-1), a, b)
            for g, (a, b) in enumerate(zip(low.chunk(groups), high.chunk(groups), strict=True))
        ]
        shape = [1, -1] + [1] * (kernels.dim() - 2)
        lows, highs = (torch.cat(each) + added for each in zip(*bounds, strict=True))
        return Range(lows.reshape(shape), highs.reshape(shape))

    def _batch_norm(self, node: Any, name: str) -> Range | None:
        source, weight, bias, mean, var = node.args[:5]
        training = name != "_native_batch_norm_legit_no_training" and node.args[5]
        known, stored = self.known.get(source), (mean, var)
        if known is None or training or not all(n in self.trace.stored for n in stored):
            return None
        center, spread = (self.values(self.trace.stored[n]) for n in stored)
        factor = (spread + node.args[-1]).rsqrt()
        if weight is not None and weight not in self.trace.stored:
            return None
        if weight is not None:
            factor = factor * self.values(self.trace.stored[weight])
        added = self._added(bias, center)
        if added is None:
            return None
        shape = [1, -1] + [1] * (known.low.dim() - 2)
        factor, shift = factor.reshape(shape), (added - center * factor).reshape(shape)
        ends = [torch.where(factor == 0, shift, end * factor + shift) for end in known]
        return Range(torch.minimum(*ends), torch.maximum(*ends))

    def _added(self, bias: Any, like: Tensor) -> Tensor | None:
        """The bias, 0 without one, None where it is none of the stored tensors."""
        if bias is None:
            return like.new_zeros(())
        return self.values(self.trace.stored[bias]) if bias in self.trace.stored else None

    def _vector(self, node: Any, axis: int) -> tuple[Tensor, Tensor]:
        """The bounds (n,) along an axis, wherever on the others."""
        value = node.meta["val"]
        size = value.shape[axis]
        known = self.known.get(node) if node in self.live else None
        if known is None:
            wide = torch.full((size,), math.inf, dtype=_computing(value.dtype))
            return -wide, wide
        axis %= value.dim()
        rest = [k for k in range(value.dim()) if k != axis]
        low, high = (known.low.amin(rest), known.high.amax(rest)) if rest else known
        return low.reshape(-1).expand(size), high.reshape(-1).expand(size)

    def _weight(self, node: Any) -> tuple[str, bool] | None:
        """The stored tensor that a node is, and whether it is the transposed of that."""
        if node in self.trace.stored:
            return self.trace.stored[node], False
        if _is_transposed(node) and node.args[0] in self.trace.stored:
            return self.trace.stored[node.args[0]], True
        return None

    def _read(
        self, name: str, axis: int, node: fx.Node, weight: fx.Node, bias: Any, seen, *, bordered
    ) -> None:
        """Note it, if the weight is used by this node alone and what it reads is no constant."""
        inputs, low, high = seen
        if inputs in self.live and _users(self._placeholder(weight)) == [node]:
            own = bias in self.trace.stored and _users(bias) == [node]
            added = self.trace.stored[bias] if own else None
            self.reads[name, axis] = Read(name, axis, added, low, high, bordered)

    def _placeholder(self, node: fx.Node) -> fx.Node:
        return node if node in self.trace.stored else node.all_input_nodes[0]


def _users(node: fx.Node) -> list[fx.Node]:
    """What computes with a stored tensor, or with the transposed of it."""
    found: list[fx.Node] = []
    for user in node.users:
        found += list(user.users) if _is_transposed(user) else [user]
    return found


def _is_transposed(node: Any) -> bool:
    packet = getattr(getattr(node, "target", None), "overloadpacket", None)
    return packet is torch.ops.aten.t


def _computing(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _sums(matrix: Tensor, low: Tensor, high: Tensor, added: Tensor, dims: int) -> Range:
    """The bounds of ``matrix`` (m, k) times what is between (k,) and (k,), plus ``added``."""
    bounds = _bounds(matrix.clamp(min=0), matrix.clamp(max=0), low, high)
    least, most = (each + added for each in bounds)
    shape = [1] * (dims - 1) + [-1]
    return Range(least.reshape(shape), most.reshape(shape))


def _bounds(up: Tensor, down: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Of sums with weights ``up`` >= 0 and ``down`` <= 0 (m, k); nothing times infinity is 0."""
    low, high = low.to(up.dtype), high.to(up.dtype)

    def bound(first: Tensor, second: Tensor, infinity: float) -> Tensor:
        finite = up @ first.where(first.isfinite(), 0) + down @ second.where(second.isfinite(), 0)
        open_up = (up != 0).to(up.dtype) @ first.isinf().to(up.dtype)
        open_down = (down != 0).to(up.dtype) @ second.isinf().to(up.dtype)
        return torch.where(open_up + open_down > 0, infinity, finite)

    return bound(low, high, -math.inf), bound(high, low, math.inf)


def _alone(name: str, node: Any, known: Range) -> Range | None:
    """What one tensor becomes."""
    rest, more = node.args[1:], dict(node.kwargs)
    if name in SAME:
        return known
    if name in SHAPES:
        return _reshaped(node, known)
    if name in MEANS or name == "mean":
        return _reduced(node, known)
    if name in MAXIMA:
        dilated = len(rest) > 3 and any(n != 1 for n in rest[3]) and any(rest[2])
        pooled = _reduced(node, known)
        if pooled is None or not dilated:
            return pooled
        return Range(pooled.low - math.inf, pooled.high)  # a window may lie in the padding alone
    if name in AVERAGES:
        return _averaged(node, known)
    if name in ("add", "sub", "mul", "div", "rsub") and not more and len(rest) == 1:
        ends = [node.target(end, rest[0]) for end in known]
        ends = [end.masked_fill(end.isnan(), 0) for end in ends]  # 0 times infinity
        return Range(torch.minimum(*ends), torch.maximum(*ends))
    if name not in ELEMENTWISE:
        return None
    ends = [node.target(end, *rest, **more) for end in known]
    if any(not isinstance(end, Tensor) or not end.is_floating_point() for end in ends):
        return None
    slope = rest[0] if name == "leaky_relu" and rest else 0
    numbers = all(isinstance(n, int | float | None) for n in rest)
    if name in RISING and numbers and slope >= 0 and not any(end.isnan().any() for end in ends):
        return Range(*ends)
    constant = (known.low == known.high) & ends[0].isfinite()
    return Range(ends[0].where(constant, -math.inf), ends[0].where(constant, math.inf))


def _together(name: str, node: Any, one: Range, other: Range) -> Range | None:
    """What two tensors become: sums and products."""
    if name not in ("add", "sub", "mul") or node.kwargs or len(node.args) != 2:
        return None
    if node.args[1] not in node.all_input_nodes:
        return None
    ends = torch.stack(torch.broadcast_tensors(*(node.target(a, b) for a in one for b in other)))
    unsure = ends.isnan().any(0)
    return Range(ends.amin(0).where(~unsure, -math.inf), ends.amax(0).where(~unsure, math.inf))


def _reshaped(node: Any, known: Range) -> Range:
    """The bounds of each element, and of those the hull over the first axis."""
    shape = node.args[0].meta["val"].shape
    ends = [
        node.target(end.expand(shape).contiguous(), *node.args[1:], **node.kwargs) for end in known
    ]
    if not ends[0].dim() or not ends[0].numel():
        return Range(*ends)
    return Range(ends[0].amin(0, keepdim=True), ends[1].amax(0, keepdim=True))


def _reduced(node: Any, known: Range) -> Range | None:
    """The hull over what a pool or mean is taken over, or over all places of an image."""
    values = node.meta["val"]
    value = values[0] if isinstance(values, tuple | list) else values
    dims = node.args[1] if node.target.overloadpacket is torch.ops.aten.mean else None
    if node.target.overloadpacket is torch.ops.aten.mean and not isinstance(dims, tuple | list):
        return None
    dims = list(range(2, known.low.dim())) if dims is None else list(dims)
    keep = value.dim() == known.low.dim()
    if not dims:
        return known
    return Range(known.low.amin(dims, keepdim=keep), known.high.amax(dims, keepdim=keep))


def _averaged(node: Any, known: Range) -> Range | None:
    """Zeros that pad count as values, unless told otherwise."""
    settings: Mapping[str, Any] = dict(zip(_AVERAGE, node.args[1:], strict=False)) | node.kwargs
    pooled = _reduced(node, known)
    if pooled is None:
        return None
    if settings.get("divisor_override") is not None:
        zero = (pooled.low == 0) & (pooled.high == 0)
        return Range(pooled.low.where(zero, -math.inf), pooled.high.where(zero, math.inf))
    padding = settings.get("padding", 0)
    padded = any(padding) if isinstance(padding, tuple | list) else padding
    if padded and settings.get("count_include_pad", True):
        return Range(pooled.low.clamp(max=0), pooled.high.clamp(min=0))
    return pooled


_AVERAGE = (
    "kernel_size",
    "stride",
    "padding",
    "ceil_mode",
    "count_include_pad",
    "divisor_override",
)
