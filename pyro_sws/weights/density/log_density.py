"""The log-density of weights under a mixture, summed or one by one, with closed-form gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from pyro_sws.weights.density import compiled as compiled_density
from pyro_sws.weights.density.blocks import (
    HALF_LOG_2PI,
    LOG_2,
    Components,
    Requested,
    log_joint_blocks,
)
from pyro_sws.weights.density.blockwise import blockwise

__all__ = [
    "HALF_LOG_2PI",
    "BACKENDS",
    "Backend",
    "select_backend",
    "log_densities",
    "log_density",
    "log_joint_blocks",
    "density_backend",
]

BACKENDS = ("auto", "portable", "compiled")

# Fewer weights than this never repay a compilation (CPU).
FEWEST_TO_COMPILE = 100_000

PLAIN = (Tensor, torch.nn.Parameter, type(None))
DTYPES = (torch.float32, torch.float64)

_backend: ContextVar[str] = ContextVar("backend", default="auto")


def log_density(
    w: Tensor,
    means: Tensor,
    precisions: Tensor,
    log_proportions: Tensor,
    offsets: Tensor | None = None,
) -> Tensor:
    """sum_i log sum_j exp(log_proportions[j]) N(w[i]; means[j], 1 / precisions[j]), in nats.

    w (N,), the rest (J,) -> scalar; float32 or float64. ``offsets`` (N,), where given, multiply
    the first component's proportion by exp(offsets[i]), weight by weight. Works through blocks of
    the weights, so that memory beyond inputs and gradients does not grow with N - except for second
    derivatives and under torch.func, which go through the plain formula and hold (N, J).
    Ullrich et al. 2017, eq. 5 and the logarithm of it.
    """
    return _apply((w, means, precisions, log_proportions, offsets), summed=True)


def log_densities(
    w: Tensor,
    means: Tensor,
    precisions: Tensor,
    log_proportions: Tensor,
    offsets: Tensor | None = None,
) -> Tensor:
    """log sum_j exp(log_proportions[j]) N(w[i]; means[j], 1 / precisions[j]), in nats, for every i.

    w (N,), the rest (J,) -> (N,). As log_density; a backward pass whose upstream gradients differ
    from weight to weight goes through the blocks once more.
    """
    return _apply((w, means, precisions, log_proportions, offsets), summed=False)


@contextmanager
def density_backend(backend: str) -> Iterator[None]:
    """Force how the densities inside are computed: one of BACKENDS.

    "portable": blocks, in plain torch; "compiled": torch.compile, and portable where that fails;
    "auto": what is forced around it, else compiled where that can pay. What needs no gradient, and
    gradients that weigh each weight on its own, are always portable.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; choose from {', '.join(BACKENDS)}")
    token = _backend.set(_backend.get() if backend == "auto" else backend)
    try:
        yield
    finally:
        _backend.reset(token)


@dataclass(frozen=True)
class Backend:
    """How a density is computed, and why not compiled where it is not."""

    name: str  # portable or compiled
    reason: str | None = None


def select_backend(
    size: int, components: int, dtype: torch.dtype, device: torch.device | str
) -> Backend:
    """How the density of ``size`` weights and its gradients would be computed here and now.

    May compile, to know whether that works.
    """
    device, backend = torch.device(device), _backend.get()
    if backend == "portable":
        return Backend("portable", "asked for")
    if backend == "auto" and device.type == "cpu" and size < FEWEST_TO_COMPILE:
        return Backend("portable", f"{size} weights, and compiling pays from {FEWEST_TO_COMPILE}")
    reason = compiled_density.failure(components, dtype, device)
    return Backend("compiled") if reason is None else Backend("portable", reason)


def _apply(arguments: tuple[Tensor | None, ...], summed: bool) -> Tensor:
    # An autograd.Function is no torch function: without this, what a subclass carries would be
    # lost, and in Pyro's TraceGraph_ELBO, whose tensors know from where they come, the gradient.
    if any(type(a) not in PLAIN and has_torch_function_unary(a) for a in arguments):
        own = tuple(a for a in arguments if a is not None)
        return handle_torch_function(_apply, own, arguments, summed)
    dtypes = [a.dtype for a in arguments if a is not None]
    if any(dtype not in DTYPES for dtype in dtypes):
        names = ", ".join(map(str, dtypes))
        raise TypeError(f"the density is computed in float32 or float64; got {names}")
    dtype = torch.float64 if torch.float64 in dtypes else torch.float32
    given = [a.to(dtype) for a in arguments if a is not None]
    if torch._C._are_functorch_transforms_active():
        values = plain_log_densities(*given)
        return values.sum() if summed else values
    _check_shapes(given)
    inputs = (*given, *[None] * (len(arguments) - len(given)))
    requested = tuple(torch.is_grad_enabled() and a is not None and a.requires_grad for a in inputs)
    w, means = given[:2]
    compiled = False
    if any(requested):
        compiled = select_backend(len(w), len(means), dtype, w.device).name == "compiled"
    return _LogDensity.apply(*inputs, requested, compiled, summed)


def _check_shapes(given: Sequence[Tensor]) -> None:
    w, *mixture = given[:4]
    shapes = ", ".join(str(tuple(a.shape)) for a in given)
    if any(a.dim() != 1 for a in given) or len({len(a) for a in mixture}) > 1:
        raise ValueError(f"w must be (N,) and the components' values all (J,); got {shapes}")
    if any(len(a) != len(w) for a in given[4:]):
        raise ValueError(f"offsets must be as many as w, (N,); got {shapes}")


def plain_log_densities(
    w: Tensor,
    means: Tensor,
    precisions: Tensor,
    log_proportions: Tensor,
    offsets: Tensor | None = None,
) -> Tensor:
    """The formula itself, which autograd can follow to any order; (N,)."""
    residual = w.unsqueeze(-1) - means
    log_normal = 0.5 * (precisions.log() - precisions * residual.square()) - HALF_LOG_2PI
    log_joint = log_proportions + log_normal
    if offsets is not None:
        tilted = log_joint[..., :1] + offsets.unsqueeze(-1)
        log_joint = torch.cat([tilted, log_joint[..., 1:]], dim=-1)
    return log_joint.logsumexp(-1)


class _LogDensity(torch.autograd.Function):
    """Value and gradients in one pass: with uniform upstream gradients the sums suffice."""

    @staticmethod
    def forward(ctx, w, means, precisions, log_proportions, offsets, requested, compiled, summed):
        components = Components.of(means, precisions, log_proportions)
        deliver = _deliver(requested, values=not summed)
        result = blockwise(w, components, deliver, compiled, offsets=offsets)
        ctx.requested, ctx.compiled, ctx.summed = requested, compiled, summed
        ctx.result = replace(result, values=None)  # what is returned must not be held
        ctx.save_for_backward(w, means, precisions, log_proportions, offsets)
        return (result.total * LOG_2).to(w.dtype) if summed else result.values

    @staticmethod
    def backward(ctx, grad):
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph=True: the pass's own would be constants
            return *_differentiable_gradients(inputs, ctx.requested, grad, ctx.summed), *[None] * 3
        w, offsets, components = inputs[0], inputs[4], Components.of(*inputs[1:4])
        deliver = _deliver(ctx.requested)
        if not _is_uniform(grad):
            result = blockwise(w, components, deliver, upstream=grad, offsets=offsets)
            scale = 1
        else:
            scale = grad.reshape(-1)[0] if grad.numel() else grad.new_zeros(())
            # Given away, and scaled in place: a second vector as long as w would be most of the
            # memory. Another pass backwards through the same graph computes it anew.
            result, ctx.result = ctx.result, None
            result = result or blockwise(w, components, deliver, ctx.compiled, offsets=offsets)
        gradients: list[Tensor | None] = [None] * 5
        if result.w_gradient is not None:
            gradients[0] = result.w_gradient.mul_(scale)
        if result.sums is not None:
            gradients[1:4] = _mixture_gradients(result.sums * scale, components, inputs[2])
        if result.first is not None:
            gradients[4] = result.first.mul_(scale)
        return *gradients, None, None, None


def _deliver(requested: tuple[bool, ...], values: bool = False) -> Requested:
    return Requested(values, w_gradient=requested[0], sums=any(requested[1:4]), first=requested[4])


def _mixture_gradients(sums: Tensor, components: Components, precisions: Tensor) -> list[Tensor]:
    """Gradients of means, precisions and log proportions, from the sums of r, r d and r d^2."""
    count, first, second = sums
    means = 2 * LOG_2 * components.scales * first
    halves = 0.5 * (count - 2 * LOG_2 * second) / precisions
    return [gradient.to(precisions.dtype) for gradient in (means, halves, count)]


def _is_uniform(grad: Tensor) -> bool:
    """Whether it is one number, expanded: then no weight differs from another."""
    return grad.numel() <= 1 or not any(grad.stride())


def _differentiable_gradients(
    inputs: Sequence[Tensor | None], requested: tuple[bool, ...], grad: Tensor, summed: bool
) -> list[Tensor | None]:
    # Views: one input may depend on another, whose gradient must not go through it here too.
    own = [None if v is None else v.view_as(v) for v in inputs]
    values = plain_log_densities(*own)  # type: ignore[arg-type]
    values = values.sum() if summed else values
    asked = [v for v, want in zip(own, requested, strict=True) if want and v is not None]
    gradients = iter(torch.autograd.grad(values, asked, grad, create_graph=True))
    return [next(gradients) if want else None for want in requested]
