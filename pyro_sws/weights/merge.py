"""Close components become one (Ullrich et al. 2017, sec. 4.3, eq. 8). Torch only."""

import dataclasses
from numbers import Real

import torch
from torch import Tensor

from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior, check_posterior
from pyro_sws.weights.weight_prior import WeightPrior

Clusters = tuple[tuple[int, ...], ...]  # for each component, the fitted ones that went into it

# In nats. Two components of equal width differ by less than this when their means are within 0.14
# deviations; the authors' tutorial uses 1e-10, at which only coincident components merge.
MERGE_THRESHOLD = 0.01


def merge(posterior: Posterior, threshold: float = MERGE_THRESHOLD) -> Posterior:
    """Merge components closer than ``threshold`` nats; ``.merged`` says which, group by group.

    A group of k components (i, j, ...) in ``.merged`` stands where one component stands now.
    Priors whose codebook is fixed stay as they are. Raises ValueError for a negative threshold,
    TypeError for what is no posterior.
    """
    check_posterior(posterior)
    check_threshold(threshold)
    merged = singles(posterior)
    for name, prior in posterior.priors.items():
        if not has_fixed_levels(prior):
            mixture, clusters = merge_components(prior.mixture, threshold)
            posterior = with_mixture(posterior, name, mixture)
            merged[name] = clusters
    return dataclasses.replace(posterior, merged=merged)


def has_fixed_levels(prior: WeightPrior) -> bool:
    """Whether a prior's values are given, such as a grid's, so that none may merge or go."""
    return bool(getattr(prior, "fixed_levels", False))


def singles(posterior: Posterior) -> dict[str, Clusters]:
    """``.merged`` where nothing has merged yet."""
    return {
        name: tuple((j,) for j in range(len(prior.mixture)))
        for name, prior in posterior.priors.items()
    }


def with_mixture(posterior: Posterior, group: str, mixture: Mixture) -> Posterior:
    """The posterior with another mixture in a group's prior; ``.merged`` stays."""
    prior = dataclasses.replace(posterior.priors[group], mixture=mixture)  # type: ignore[type-var]
    return dataclasses.replace(posterior, priors={**posterior.priors, group: prior})


def check_threshold(threshold: float) -> None:
    """Raise ValueError for a threshold that is negative or not a number."""
    if not isinstance(threshold, Real | Tensor) or not threshold >= 0:
        raise ValueError(f"threshold must be at least 0 nats, got {threshold!r}")


@torch.no_grad()
def merge_components(mixture: Mixture, threshold: float) -> tuple[Mixture, Clusters]:
    """The merged mixture, and for each of its components the indices that went into it.

    The closest pair first, its distance taken anew after each merge, so that a chain of close
    neighbours does not collapse as a whole. Distance is the larger of KL(i||j) and KL(j||i). Of
    pairs as close the first one merges.
    """
    clusters: dict[int, list[int]] = {j: [j] for j in range(len(mixture))}
    nearest = _Nearest(mixture)
    while len(clusters) > 1:
        i, j, distance = nearest.pair()
        if not distance < threshold:
            break
        nearest.merge(i, j)
        clusters[i] += clusters.pop(j)
    kept = tuple(tuple(sorted(cluster)) for cluster in clusters.values())
    if len(kept) == len(mixture):
        return mixture, kept
    return _taken(nearest.mixture, list(clusters)), kept


class _Nearest:
    """Each component's nearest other one, kept through merges.

    A merge takes new distances from one component, and of those few whose nearest one went; all
    pairs' at once would take memory in J^2, and after each merge time in J^2. What merged away
    keeps its place, dead, so that the places of others stay.
    """

    BLOCK = 1 << 20  # distances held at once

    def __init__(self, mixture: Mixture):
        fields = (mixture.means, mixture.precisions, mixture.proportions)
        self.mixture = Mixture(*(values.detach().clone() for values in fields))
        self.dead = torch.zeros_like(mixture.means, dtype=torch.bool)
        self.distance = torch.empty_like(mixture.means)
        self.other = torch.empty_like(mixture.means, dtype=torch.int64)
        self._look(torch.arange(len(mixture), device=mixture.means.device))

    def pair(self) -> tuple[int, int, float]:
        """The first of the closest pairs i < j, and their distance in nats."""
        i = int(self.distance.argmin())
        j = int(self.other[i])
        return min(i, j), max(i, j), float(self.distance[i])

    def merge(self, i: int, j: int) -> None:
        """Component j goes into i."""
        for name, value in _of_pair(self.mixture, i, j).items():
            getattr(self.mixture, name)[i] = value
        self.dead[j], self.distance[j] = True, torch.inf
        row = self._row(i)
        nearer = (row < self.distance) | ((row == self.distance) & (i <= self.other))
        lost = ~nearer & ~self.dead & ((self.other == i) | (self.other == j))
        nearer &= ~self.dead
        self.distance = torch.where(nearer, row, self.distance)
        self.other = torch.where(nearer, i, self.other)
        lost[i] = True
        self._look(lost.nonzero().flatten())

    def _row(self, i: int) -> Tensor:
        """Distances of one component from all others, inf from itself and the dead; (J,)."""
        row = self.mixture.distances(slice(i, i + 1))[0].masked_fill(self.dead, torch.inf)
        row[i] = torch.inf
        return row

    def _look(self, rows: Tensor) -> None:
        """Find the nearest others of these components anew."""
        for block in rows.split(max(1, self.BLOCK // len(self.dead))):
            distances = self.mixture.distances(block).masked_fill(self.dead, torch.inf)
            distances.scatter_(1, block.unsqueeze(1), torch.inf)
            self.other[block] = distances.argmin(1)
            self.distance[block] = distances.amin(1)


def merge_pair(mixture: Mixture, i: int, j: int) -> Mixture:
    """Eq. 8: proportions add, means and variances average by proportion; component j goes into i.

    The zero component keeps its mean: a mean of exactly 0 is the pruned weights' value.
    """
    fields = _of_pair(mixture, i, j)
    merged = {name: getattr(mixture, name).clone() for name in fields}
    for name, value in fields.items():
        merged[name][i] = value
    return _without(Mixture(**merged), j)


def _of_pair(mixture: Mixture, i: int, j: int) -> dict[str, Tensor]:
    """What the fields of the one component are that two become, see ``merge_pair``."""
    pair = [i, j]
    total = mixture.proportions[pair].sum()
    # Two dead components (0 + 0) weigh the same.
    fraction = mixture.proportions[pair] / total if total > 0 else torch.full_like(total, 0.5)
    mean = (fraction * mixture.means[pair]).sum() * bool((mixture.means[pair] != 0).all())
    variance = (fraction / mixture.precisions[pair]).sum()
    return {"means": mean, "precisions": 1 / variance, "proportions": total}


def delete_component(mixture: Mixture, j: int) -> Mixture:
    """The others, whose proportions grow by one factor so that their sum stays."""
    rest = _without(mixture, j)
    left = rest.proportions.sum()
    # A rest that is dead has no fractions to keep.
    fractions = rest.proportions / left if left > 0 else torch.ones_like(rest.means) / len(rest)
    return dataclasses.replace(rest, proportions=fractions * mixture.proportions.sum())


def _without(mixture: Mixture, j: int) -> Mixture:
    return _taken(mixture, [k for k in range(len(mixture)) if k != j])


def _taken(mixture: Mixture, keep: list[int]) -> Mixture:
    return Mixture(mixture.means[keep], mixture.precisions[keep], mixture.proportions[keep])
