"""The one hot loop: summed log-density under a mixture, closed-form gradients. Torch only."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

# A block of log-joints (17 components) stays in a core's second-level cache.
BLOCK_SIZE = 16_384

# exp of less than this is never computed: it would change no sum, and denormals run 10-20x slower.
SMALLEST_EXPONENT = {torch.float32: -60.0, torch.float64: -600.0}

WAYS = ("auto", "portable", "compiled")
_way: ContextVar[str] = ContextVar("way", default="auto")


@contextmanager
def using(way: str) -> Iterator[None]:
    """Force how the calls inside are computed: one of WAYS."""
    if way not in WAYS:
        raise ValueError(f"unknown way {way!r}; choose from {', '.join(WAYS)}")
    token = _way.set(way)
    try:
        yield
    finally:
        _way.reset(token)


def log_density(w: Tensor, means: Tensor, precisions: Tensor, log_proportions: Tensor) -> Tensor:
    """sum_i log sum_j exp(log_proportions[j]) N(w[i]; means[j], 1 / precisions[j]), in nats.

    w (N,), the rest (J,) -> scalar. Differentiable once in every argument. Works through blocks of
    the weights, so that memory beyond inputs and gradients does not grow with N.
    Ullrich et al. 2017, eq. 5 and the logarithm of it.
    """
    arguments = (w, means, precisions, log_proportions)
    wanted = torch.is_grad_enabled() and any(a.requires_grad for a in arguments)
    return _LogDensity.apply(*arguments, wanted)


class _LogDensity(torch.autograd.Function):
    """Value and gradients in one pass: the gradients of the sum need only the responsibilities.

    With d = w - means and r the responsibilities, only r.sum(), (r d).sum() and (r d^2).sum() per
    component leave the loop; every gradient of the mixture follows from them.
    """

    @staticmethod
    def forward(ctx, w, means, precisions, log_proportions, with_gradients):
        sums = torch.zeros(3, len(means), dtype=torch.float64, device=w.device)
        total = torch.zeros((), dtype=torch.float64, device=w.device)
        w_gradient = torch.empty_like(w) if with_gradients else None
        for part, residual, joint in log_joint_blocks(w, means, precisions, log_proportions):
            top = joint.amax(0)
            joint.sub_(top).clamp_(min=SMALLEST_EXPONENT.get(w.dtype, -60.0)).exp_()
            normaliser = joint.sum(0)
            total += (top + normaliser.log()).sum()
            if with_gradients:
                responsibilities = joint.div_(normaliser)
                sums[0] += responsibilities.sum(1)
                first = responsibilities.mul_(residual)
                sums[1] += first.sum(1)
                torch.mv(first.T, precisions, out=w_gradient[part])
                sums[2] += first.mul_(residual).sum(1)
        if with_gradients:
            ctx.save_for_backward(w_gradient.neg_(), precisions, sums)
        return total.to(w.dtype)

    @staticmethod
    def backward(ctx, grad):
        if torch.is_grad_enabled():  # create_graph=True: the saved gradients would be constants
            raise RuntimeError(
                "log_density can be differentiated once; for more use Mixture.log_prob"
            )
        w_gradient, precisions, (count, first, second) = ctx.saved_tensors
        means_gradient = precisions * first.to(precisions.dtype)
        precisions_gradient = 0.5 * (count / precisions.double() - second).to(precisions.dtype)
        log_proportions_gradient = count.to(precisions.dtype)
        return (
            grad * w_gradient,
            grad * means_gradient,
            grad * precisions_gradient,
            grad * log_proportions_gradient,
            None,
        )


def log_joint_blocks(
    w: Tensor, means: Tensor, precisions: Tensor, log_proportions: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Block by block: its place in w (N,), w - means and log(proportion N(w)), each (J, block).

    The two tensors are buffers that the next block overwrites. The difference (w - means) is taken
    before squaring: the expanded quadratic loses everything at high precision.
    """
    constant = log_proportions + 0.5 * precisions.log() - HALF_LOG_2PI
    residuals = w.new_empty(len(means) * min(BLOCK_SIZE, len(w)))
    joints = torch.empty_like(residuals)
    for start in range(0, len(w), BLOCK_SIZE):
        part = slice(start, min(start + BLOCK_SIZE, len(w)))
        used, shape = len(means) * (part.stop - start), (len(means), part.stop - start)
        residual, joint = residuals[:used].view(shape), joints[:used].view(shape)
        torch.sub(w[part], means.unsqueeze(1), out=residual)
        torch.mul(residual, residual, out=joint)
        joint.mul_(-0.5 * precisions.unsqueeze(1)).add_(constant.unsqueeze(1))
        yield part, residual, joint
