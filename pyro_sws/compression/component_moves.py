"""Moves: a mixture with one component fewer, by merging two or deleting one. Torch only."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.weights.merge import Clusters, delete_component, merge_pair, with_mixture
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior


@dataclass(frozen=True)
class Move:
    """One component of a group deleted, or two merged; ``clusters`` names them as ``.merged`` does.

    Merging is eq. 8 of Ullrich et al. 2017, with two choices: ``value`` is a mean instead of eq.
    8's, and ``wide`` asks for a variance that counts the distance between the two means, which eq.
    8's does not. If one of the two has the mean 0, the merged one has it in any case.
    """

    group: str
    clusters: Clusters
    value: float | None = None
    wide: bool = False

    def apply(self, mixture: Mixture, clusters: Clusters) -> tuple[Mixture, Clusters]:
        """Mixture and clusters after the move; a merged component is where the first one was."""
        at = sorted(map(clusters.index, self.clusters))
        if len(at) == 1:
            return delete_component(mixture, at[0]), _without(clusters, at[0])
        i, j = at
        merged = merge_pair(mixture, i, j)
        if self.value is not None and merged.means[i] != 0:
            merged = _with(merged, "means", i, self.value)
        if self.wide:
            variance = _variance_around(merged.means[i], mixture, at)
            merged = _with(merged, "precisions", i, 1 / variance)
        joined = tuple(sorted(clusters[i] + clusters[j]))
        return merged, _without((*clusters[:i], joined, *clusters[i + 1 :]), j)


def after(posterior: Posterior, moves: Iterable[Move]) -> Posterior:
    """The posterior after all of the moves, no two of which may name the same component."""
    merged = dict(posterior.merged)
    for move in moves:
        mixture = posterior.priors[move.group].mixture
        mixture, merged[move.group] = move.apply(mixture, merged[move.group])
        posterior = with_mixture(posterior, move.group, mixture)
    return replace(posterior, merged=merged)


def disjoint(moves: Iterable[Move]) -> list[Move]:
    """The moves, without any that names a component of an earlier move."""
    taken: set[tuple[str, tuple[int, ...]]] = set()
    kept = []
    for move in moves:
        named = {(move.group, cluster) for cluster in move.clusters}
        if not named & taken:
            taken |= named
            kept.append(move)
    return kept


def _variance_around(mean: Tensor, mixture: Mixture, pair: list[int]) -> Tensor:
    """The mean square distance of two components taken together, as eq. 8 weighs them."""
    total = mixture.proportions[pair].sum()
    fraction = mixture.proportions[pair] / total if total > 0 else torch.full_like(total, 0.5)
    return (fraction * (1 / mixture.precisions[pair] + (mixture.means[pair] - mean).square())).sum()


def _with(mixture: Mixture, field: str, i: int, value: float | Tensor) -> Mixture:
    values = getattr(mixture, field).clone()
    values[i] = value
    return replace(mixture, **{field: values})


def _without(clusters: Clusters, j: int) -> Clusters:
    return clusters[:j] + clusters[j + 1 :]
