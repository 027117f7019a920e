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
    neighbours does not collapse as a whole. Distance is the larger of KL(i||j) and KL(j||i).
    """
    clusters: list[tuple[int, ...]] = [(j,) for j in range(len(mixture))]
    while len(mixture) > 1:
        kl = mixture.kl()
        distance = torch.maximum(kl, kl.T)
        distance.fill_diagonal_(torch.inf)
        nearest = int(distance.argmin())
        i, j = sorted(divmod(nearest, len(mixture)))
        if not distance[i, j] < threshold:
            break
        mixture = merge_pair(mixture, i, j)
        clusters[i] = tuple(sorted(clusters[i] + clusters.pop(j)))
    return mixture, tuple(clusters)


def merge_pair(mixture: Mixture, i: int, j: int) -> Mixture:
    """Eq. 8: proportions add, means and variances average by proportion; component j goes into i.

    The zero component keeps its mean: a mean of exactly 0 is the pruned weights' value.
    """
    pair = [i, j]
    total = mixture.proportions[pair].sum()
    # Two dead components (0 + 0) weigh the same.
    fraction = mixture.proportions[pair] / total if total > 0 else torch.full_like(total, 0.5)
    mean = (fraction * mixture.means[pair]).sum() * bool((mixture.means[pair] != 0).all())
    variance = (fraction / mixture.precisions[pair]).sum()
    fields = {"means": mean, "precisions": 1 / variance, "proportions": total}
    merged = {name: getattr(mixture, name).clone() for name in fields}
    for name, value in fields.items():
        merged[name][i] = value
    return _without(Mixture(**merged), j)


def delete_component(mixture: Mixture, j: int) -> Mixture:
    """The others, whose proportions grow by one factor so that their sum stays."""
    rest = _without(mixture, j)
    left = rest.proportions.sum()
    # A rest that is dead has no fractions to keep.
    fractions = rest.proportions / left if left > 0 else torch.ones_like(rest.means) / len(rest)
    return dataclasses.replace(rest, proportions=fractions * mixture.proportions.sum())


def _without(mixture: Mixture, j: int) -> Mixture:
    keep = [k for k in range(len(mixture)) if k != j]
    return Mixture(mixture.means[keep], mixture.precisions[keep], mixture.proportions[keep])
