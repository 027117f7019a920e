"""The border between a prior and what follows it: a density over flat weights. Torch only."""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from pyro_sws.weights.group import Group
from pyro_sws.weights.lookup_tables import approximate_slopes, assign_by_table
from pyro_sws.weights.mixture import Mixture


class WeightPrior(Protocol):
    """A density over a group's flat weights (N,), and the values to which it snaps them.

    Implementations are frozen dataclasses with a field ``mixture``, which merging replaces by one
    of fewer components; no other field may depend on how many there are. They may give every weight
    its own scale or zero proportion (by tensor, row or channel): that stays behind this border.
    They may have a method ``approximate_slopes(flat, indices=None) -> (N,)`` as MixturePrior has,
    which makes estimates from a sample of the weights less noisy, a method
    ``zero_proportions(part) -> (n,)`` where the probability of zero differs from weight to weight,
    a method ``assign_by_table(flat)`` where there is a faster ``assign`` for every step of a fit, a
    method ``responsibilities(flat, indices=None) -> (n, K)``, each codebook value's probability
    given the weight, where the values are those of components, and an attribute ``fixed_levels =
    True`` where components must not merge.
    """

    @property
    def mixture(self) -> Mixture:
        """The shape that the group shares, over weights divided by their scale."""
        ...

    def log_prob(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        """log p(flat) in nats, summed; (N,) -> scalar.

        ``indices``, where given, says where in the group the weights in ``flat`` lie.
        """
        ...

    def assign(self, flat: Tensor) -> Tensor:
        """Each weight's index in its tensor's codebook; (N,) -> (N,) int64."""
        ...

    def codebook(self, part: slice) -> Tensor:
        """The distinct values, before scaling, of the tensor that lies in ``part``; (K,)."""
        ...

    def scale(self, part: slice) -> Tensor | None:
        """What the codebook's values are multiplied by, weight by weight, or None for 1; (n,)."""
        ...

    def proportions(self, part: slice) -> Tensor:
        """How probable the codebook's values are in the tensor that lies in ``part``; (K,)."""
        ...

    def sample(self, size: int) -> Tensor:
        """A draw of the group's weights (size,)."""
        ...


def unscaled(prior: WeightPrior, group: Group, flat: Tensor) -> Tensor:
    """The group's weights (N,) divided by their scales: what the prior's mixture is of."""
    result = flat.clone()
    for part in group.slices.values():
        scale = prior.scale(part)
        if scale is not None:
            result[part] /= scale
    return result


def widened(prior: WeightPrior, factor: float) -> WeightPrior:
    """The density with every component ``factor`` times as wide.

    One that is alone is no place among others, but the shape of all weights: it stays.
    """
    mixture = prior.mixture
    if len(mixture) == 1:
        return prior
    wide = replace(mixture, precisions=mixture.precisions / factor**2)
    return replace(prior, mixture=wide)  # type: ignore[type-var]


@dataclass(frozen=True)
class MixturePrior:
    """Independent weights: each, divided by its scale, under one shared mixture."""

    mixture: Mixture
    scales: Tensor | None = None  # (N,) positive; None means 1
    fixed_levels: bool = False  # the means are of a grid, and merging leaves them alone

    def log_prob(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        if self.scales is None:
            return self.mixture.total_log_prob(flat)
        scales = self.scales if indices is None else self.scales[indices]
        return self.mixture.total_log_prob(flat / scales) - scales.log().sum()

    def approximate_slopes(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        """About d log p(flat) / d flat, cheaply and without a gradient of its own; (N,) -> (N,)."""
        if self.scales is None:
            return approximate_slopes(self.mixture, flat)
        scales = self.scales.detach()
        scales = scales if indices is None else scales[indices]
        return approximate_slopes(self.mixture, flat / scales) / scales

    def assign(self, flat: Tensor) -> Tensor:
        return self.mixture.assign(flat if self.scales is None else flat / self.scales)

    def assign_by_table(self, flat: Tensor) -> Tensor:
        return assign_by_table(self.mixture, flat if self.scales is None else flat / self.scales)

    def responsibilities(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        """p(codebook value k | weight); (n,) -> (n, K)."""
        if self.scales is not None:
            flat = flat / (self.scales if indices is None else self.scales[indices])
        return self.mixture.level_responsibilities(flat)

    def codebook(self, part: slice) -> Tensor:
        return self.mixture.levels

    def scale(self, part: slice) -> Tensor | None:
        return None if self.scales is None else self.scales[part]

    def proportions(self, part: slice) -> Tensor:
        return self.mixture.level_proportions

    def sample(self, size: int) -> Tensor:
        draws = self.mixture.sample((size,))
        return draws if self.scales is None else draws * self.scales


@dataclass(frozen=True)
class UniformlyQuantized:
    """Independent weights under one Gaussian, snapped to ``scale`` times -steps .. steps.

    The mixture is that of weights in units of the scale, which is one for the group.
    """

    mixture: Mixture
    scales: Tensor  # (N,)
    steps: int
    fixed_levels: bool = True

    def log_prob(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        return self._density.log_prob(flat, indices)

    def approximate_slopes(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        """d log p(flat) / d flat; (N,) -> (N,)."""
        return -self.mixture.precisions.detach() * flat / self.scales[0].detach() ** 2

    def assign(self, flat: Tensor) -> Tensor:
        return (flat / self.scales).round().clamp(-self.steps, self.steps).long() + self.steps

    def codebook(self, part: slice) -> Tensor:
        return torch.arange(-self.steps, self.steps + 1).to(self.mixture.means)

    def scale(self, part: slice) -> Tensor | None:
        return self.scales[part]

    def proportions(self, part: slice) -> Tensor:
        """The Gaussian's mass around each value; the tails count for the outermost."""
        edges = self.codebook(part)[:-1] + 0.5
        below = torch.special.ndtr(edges * self.mixture.precisions.sqrt())
        whole = torch.cat([below.new_zeros(1), below, below.new_ones(1)])
        return whole.diff()

    def sample(self, size: int) -> Tensor:
        return self._density.sample(size)

    @property
    def _density(self) -> MixturePrior:
        return MixturePrior(self.mixture, self.scales)


def snapped(prior: WeightPrior, group: Group, flat: Tensor) -> Tensor:
    """The values to which a group's weights snap; (N,) -> (N,).

    In the weights the gradient is the identity's (Bengio et al. 2013, sec. 2), wherever they are: a
    weight that is held at 0 feels what it would be good for. In the means it is exact.
    """
    flat = flat.reshape(group.size)
    with torch.no_grad():
        assign = getattr(prior, "assign_by_table", prior.assign)
        index = assign(flat)
    values = torch.cat([_values(prior, part, index[part]) for part in group.slices.values()])
    return values + (flat - flat.detach())


def _values(prior: WeightPrior, part: slice, index: Tensor) -> Tensor:
    values = prior.codebook(part).index_select(0, index)
    scale = prior.scale(part)
    return values if scale is None else values * scale
