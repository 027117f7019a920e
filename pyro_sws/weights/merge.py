"""Close components become one (Ullrich et al. 2017, sec. 4.3, eq. 8). Torch only."""

import dataclasses

import torch

from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior

# In nats. Two components of equal width differ by less than this when their means are within 0.14
# deviations; the authors' tutorial uses 1e-10, at which only coincident components merge.
MERGE_THRESHOLD = 0.01


def merge(posterior: Posterior, threshold: float = MERGE_THRESHOLD) -> Posterior:
    """Merge components closer than ``threshold`` nats; ``.merged`` says which, group by group.

    A group of k components (i, j, ...) in ``.merged`` stands where one component stands now.
    Raises ValueError for a negative threshold.
    """
    check_threshold(threshold)
    results = {
        name: merge_components(prior.mixture, threshold) for name, prior in posterior.priors.items()
    }
    priors = {
        name: dataclasses.replace(prior, mixture=results[name][0])  # type: ignore[type-var]
        for name, prior in posterior.priors.items()
    }
    merged = {name: clusters for name, (_, clusters) in results.items()}
    return dataclasses.replace(posterior, priors=priors, merged=merged)


def check_threshold(threshold: float) -> None:
    if not threshold >= 0:
        raise ValueError(f"threshold must be at least 0 nats, got {threshold}")


@torch.no_grad()
def merge_components(
    mixture: Mixture, threshold: float
) -> tuple[Mixture, tuple[tuple[int, ...], ...]]:
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
        mixture = _merge_pair(mixture, i, j)
        clusters[i] = tuple(sorted(clusters[i] + clusters.pop(j)))
    return mixture, tuple(clusters)


def _merge_pair(mixture: Mixture, i: int, j: int) -> Mixture:
    """Eq. 8: proportions add, means and variances average by proportion; component j goes into i.

    The zero component keeps its mean: a mean of exactly 0 is the pruned weights' value.
    """
    pair = [i, j]
    total = mixture.proportions[pair].sum()
    # Two dead components (0 + 0) weigh the same.
    share = mixture.proportions[pair] / total if total > 0 else torch.full_like(total, 0.5)
    mean = (share * mixture.means[pair]).sum() * bool((mixture.means[pair] != 0).all())
    variance = (share / mixture.precisions[pair]).sum()
    fields = {"means": mean, "precisions": 1 / variance, "proportions": total}
    keep = [k for k in range(len(mixture)) if k != j]
    merged = {name: getattr(mixture, name).clone() for name in fields}
    for name, value in fields.items():
        merged[name][i] = value
    return Mixture(**{name: values[keep] for name, values in merged.items()})
