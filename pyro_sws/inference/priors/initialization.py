"""Where the components start, given the trained weights: named choices, each with its reason."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Initialization = Literal["range", "equal_mass", "k_means", "em", "paper", "multiples"]

# One-dimensional clusterings do not change with more evenly spaced quantiles than this.
MOST_QUANTILES = 20_000
STARTS = 4  # of k-means
COVERED = 0.999  # of the weights' sizes: the rest lies beyond the outermost multiple


@dataclass(frozen=True)
class InitialSlabs:
    """Slabs as they start, each (J,), and the spike's deviation ()."""

    means: Tensor
    deviations: Tensor
    shares: Tensor  # of the slabs' own mass; they sum to 1
    spike_deviation: Tensor


def initialize(
    choice: Initialization | tuple[float, ...],
    weights: Tensor,
    slabs: int,
    deviation: float,
    spike: bool = True,
) -> InitialSlabs:
    """The start of ``slabs`` slabs over trained weights (N,): a choice by name, or their means.

    ``deviation`` is every component's, but for the choices that find their own; with ``spike`` one
    more component is at zero. Means ascend, and no two are equal: those that start as one never
    part. Raises ImportError where scikit-learn is needed and is not there.
    """
    if isinstance(choice, tuple):
        means = torch.tensor(choice, dtype=weights.dtype, device=weights.device)
        return _even(means, deviation)
    start = INITIALIZATIONS[choice](weights, slabs, deviation, spike)
    return InitialSlabs(_apart(start.means, deviation), *list(vars(start).values())[1:])


def _range(weights: Tensor, slabs: int, deviation: float, spike: bool) -> InitialSlabs:
    """Evenly over the trained weights' range (Ullrich et al. 2017, sec. 4.1).

    Reaches every weight, the largest too; most slabs start where few weights are.
    """
    low, high = weights.aminmax()
    if low == high or slabs == 1:
        middle, half = (low + high) / 2, deviation * (slabs > 1)
        low, high = middle - half, middle + half
    steps = torch.linspace(0, 1, slabs, dtype=weights.dtype, device=weights.device)
    return _even(low + (high - low) * steps, deviation)


def _equal_mass(weights: Tensor, slabs: int, deviation: float, spike: bool) -> InitialSlabs:
    """As many trained weights between any two neighbours (tried in Ullrich et al. 2017).

    Puts the slabs where the weights are, which is where the spike will be.
    """
    ranks = (torch.arange(slabs, device=weights.device) + 0.5) / slabs
    # torch.quantile refuses more than 16 million values.
    return _even(weights.sort().values[(ranks * len(weights)).long()], deviation)


def _k_means(weights: Tensor, slabs: int, deviation: float, spike: bool) -> InitialSlabs:
    """The centres of one-dimensional k-means (as Han et al. 2016 cluster pruned networks).

    Least squared distance for the trained weights; with a spike, the centre nearest 0 becomes it.
    """
    values, clusters = _quantiles(weights), slabs + spike
    labels, centres = _cluster(values, clusters)
    shares = np.bincount(labels, minlength=clusters) / len(labels)
    return _without_spike(weights, centres, np.full(clusters, deviation), shares, spike)


def _em(weights: Tensor, slabs: int, deviation: float, spike: bool) -> InitialSlabs:
    """A Gaussian mixture fitted to the trained weights by expectation maximisation.

    The prior starts as the density of the network as it is, so that nothing moves at first; with
    fitted weights it takes up the clusters that an earlier prior left.
    """
    values, clusters = _quantiles(weights), slabs + spike
    if len(np.unique(values)) < max(clusters, 2):  # nothing to fit
        return _k_means(weights, slabs, deviation, spike)
    mixture = _scikit("mixture").GaussianMixture
    _, centres = _cluster(values, clusters)
    spread = values.std() or deviation
    fitted = mixture(
        clusters,
        means_init=centres[:, None],
        reg_covar=float(1e-6 * spread**2),
        random_state=0,
        max_iter=100,
        tol=1e-2,  # a start, not a fit: the weights will move anyway
    )
    _quietly(fitted.fit, values[:, None])
    deviations = np.sqrt(fitted.covariances_.ravel())
    return _without_spike(weights, fitted.means_.ravel(), deviations, fitted.weights_, spike)


def _paper(weights: Tensor, slabs: int, deviation: float, spike: bool) -> InitialSlabs:
    """Evenly over the range, each as wide as its neighbours are apart.

    Ullrich et al. 2017, sec. 4.1: "each Gaussian has significant probability mass in its region";
    the paper gives no number. ``deviation`` is used where there is no neighbour.
    """
    means = _range(weights, slabs, deviation, spike).means
    return _even(means, float(means[1] - means[0]) if slabs > 1 else deviation)


def _multiples(weights: Tensor, slabs: int, deviation: float, spike: bool) -> InitialSlabs:
    """Evenly around the spike, at multiples of one step: of which rounding loses least.

    As many below 0 as above it; of an odd number one more above. The outermost is at the
    ``COVERED`` quantile of the weights' sizes.
    """
    above = (slabs + 1) // 2
    multiples = torch.arange(above - slabs, above + 1, dtype=weights.dtype, device=weights.device)
    ordered = weights.abs().sort().values  # torch.quantile refuses more than 16 million values
    reach = ordered[int(COVERED * (len(ordered) - 1))]
    return _even(multiples[multiples != 0] * (reach if reach > 0 else deviation) / above, deviation)


INITIALIZATIONS: dict[str, Callable[[Tensor, int, float, bool], InitialSlabs]] = {
    "range": _range,
    "equal_mass": _equal_mass,
    "k_means": _k_means,
    "em": _em,
    "paper": _paper,
    "multiples": _multiples,
}


def _even(means: Tensor, deviation: float) -> InitialSlabs:
    """All of one deviation and of one share."""
    ones = torch.ones_like(means)
    return InitialSlabs(means, deviation * ones, ones / len(means), deviation * ones[0])


def _without_spike(
    weights: Tensor, means: np.ndarray, deviations: np.ndarray, shares: np.ndarray, spike: bool
) -> InitialSlabs:
    """The components by ascending mean; the one nearest 0 gives the spike its deviation."""
    order = means.argsort()
    at = order[np.abs(means[order]).argmin()]
    kept = order[order != at] if spike else order
    own = shares[kept] + 1e-6  # an empty cluster must be able to come back
    values = (means[kept], deviations[kept], own / own.sum(), deviations[at])
    return InitialSlabs(*(torch.as_tensor(v).to(weights) for v in values))


def _apart(means: Tensor, deviation: float) -> Tensor:
    """Ascending means, equal ones spread a hundredth of a deviation apart."""
    means = means.sort().values
    if len(means) > 1 and bool((means.diff() <= 0).any()):
        steps = torch.arange(len(means), dtype=means.dtype, device=means.device)
        return means + 0.01 * deviation * (steps - (len(means) - 1) / 2)
    return means


def _quantiles(weights: Tensor) -> np.ndarray:
    """At most MOST_QUANTILES of the sorted weights, evenly spaced, in double precision."""
    ordered = weights.detach().double().sort().values.cpu().numpy()
    if len(ordered) <= MOST_QUANTILES:
        return ordered
    at = np.linspace(0, len(ordered) - 1, MOST_QUANTILES).round().astype(int)
    return ordered[at]


def _cluster(values: np.ndarray, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) and centres (K,) of k-means, the best of a few starts; deterministic."""
    if len(np.unique(values)) < clusters:  # fewer points than centres: spread them over the range
        middle, half = values.mean(), np.abs(values - values.mean()).max() or 1.0
        centres = middle + half * np.linspace(-1, 1, clusters)
        return np.abs(values[:, None] - centres).argmin(1), centres
    fitted = _scikit("cluster").KMeans(clusters, n_init=STARTS, random_state=0)
    _quietly(fitted.fit, values[:, None])
    return fitted.labels_, fitted.cluster_centers_.ravel()


def _quietly(fit: Callable, values: np.ndarray) -> None:
    """A start need not have converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(values)


def _scikit(module: str) -> ModuleType:
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        remedy = "pip install 'pyro-sws[digits]', or choose 'range', 'equal_mass' or 'paper'"
        raise ImportError(f"this initialization needs scikit-learn: {remedy}") from error
