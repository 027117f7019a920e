"""The Gaussian mixture that a group of weights shares: a value, and the maths on it. Torch only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_sws.weights.density.log_density import (
    HALF_LOG_2PI,
    log_densities,
    log_density,
    log_joint_blocks,
)


@dataclass(frozen=True)
class Mixture:
    """p(w) = sum_j proportions[j] N(w; means[j], 1 / precisions[j]); each field (J,).

    Ullrich et al. 2017, eq. 5.
    """

    means: Tensor
    precisions: Tensor
    proportions: Tensor

    def __len__(self) -> int:
        return len(self.means)

    @property
    def deviations(self) -> Tensor:
        """Standard deviations (J,)."""
        return self.precisions.rsqrt()

    @property
    def log_proportions(self) -> Tensor:
        """log proportions (J,), floored so that a proportion of 0 gives no NaN gradient."""
        return self.proportions.clamp_min(torch.finfo(self.proportions.dtype).tiny).log()

    @property
    def mean(self) -> Tensor:
        """Mean of the whole mixture, a scalar."""
        return (self.proportions * self.means).sum()

    def component_log_prob(self, w: Tensor) -> Tensor:
        """log(proportions[j] N(w; j)) in nats; w (...) -> (..., J)."""
        residual = w.unsqueeze(-1) - self.means
        log_normal = 0.5 * (self.precisions.log() - self.precisions * residual.square())
        return self.log_proportions + log_normal - HALF_LOG_2PI

    def log_prob(self, w: Tensor) -> Tensor:
        """log p(w) in nats, weight by weight; w (...) -> (...). For sums use total_log_prob."""
        flat = log_densities(w.reshape(-1), self.means, self.precisions, self.log_proportions)
        return flat.view(w.shape)

    def total_log_prob(self, w: Tensor, offsets: Tensor | None = None) -> Tensor:
        """sum of log p(w) in nats; w (...) -> scalar, blockwise, with closed-form gradients.

        ``offsets``, of w's shape: the first component's proportion is multiplied by their exp,
        weight by weight, and the sum is not normalised for it.
        """
        flat = w.reshape(-1)
        tilt = None if offsets is None else offsets.reshape(-1)
        return log_density(flat, self.means, self.precisions, self.log_proportions, tilt)

    def responsibilities(self, w: Tensor) -> Tensor:
        """p(component j | w); w (...) -> (..., J), summing to one over J."""
        return self.component_log_prob(w).softmax(-1)

    @torch.no_grad()
    def assign(self, w: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Index in ``levels`` of each weight's most probable value; w (...) -> (...) int64.

        The argmax of the responsibilities, proportions included (Ullrich et al. 2017, sec. 4.3);
        components of equal mean are one value, and their responsibilities add up. ``offsets`` as in
        ``total_log_prob``.
        """
        values, value_of = self.means.unique(return_inverse=True)
        flat = w.reshape(-1)
        best = torch.empty(flat.shape, dtype=torch.int64, device=w.device)
        tilt = None if offsets is None else offsets.reshape(-1)
        blocks = log_joint_blocks(flat, self.means, self.precisions, self.log_proportions, tilt)
        for part, joint in blocks:
            sums = _sum_by_value(joint, value_of, len(values))
            best[part] = sums.max(0).indices  # argmax(0) takes five times as long
        return best.view(w.shape)

    @torch.no_grad()
    def level_responsibilities(self, w: Tensor, offsets: Tensor | None = None) -> Tensor:
        """p(value k | w); w (...) -> (..., K), summing to one over the values in ``levels``.

        Those of components of equal mean add up. ``offsets`` as in ``total_log_prob``.
        """
        values, value_of = self.means.unique(return_inverse=True)
        log_joint = self.component_log_prob(w)
        if offsets is not None:
            log_joint[..., 0] += offsets
        sums = log_joint.new_zeros(*w.shape, len(values))
        return sums.index_add_(-1, value_of, log_joint.softmax(-1))

    @property
    def levels(self) -> Tensor:
        """The distinct means, ascending (K,), K <= J: the values that a weight can snap to.

        Of components of equal mean the first one's, to which its gradient goes.
        """
        ascending, order = self.means.detach().sort(stable=True)
        new = torch.ones_like(ascending, dtype=torch.bool)
        new[1:] = ascending[1:] != ascending[:-1]
        return self.means[order[new]]

    @property
    def level_proportions(self) -> Tensor:
        """Proportions of the codebook values (K,): those of components of equal mean add up."""
        values, value_of = self.means.unique(return_inverse=True)
        return torch.zeros_like(values).index_add_(0, value_of, self.proportions.detach())

    def kl(self) -> Tensor:
        """KL(i || j) in nats between components i and j, proportions left out; (J, J)."""
        return kl_of_gaussians(
            self.means.unsqueeze(1), self.precisions.unsqueeze(1), self.means, self.precisions
        )

    def distances(self, rows: slice | Tensor) -> Tensor:
        """max(KL(i || j), KL(j || i)) in nats, i of ``rows`` and j of all components; (R, J)."""
        own = self.means[rows].unsqueeze(1), self.precisions[rows].unsqueeze(1)
        all_ = self.means, self.precisions
        return torch.maximum(kl_of_gaussians(*own, *all_), kl_of_gaussians(*all_, *own))

    @torch.no_grad()
    def sample(self, shape: torch.Size | tuple[int, ...]) -> Tensor:
        """Independent draws, of the given shape, from torch's current generator."""
        size = torch.Size(shape)
        j = torch.multinomial(self.proportions, size.numel(), replacement=True).view(size)
        return torch.normal(self.means[j], self.deviations[j])


def kl_of_gaussians(mean: Tensor, precision: Tensor, mean_2: Tensor, precision_2: Tensor) -> Tensor:
    """KL(N(mean, 1 / precision) || N(mean_2, 1 / precision_2)) in nats; shapes broadcast."""
    ratio = precision_2 / precision
    distance = precision_2 * (mean - mean_2).square()
    return 0.5 * (ratio - 1 - ratio.log() + distance)


def _sum_by_value(joint: Tensor, value_of: Tensor, values: int) -> Tensor:
    """logsumexp over the components of each codebook value; (J, block) -> (K, block)."""
    order = value_of.argsort()
    if values == len(value_of):
        return joint[order]
    counts = torch.bincount(value_of, minlength=values)
    sums = joint[order[counts.cumsum(0) - 1]]
    for value in (counts > 1).nonzero().flatten():  # the other values have one component each
        sums[value] = joint[value_of == value].logsumexp(0)
    return sums
