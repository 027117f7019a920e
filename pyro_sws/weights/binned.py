"""Weights in bins that keep count, mean and variance: enough for a mixture's likelihood. Torch."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pyro_sws.weights.density.blocks import HALF_LOG_2PI
from pyro_sws.weights.mixture import Mixture

BIN_WIDTH = 0.125  # of a deviation that a bin is wide
REACH = 8.0  # deviations within which a component's own bins are as narrow as at its mean


@dataclass(frozen=True)
class Bins:
    """What is kept of the weights in each bin that has any; each field (B,), in double precision.

    The total of weights, of their values and of their squares is that of the weights themselves.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor  # mean squared distance from the bin's mean

    def __len__(self) -> int:
        return len(self.counts)

    def log_prob(self, mixture: Mixture) -> Tensor:
        """About sum_i log f(w_i) in nats, f the mixture's density: a scalar, differentiable."""
        return self.log_probs(mixture).sum()

    def log_probs(self, mixture: Mixture) -> Tensor:
        """That of each bin's weights; (B,).

        n_b (log f(m_b) + v_b / 2 (log f)''(m_b)), the expansion about the bins' means, whose
        first-order term vanishes; exact where one component is alone. With g_j = (log N_j)' and
        responsibilities r, (log f)'' is the variance of g under r, less the mean precision.
        """
        precisions = mixture.precisions.unsqueeze(1)
        residuals = self.means - mixture.means.unsqueeze(1)
        slopes = precisions * residuals  # -g, (J, B)
        constants = mixture.log_proportions + 0.5 * mixture.precisions.log() - HALF_LOG_2PI
        log_joint = constants.unsqueeze(1) - 0.5 * slopes * residuals
        log_density = log_joint.logsumexp(0)
        responsibilities = (log_joint - log_density).exp()
        mean_slope = (responsibilities * slopes).sum(0)
        seconds = (responsibilities * (slopes.square() - precisions)).sum(0) - mean_slope.square()
        return self.counts * (log_density + 0.5 * self.variances * seconds)


@torch.no_grad()
def binned(w: Tensor, mixture: Mixture, bin_width: float = BIN_WIDTH) -> Bins:
    """The weights in bins that are narrow where the mixture's components are; w (N,).

    No bin is wider than ``bin_width`` times the least over components j of max(s_j, |w - m_j| /
    REACH), m and s their means and deviations: that many of its deviations around a component, and
    further out in proportion to the distance. So the number of bins does not grow with the weights,
    and with their range only as its logarithm.

    Raises ValueError for weights that are not finite and a bin_width that is not positive.
    """
    if not bin_width > 0:
        raise ValueError(f"bin_width must be a positive part of a deviation, got {bin_width}")
    if not w.isfinite().all():
        bad = int((~w.isfinite()).sum())
        raise ValueError(f"{bad} of {w.numel()} weights are not finite; there is no bin for them")
    values = w.detach().reshape(-1).to("cpu", torch.float64)
    edges = _edges(float(values.min()), float(values.max()), mixture, bin_width)
    bins = torch.bucketize(values, edges)
    # About the bins' middles: squares of the values themselves would lose the variances' digits.
    middles = torch.cat([edges[:1], (edges[:-1] + edges[1:]) / 2])
    residuals = values - middles[bins]
    used, owner = bins.unique(return_inverse=True)
    counts = torch.bincount(owner).double()
    offsets = torch.bincount(owner, residuals) / counts
    squares = torch.bincount(owner, (residuals - offsets[owner]).square()) / counts
    return Bins(counts, middles[used] + offsets, squares)


def _edges(low: float, high: float, mixture: Mixture, bin_width: float) -> Tensor:
    """Ascending, from low to high or beyond."""
    means = mixture.means.detach().cpu().double().numpy()
    deviations = mixture.deviations.detach().cpu().double().numpy()
    edges = [low]
    while edges[-1] < high:
        at = edges[-1]
        nearest = np.maximum(deviations, np.abs(at - means) / REACH).min()
        # Nearer to a component the bound falls, by bin_width / REACH of the way there.
        width = bin_width * nearest / (1 + bin_width / REACH)
        edges.append(at + max(width, 1e-12 * abs(at)))  # else a step may be no step at all
    return torch.tensor(edges, dtype=torch.float64)
