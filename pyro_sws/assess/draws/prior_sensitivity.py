"""What the prior contributes: overlap with the posterior, and what scaling it moves. By ArviZ."""

import warnings
from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike

from pyro_sws.assess.draws.inference_data import SAMPLE_DIMS, arviz, as_arviz, before_1
from pyro_sws.assess.draws.psis import check_enough
from pyro_sws.assess.draws.scalar_draws import check_spread, group_of, scalar_draws

# Small enough for the weights to be nearly 1, as in Kallioinen et al. 2023. ArviZ 0.23 takes 1.01
# and its inverse, and ArviZ 1 any two: these are what both can do.
DELTA: Final = 0.01
POWERS: Final = (1 / (1 + DELTA), 1 + DELTA)


def overlap(a: ArrayLike, b: ArrayLike) -> float:
    """Integral of min(p, q), from draws of p and of q: 1 for equal densities, 0 for disjoint ones.

    A histogram of even shares: bins hold equal shares of both sets together, so the value is
    the same for any monotone function of the draws, as the log of a precision. There are about
    n^(1/3) bins for the n draws of the smaller set. Their noise lowers the value, for n draws each
    of one density by about 0.56 sqrt(bins / n): 0.04 at 4,000 draws, 0.1 at 200. Their width raises
    it where p and q cross steeply: by 0.03 at 4,000 draws of Normals of deviations 1 and 0.05.
    Raises ValueError for fewer than two draws, or draws that are not finite.
    """
    a, b = np.asarray(a, float).ravel(), np.asarray(b, float).ravel()
    fewer = min(len(a), len(b))
    if fewer < 2:
        raise ValueError(f"an overlap needs two draws or more of each, got {len(a)} and {len(b)}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("an overlap needs finite draws")
    bins = 2 * int(np.ceil(fewer ** (1 / 3) / 2))  # even: an edge then parts two disjoint sets
    _, rank = np.unique(np.concatenate([a, b]), return_inverse=True)
    mass = np.bincount(rank, np.repeat([0.5 / len(a), 0.5 / len(b)], [len(a), len(b)]))
    middle = np.cumsum(mass) - mass / 2  # equal draws are of one bin
    index = np.minimum((bins * middle).astype(int), bins - 1)[rank]
    shares = (np.bincount(part, minlength=bins) / len(part) for part in np.split(index, [len(a)]))
    return float(np.minimum(*shares).sum())


def prior_posterior_overlap(tree: xr.DataTree, var_names: Sequence[str] | None = None) -> pd.Series:
    """``overlap`` of prior and posterior draws of each scalar that both groups have.

    Near 1 the data said nothing about it; near 0 they settled it, or contradict its prior: look at
    both densities. Raises ValueError for a point estimate, or where a variable that is named is not
    in both groups.
    """
    check_spread(tree, "an overlap of prior and posterior")
    if var_names is None:
        prior = group_of(tree, "prior").data_vars
        var_names = [str(v) for v in group_of(tree, "posterior").data_vars if v in prior]
    before, after = (scalar_draws(tree, var_names, group) for group in ("prior", "posterior"))
    if before.labels != after.labels:
        raise ValueError(
            f"prior and posterior differ in shape: {len(before.labels)} and {len(after.labels)} "
            f"scalars in {', '.join(var_names)}"
        )
    pairs = zip(before.flat.T, after.flat.T, strict=True)
    return pd.Series([overlap(p, q) for p, q in pairs], list(after.labels), name="overlap")


def prior_sensitivity(tree: xr.DataTree, var_names: Sequence[str] | None = None) -> pd.DataFrame:
    """How much each posterior moves as its prior or the likelihood is raised to a power.

    Columns prior and likelihood are ``power_scaling`` of all of the group ``log_prior`` and
    ``log_likelihood``, added up draw by draw. Kallioinen et al. 2023 call values below 0.05 small.
    Prior and likelihood both above: they may conflict; prior above and likelihood below: the prior
    is strong or the data weak. Under a hierarchy ``log_prior`` should have the hyperpriors' log
    densities alone: the weights' density given them is what is learned.

    Columns prior_chance and likelihood_chance are the same with the densities' values dealt out
    anew over the draws: what finitely many draws give a scalar of which a density says nothing. It
    grows with the density's spread over draws; where there are many hyperparameters at once, only
    values well above it mean anything. Raises ValueError for a point estimate and for fewer than 25
    draws.
    """
    check_spread(tree, "a sensitivity to the prior")
    scalars, rng = scalar_draws(tree, var_names), np.random.default_rng(0)
    columns = {}
    for name in ("prior", "likelihood"):
        density = _total(tree, f"log_{name}")
        dealt_anew = rng.permutation(density.ravel()).reshape(density.shape)
        columns[name] = power_scaling(scalars.values, density)
        columns[f"{name}_chance"] = power_scaling(scalars.values, dealt_anew)
    return pd.DataFrame(columns, index=list(scalars.labels))


def power_scaling(draws: np.ndarray, log_density: np.ndarray) -> np.ndarray:
    """Distance that posteriors move as exp(log_density) is raised to a power.

    Draws (chain, draw, E) and log densities in nats (chain, draw) -> (E,). By ArviZ: ``psens`` of
    0.23, ``psense`` of 1. The mean over ``POWERS`` of distance / |log2 power|, the distance being
    the cumulative Jensen-Shannon one (Nguyen & Vreeken 2015) of the draws as they are and with
    weights exp((power - 1) log_density), smoothed by PSIS; Kallioinen, Paananen, Bürkner & Vehtari
    2023. The majors smooth different tails: their values differ by 0.3 %, and by 2 % where they are
    above 1. 0 for a scalar or a density that is the same in all draws; NaN where ArviZ 1 finds a
    tail of the density whose values are all alike. Raises ValueError for fewer than 25 draws.
    """
    check_enough(log_density.size)
    moved = np.zeros(draws.shape[-1])
    varies = np.ptp(draws, axis=(0, 1)) > 0  # ArviZ has 0 / 0 for the others
    if np.ptp(log_density) == 0 or not varies.any():
        return moved
    groups = {
        "posterior": xr.Dataset({"draws": ((*SAMPLE_DIMS, "entry"), draws[..., varies])}),
        "log_prior": xr.Dataset({"density": (SAMPLE_DIMS, log_density)}),
    }
    moved[varies] = _by_arviz(xr.DataTree.from_dict(groups))
    return moved


def _by_arviz(tree: xr.DataTree) -> np.ndarray | float:
    az = arviz()
    with warnings.catch_warnings():
        # Of chains that mix badly: a tail of more than half the draws is cut to half.
        warnings.filterwarnings("ignore", "Number of tail draws")
        if before_1(az):
            return az.psens(as_arviz(tree), component="prior", delta=DELTA)["draws"].values
        try:
            return az.psense(tree, group="prior", alphas=POWERS)["draws"].values
        except ValueError as error:
            if "tail values" not in str(error):
                raise
            return np.nan


def _total(tree: xr.DataTree, group: str) -> np.ndarray:
    """All of a group's log densities, added up draw by draw in doubles; (chain, draw)."""
    dataset = group_of(tree, group)
    arrays = [dataset[name].transpose(*SAMPLE_DIMS, ...).values for name in dataset.data_vars]
    return sum(a.reshape(*a.shape[:2], -1).sum(2, dtype=float) for a in arrays)
