"""How far a network's outputs can move when its weights do: intervals and norms, layer by layer.

Two networks of one form, on inputs that are given to within a radius. ``Interval`` follows the
difference of their activations as Paulsen et al. 2020 do (ReluDiff): exact for a linear layer, and
for any network where the radius is 0. The norm is the sum over layers of what each layer's own
change moves, times the Lipschitz constants of those behind it (Neyshabur et al. 2018, lemma 2): it
needs the first network's activations alone, before the second was ever run. Torch.
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_sws.weights.network import copied, plain

CONVOLUTIONS: dict[type[nn.Module], Callable] = {
    nn.Conv1d: F.conv1d,
    nn.Conv2d: F.conv2d,
    nn.Conv3d: F.conv3d,
}
RECTIFIED = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.ELU)
SAME = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity)
SHAPED = (nn.Flatten, nn.Unflatten)
AVERAGED = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
LARGEST = (nn.MaxPool1d, nn.MaxPool2d)
MONOTONE_CALLS = (torch.relu, F.relu, torch.tanh, torch.sigmoid)
SHAPE_CALLS = (torch.flatten, torch.reshape, torch.squeeze)
METHODS = {"flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous"}


@dataclass(frozen=True)
class ChangeBound:
    """By how much outputs differ at most, for each of n inputs and every input near it.

    Logits (n, K) in their unit. ``change`` is what was computed at the inputs themselves, for
    comparison; it lies in the interval.
    """

    low: Tensor
    high: Tensor
    norm: Tensor  # (n,): the change's Euclidean length is at most this, at the inputs themselves
    change: Tensor
    outputs: Tensor  # of the first network at the inputs

    @property
    def unchanged(self) -> Tensor:
        """Of which inputs the largest logit provably stays the largest, by the interval; (n,)."""
        best = self.outputs.argmax(1, keepdim=True)
        worst = (self.outputs + self.high).scatter(1, best, -math.inf).amax(1)
        return (self.outputs + self.low).gather(1, best)[:, 0] > worst

    @property
    def unchanged_by_norm(self) -> Tensor:
        """The same by the norm: two logits move towards each other by at most sqrt(2) of it."""
        top = self.outputs.topk(2, 1).values
        return top[:, 0] - top[:, 1] > math.sqrt(2) * self.norm


@dataclass(frozen=True)
class Interval:
    """An activation (n, ...) of the first network, and the other's less this one's."""

    value: Tensor  # at the inputs themselves
    low: Tensor
    high: Tensor
    less: Tensor  # the difference is at least this
    more: Tensor
    norm: Tensor  # (n,), of the difference at the inputs themselves


@torch.no_grad()
def change_bound(
    net: nn.Module, other: nn.Module, inputs: Tensor, radius: float = 0.0
) -> ChangeBound:
    """Bound the change of outputs (n, K) from ``net`` to ``other``, of the same form, in eval mode.

    Args:
        net: of linear layers, convolutions, batch norms, monotone activations, pooling, sums and
            reshaping.
        other: the same with other weights, such as the decoded network.
        inputs: (n, ...).
        radius: by which each number of an input may differ.

    Everything is computed in float64. Raises ValueError for an operation that is not understood,
    with its name, and for outputs that are not (n, K).
    """
    if not radius >= 0:
        raise ValueError(f"radius must be at least 0, got {radius}")
    # In a container: a tracer does not look into a layer of torch's own.
    one, two = (nn.Sequential(copied(plain(n))).cpu().double().eval() for n in (net, other))
    inputs = inputs.detach().cpu().double()
    try:
        graph = fx.symbolic_trace(one)
    except Exception as error:  # whatever a network's code raises under a tracer
        raise ValueError(f"{type(net).__name__} cannot be traced: {error}") from error
    zero = torch.zeros_like(inputs)
    start = Interval(
        inputs, inputs - radius, inputs + radius, zero, zero, inputs.new_zeros(len(inputs))
    )
    try:
        found = _Differences(graph, one, two).run(start)
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{type(net).__name__}: {str(error).splitlines()[0]}") from None
    if not isinstance(found, Interval) or found.value.ndim != 2:
        raise ValueError(f"{type(net).__name__} must return one tensor (n, K)")
    return ChangeBound(found.less, found.more, found.norm, two(inputs) - found.value, found.value)


class _Differences(fx.Interpreter):
    """Runs the first network's graph on intervals; layers' weights are of both."""

    def __init__(self, graph: fx.GraphModule, one: nn.Module, two: nn.Module):
        super().__init__(graph)
        self.one, self.two = one, two

    def call_module(self, target: Any, args: Any, kwargs: Any) -> Any:
        first, second = (each.get_submodule(target) for each in (self.one, self.two))
        target = target.removeprefix("0").removeprefix(".") or type(first).__name__
        given = args[0]
        if not isinstance(given, Interval) or len(args) > 1 or kwargs:
            raise ValueError(f"module {target!r} takes more than one activation")
        if isinstance(first, nn.Linear):
            return _affine(given, F.linear, first, second, {})
        for kind, function in CONVOLUTIONS.items():
            if type(first) is kind and first.padding_mode == "zeros":
                keys = ("stride", "padding", "dilation", "groups")
                more = {key: getattr(first, key) for key in keys}
                return _affine(given, function, first, second, more)
        if isinstance(first, _BatchNorm) and first.running_var is not None:
            return _normalised(given, first, second)
        if isinstance(first, SAME):
            return given
        if isinstance(first, RECTIFIED) and _steepness(first) <= 1:
            return _monotone(given, first)
        if isinstance(first, SHAPED):
            return _mapped(given, first)
        if isinstance(first, AVERAGED):
            return _averaged(given, first)
        if isinstance(first, LARGEST):
            return _largest(given, first, _overlap(first.kernel_size, first.stride))
        raise ValueError(f"module {target!r}, a {type(first).__name__}, is not understood")

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if target in MONOTONE_CALLS:
            return _monotone(args[0], target)
        if target in SHAPE_CALLS:
            return _mapped(args[0], lambda x: target(x, *args[1:], **kwargs))
        if target in (operator.add, torch.add, operator.iadd) and len(args) == 2:
            return _sum(*args)
        if target is F.max_pool2d:
            stride = kwargs.get("stride") or (args[2] if len(args) > 2 else None)
            size = kwargs.get("kernel_size") or args[1]
            call = _call(F.max_pool2d, args[1:], kwargs)
            return _largest(args[0], call, _overlap(size, stride or size))
        if target in (F.avg_pool2d, F.adaptive_avg_pool2d):
            return _averaged(args[0], _call(target, args[1:], kwargs))
        if target is F.dropout and not kwargs.get("training", True):
            return args[0]
        if not any(isinstance(each, Interval) for each in args):
            return super().call_function(target, args, kwargs)
        raise ValueError(f"function {getattr(target, '__name__', target)} is not understood")

    def call_method(self, target: Any, args: Any, kwargs: Any) -> Any:
        given, rest = args[0], args[1:]
        if target in ("size", "dim") and isinstance(given, Interval):
            return getattr(given.value, target)(*rest)
        if target in ("relu", "tanh", "sigmoid"):
            return _monotone(given, getattr(torch, target))
        if target in METHODS and isinstance(given, Interval):
            return _mapped(given, lambda x: getattr(x, target)(*rest, **kwargs))
        raise ValueError(f"method {target!r} is not understood")


def _call(function: Callable, rest: Any, more: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: function(x, *rest, **more)


def _affine(
    given: Interval, function: Callable, first: Any, second: Any, more: dict[str, Any]
) -> Interval:
    """y = W x + b in both: y' - y = W' (x' - x) + (W' - W) x + b' - b."""
    step = second.weight - first.weight
    bias = 0 * first.weight.flatten(1)[:, 0] if first.bias is None else second.bias - first.bias

    def bounds(weight: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        up, down = weight.clamp(min=0), weight.clamp(max=0)
        least = function(low, up, **more) + function(high, down, **more)
        return least, function(high, up, **more) + function(low, down, **more)

    value = function(given.value, first.weight, first.bias, **more)
    low, high = bounds(first.weight, given.low, given.high)
    own = function(given.value, step, bias, **more)  # what this layer's change moves by itself
    if torch.equal(given.low, given.high):
        less = more_of = own
    else:
        less, more_of = bounds(step, given.low, given.high)
        shift = bias.reshape(-1, *[1] * (less.ndim - 2)) if less.ndim > 2 else bias
        less, more_of = less + shift, more_of + shift
    passed = bounds(second.weight, given.less, given.more)
    b = 0 if first.bias is None else first.bias
    if first.bias is not None and value.ndim > 2 and function is not F.linear:
        b = first.bias.reshape(-1, *[1] * (value.ndim - 2))
    norm = _lipschitz(function, second.weight) * given.norm + own.flatten(1).norm(dim=1)
    return Interval(value, low + b, high + b, less + passed[0], more_of + passed[1], norm)


def _lipschitz(function: Callable, weight: Tensor) -> float:
    """Of a matrix its spectral norm; of a kernel Schur's bound on that of its matrix."""
    if function is F.linear:
        return float(torch.linalg.matrix_norm(weight, 2))
    sums = weight.abs().flatten(2).sum(2)
    return float((sums.sum(1).max() * sums.sum(0).max()).sqrt())


def _normalised(given: Interval, first: Any, second: Any) -> Interval:
    """A batch norm in eval mode: a scale and a shift a channel."""
    (scale, shift), (scale2, shift2) = (_scale_and_shift(m, given.value) for m in (first, second))
    step, moved = scale2 - scale, shift2 - shift
    ends = scale * given.low + shift, scale * given.high + shift
    own = step * given.low + moved, step * given.high + moved
    passed = scale2 * given.less, scale2 * given.more
    change = (step * given.value + moved).flatten(1).norm(dim=1)
    return Interval(
        scale * given.value + shift,
        torch.minimum(*ends),
        torch.maximum(*ends),
        torch.minimum(*own) + torch.minimum(*passed),
        torch.maximum(*own) + torch.maximum(*passed),
        float(scale2.abs().max()) * given.norm + change,
    )


def _scale_and_shift(norm: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
    shift = -norm.running_mean * scale + (0 if norm.bias is None else norm.bias)
    shape = (-1, *[1] * (like.ndim - 2))
    return scale.reshape(shape), shift.reshape(shape)


def _monotone(given: Interval, function: Callable[[Tensor], Tensor]) -> Interval:
    """Nowhere steeper than 1: a difference keeps its sign, and does not grow.

    At a point of the input it is f(x + d) - f(x); over an interval it is at most that between the
    interval's ends, too.
    """
    value, low, high = function(given.value), function(given.low), function(given.high)
    more = function(given.high + given.more) - low
    less = function(given.low + given.less) - high
    return Interval(
        value,
        low,
        high,
        torch.maximum(less, given.less.clamp(max=0)),
        torch.minimum(more, given.more.clamp(min=0)),
        given.norm,
    )


def _largest(given: Interval, pool: Callable[[Tensor], Tensor], overlap: float) -> Interval:
    """The largest moves by no more than the one that moves most."""
    low, high = pool(given.low), pool(given.high)
    return Interval(
        pool(given.value),
        low,
        high,
        torch.maximum(-pool(-given.less), pool(given.low + given.less) - high),
        torch.minimum(pool(given.more), pool(given.high + given.more) - low),
        overlap * given.norm,
    )


def _steepness(module: nn.Module) -> float:
    """The largest slope that a monotone activation's own settings give it; inf where it falls."""
    slope = getattr(module, "negative_slope", getattr(module, "alpha", 1.0))
    return math.inf if slope < 0 else slope


def _overlap(size: Any, stride: Any) -> float:
    """The root of how many windows an activation is in."""
    sizes, strides = (each if isinstance(each, tuple) else (each, each) for each in (size, stride))
    return math.sqrt(math.prod(-(-k // s) for k, s in zip(sizes, strides, strict=True)))


def _averaged(given: Interval, pool: Callable[[Tensor], Tensor]) -> Interval:
    """Linear, with weights that are not negative, and at most 1 in sum for each output."""
    found = _mapped(given, pool)
    ones = torch.ones_like(given.value[:1])
    with torch.enable_grad():
        ones.requires_grad_()
        (sums,) = torch.autograd.grad(pool(ones).sum(), ones)  # of the weights of each input
    return replace(found, norm=float(sums.max().sqrt()) * given.norm)


def _mapped(given: Interval, function: Callable[[Tensor], Tensor]) -> Interval:
    low, high, less, more = map(function, (given.low, given.high, given.less, given.more))
    return Interval(function(given.value), low, high, less, more, given.norm)


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Interval) and isinstance(other, Interval):
        return Interval(*map(operator.add, _fields(one), _fields(other)))
    if isinstance(one, Interval) and isinstance(other, int | float):
        return replace(one, value=one.value + other, low=one.low + other, high=one.high + other)
    raise ValueError("a sum of an activation and a tensor is not understood")


def _fields(given: Interval) -> tuple[Tensor, ...]:
    return given.value, given.low, given.high, given.less, given.more, given.norm
