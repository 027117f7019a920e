"""Summary of posterior draws: mean, deviation, interval and how far to trust them. By ArviZ."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from pyro_sws.assess.draws.inference_data import arviz
from pyro_sws.assess.draws.scalar_draws import check_spread, scalar_draws

MCMC = ("mcmc", "nuts", "hmc")  # the inference methods whose chains are Markov chains
FEWEST_DRAWS = 4  # a chain: an effective sample size splits each into two halves of two


def summary(
    tree: xr.DataTree, var_names: Sequence[str] | None = None, *, ci_prob: float = 0.94
) -> pd.DataFrame:
    """A row for each scalar of the posterior, the same under either ArviZ, and not rounded.

    Columns: mean, sd, hdi_low and hdi_high (the shortest interval that holds ``ci_prob`` of the
    draws), ess_bulk and ess_tail (the latter of the 5 % and 95 % quantiles), r_hat, mcse (of the
    mean). r_hat (rank-normalised, split; Vehtari et al. 2021) is NaN unless the tree says that
    its two or more chains are Markov chains: independent draws of a guide agree whatever they
    are. Of a scalar whose draws are all alike the last four are NaN. Raises ValueError for a point
    estimate, and for fewer than 4 draws a chain.
    """
    check_spread(tree, "a table of effective sample sizes")
    if not 0 < ci_prob < 1:
        raise ValueError(f"ci_prob must lie between 0 and 1, got {ci_prob}")
    scalars = scalar_draws(tree, var_names)
    chains, draws = scalars.values.shape[:2]
    if draws < FEWEST_DRAWS:
        raise ValueError(f"a summary needs {FEWEST_DRAWS} draws or more a chain, got {draws}")
    az, flat = arviz(), scalars.flat
    low, high = hdi(scalars.values, ci_prob).T
    table = {"mean": flat.mean(0), "sd": flat.std(0, ddof=1), "hdi_low": low, "hdi_high": high}
    varies = np.ptp(flat, axis=0) > 0

    def diagnostic(by: Callable, **settings) -> np.ndarray:
        column = np.full(len(scalars.labels), np.nan)
        if varies.any():
            column[varies] = by(_dataset(scalars.values[..., varies]), **settings)["draws"].values
        return column

    table["ess_bulk"] = diagnostic(az.ess, method="bulk")
    # ArviZ 1 would take these at the ends of its own default interval.
    table["ess_tail"] = diagnostic(az.ess, method="tail", prob=(0.05, 0.95))
    real = chains > 1 and tree.attrs.get("inference_method") in MCMC
    table["r_hat"] = diagnostic(az.rhat, method="rank") if real else np.nan
    table["mcse"] = diagnostic(az.mcse, method="mean")
    return pd.DataFrame(table, index=list(scalars.labels))


def hdi(values: np.ndarray, prob: float) -> np.ndarray:
    """Ends of the shortest interval with ``prob`` of the draws; (chain, draw, E) -> (E, 2)."""
    # The second argument is hdi_prob in ArviZ 0.23, and prob in ArviZ 1.
    return arviz().hdi(_dataset(values), prob)["draws"].values


def _dataset(values: np.ndarray) -> xr.Dataset:
    return xr.Dataset({"draws": (("chain", "draw", "entry"), values)})
