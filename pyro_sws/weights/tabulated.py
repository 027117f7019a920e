"""A mixture of equally wide components, tabulated over the weights' range: a step of a walk. Torch.

All that a step needs is a function of one variable there: the value that a weight snaps to, and the
log-density and its slope.
"""

import math

import torch
from torch import Tensor

from pyro_sws.weights.density.blocks import HALF_LOG_2PI
from pyro_sws.weights.density.malloc import keep_freed_memory
from pyro_sws.weights.mixture import Mixture

NODES_A_DEVIATION = 8  # what is read at the nearest node is a sixteenth of a deviation off at most
MOST_NODES = 2048


def tabulated(mixture: Mixture, w: Tensor) -> tuple[Tensor, Tensor]:
    """Values that w (N,) snaps to (N,), and about log p(w) in nats, summed, a scalar.

    Each weight is taken for the nearest of evenly spaced nodes, where those are fewer than weights.
    Gradients of the values go straight through to w, and to the means; those of the log-density
    too. Precisions must be equal, and are
    constants, as proportions are. Raises FloatingPointError for weights that are not finite.
    """
    keep_freed_memory(w)
    low, high = (float(end) for end in w.detach().aminmax())
    if not math.isfinite(low + high):
        raise FloatingPointError("weights are not finite; lower the learning rates")
    deviation = float(mixture.deviations[0])
    nodes = 1 + math.ceil((high - low) / deviation * NODES_A_DEVIATION)
    nodes = max(2, min(MOST_NODES, nodes))
    if len(w) <= nodes:
        at, entries = w.detach(), torch.arange(len(w), device=w.device)
    else:
        step = max((high - low) / (nodes - 1), torch.finfo(w.dtype).tiny)
        at = torch.arange(nodes, dtype=w.dtype, device=w.device).mul_(step).add_(low)
        entries = torch.sub(w.detach(), low).mul_(1 / step).add_(0.5).int().clamp_(0, nodes - 1)
    return _Tabulated.apply(w, mixture.means, mixture, at, entries)


class _Tabulated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, means, mixture, at, entries):
        precision = mixture.precisions[0]
        residuals = at.unsqueeze(1) - means
        joint = mixture.log_proportions - 0.5 * precision * residuals.square()
        owner = joint.max(1).indices
        log_density = joint.logsumexp(1)
        responsibilities = (joint - log_density.unsqueeze(1)).exp_()
        slopes = precision * (responsibilities @ means - at)
        values = means[owner].index_select(0, entries)
        counts = torch.bincount(entries, minlength=len(at)).to(w.dtype)
        ctx.save_for_backward(entries, slopes, owner, counts, responsibilities, residuals)
        ctx.precision = precision
        constant = 0.5 * precision.log() - HALF_LOG_2PI
        return values, counts @ log_density + constant * len(w)

    @staticmethod
    def backward(ctx, of_values, of_density):
        entries, slopes, owner, counts, responsibilities, residuals = ctx.saved_tensors
        for_w = (slopes * of_density).index_select(0, entries).add_(of_values)
        pull = ctx.precision * (counts @ responsibilities.mul(residuals))
        by_node = torch.bincount(entries, of_values, minlength=len(counts))
        for_means = torch.zeros_like(pull).index_add_(0, owner, by_node.to(pull.dtype))
        return for_w, for_means.add_(pull * of_density), None, None, None
