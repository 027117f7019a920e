"""Pareto-smoothed importance sampling: leave-one-out scores, and how near a guide is. By ArviZ."""

from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from pyro_sws.assess.draws.inference_data import SAMPLE_DIMS, arviz, before_1
from pyro_sws.assess.draws.scalar_draws import check_spread, group_of
from pyro_sws.assess.draws.summary import MCMC

FEWEST_DRAWS = 25  # the tail, a fifth of the draws, must be five or more


class LeaveOneOutSummary(TypedDict):
    """``leave_one_out`` of diagnostics.json, where there is a score."""

    elpd: float
    se: float
    p_loo: float
    unreliable: int
    good_k: float


@dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """Expected log density of each observation given the others, in nats.

    ``good_k`` is the k-hat up to which an estimate from so many draws is reliable.
    """

    elpd: float
    se: float  # of elpd, from the spread over the observations
    p_loo: float  # effective number of parameters: what seeing the observation itself is worth
    elpd_each: np.ndarray  # in the observations' own shape
    khat: np.ndarray
    good_k: float

    @property
    def unreliable(self) -> int:
        """How many observations have a k-hat above ``good_k``."""
        return int((self.khat > self.good_k).sum())

    def to_dict(self) -> LeaveOneOutSummary:
        """As JSON, without the observations one by one."""
        return {
            "elpd": self.elpd,
            "se": self.se,
            "p_loo": self.p_loo,
            "unreliable": self.unreliable,
            "good_k": float(self.good_k),
        }


def loo(tree: xr.DataTree, var_name: str | None = None) -> LeaveOneOut:
    """PSIS-LOO of a variable of ``log_likelihood`` (chain, draw, ...); Vehtari et al. 2017, 2024.

    Where ``sample_stats`` has ``log_p`` (the joint density at each draw, at tau = 1) and ``log_q``
    (the guide's), draws of a guide are first weighted to the posterior; Magnusson et al. 2019. Else
    they are taken to be draws of it. Raises ValueError for a point estimate, for fewer than 25
    draws, and where several variables are there and none is named.
    """
    check_spread(tree, "a leave-one-out score")
    array = _log_likelihood(tree, var_name)
    values = array.values.astype(float)
    log_likelihood = values.reshape(values.shape[0] * values.shape[1], -1).T
    to_posterior = _to_posterior(tree)
    log_weights, khat = psis(to_posterior - log_likelihood, _relative_ess(tree))
    each = logsumexp(log_weights + log_likelihood, axis=-1)
    seen = logsumexp(psis(to_posterior[None])[0] + log_likelihood, axis=-1)
    draws = len(to_posterior)
    return LeaveOneOut(
        elpd=float(each.sum()),
        se=float(np.sqrt(len(each) * each.var(ddof=1))) if len(each) > 1 else float("nan"),
        p_loo=float((seen - each).sum()),
        elpd_each=each.reshape(values.shape[2:]),
        khat=khat.reshape(values.shape[2:]),
        good_k=good_k(draws),
    )


def psis_khat(log_weights: ArrayLike) -> float:
    """k-hat of a guide's draws, from log p - log q at each (any shape); Yao et al. 2018.

    Below ``good_k`` the guide is near enough to correct by weights; above 1 its draws miss where
    the posterior is. Raises ValueError for fewer than 25 draws, and for weights all alike, as those
    of a delta guide.
    """
    flat = np.asarray(log_weights, float).ravel()
    if np.isnan(flat).any() or np.isposinf(flat).any() or np.isneginf(flat).all():
        raise ValueError("log weights must be below infinity, some of them finite, and none NaN")
    if np.ptp(flat) == 0:
        raise ValueError(
            "all log weights are alike, so there is no tail to fit: a delta guide has no spread to "
            "judge, and where log q is log p up to a constant nothing needs judging"
        )
    return float(psis(flat[None])[1][0])


def good_k(draws: int) -> float:
    """min(1 - 1 / log10(S), 0.7); Vehtari et al. 2024, section 3."""
    return min(1 - 1 / np.log10(draws), 0.7)


def psis(log_weights: np.ndarray, relative_ess: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Log weights (N, S) -> the same smoothed, each row's weights summing to 1, and k-hat (N,).

    Where the largest weights are all alike no tail can be fitted: such a row stays as it is, and
    has a k-hat of infinity. A row whose fitted tail overflows stays as it is, too. The majors'
    tails may differ by a draw, and a k-hat below 1 then by 0.01. Raises ValueError for fewer than
    25 draws.
    """
    draws = log_weights.shape[-1]
    check_enough(draws)
    smoothed = log_weights - logsumexp(log_weights, axis=-1, keepdims=True)
    khat = np.full(len(smoothed), np.inf)
    tail = int(min(draws / 5, 3 * np.sqrt(draws / relative_ess)))
    largest = np.sort(smoothed, axis=-1)[:, -tail:]
    rows = np.ptp(largest, axis=-1) > 0
    if rows.any():
        with np.errstate(over="ignore", invalid="ignore"):  # of a tail with a shape of a hundred
            log_tails, fitted = _psislw(smoothed[rows], relative_ess)
        whole = ~(np.isnan(log_tails) | np.isposinf(log_tails)).any(-1, keepdims=True)
        smoothed[rows] = np.where(whole, log_tails, smoothed[rows])
        khat[rows] = np.where(np.isnan(fitted), np.inf, fitted)
    return smoothed, khat


def check_enough(draws: int) -> None:
    """Raise ValueError for fewer draws than Pareto smoothing needs."""
    if draws < FEWEST_DRAWS:
        raise ValueError(f"Pareto smoothing needs {FEWEST_DRAWS} draws or more, got {draws}")


def _psislw(log_weights: np.ndarray, relative_ess: float) -> tuple[np.ndarray, np.ndarray]:
    az = arviz()
    if before_1(az):
        return az.psislw(log_weights, relative_ess)
    from arviz_stats.base import array_stats

    # ArviZ 1 takes log-likelihoods: the negative of the log weights.
    return array_stats.psislw(-log_weights, r_eff=relative_ess)


def _log_likelihood(tree: xr.DataTree, var_name: str | None) -> xr.DataArray:
    group = group_of(tree, "log_likelihood")
    names = [str(name) for name in group.data_vars]
    if var_name is None and len(names) > 1:
        raise ValueError(f"log_likelihood has several variables; choose one of {', '.join(names)}")
    name = names[0] if var_name is None else var_name
    if name not in names:
        raise ValueError(f"log_likelihood has no variable {name!r}; choose from {', '.join(names)}")
    array = group[name].transpose(*SAMPLE_DIMS, ...)
    if not np.isfinite(array.values).all():
        raise ValueError(f"log_likelihood[{name!r}] must be finite; a draw has ruled out the data")
    return array


def _to_posterior(tree: xr.DataTree) -> np.ndarray:
    """log p - log q at each draw, (S,); 0 where they are not known."""
    if {"log_p", "log_q"} <= set(tree["sample_stats"].data_vars if "sample_stats" in tree else ()):
        stats = tree["sample_stats"].to_dataset()
        return (
            (stats["log_p"] - stats["log_q"]).transpose(*SAMPLE_DIMS).values.ravel().astype(float)
        )
    sizes = tree["posterior"].sizes
    return np.zeros(sizes["chain"] * sizes["draw"])


def _relative_ess(tree: xr.DataTree) -> float:
    """Effective draws of a Markov chain for each of its draws, averaged as in ArviZ; else 1."""
    dataset = tree["posterior"].to_dataset()
    if dataset.sizes["chain"] == 1 or tree.attrs.get("inference_method") not in MCMC:
        return 1.0
    effective = arviz().ess(dataset, method="mean")
    each = np.concatenate([np.ravel(values) for values in effective.data_vars.values()])
    return float(each.mean()) / (dataset.sizes["chain"] * dataset.sizes["draw"])
