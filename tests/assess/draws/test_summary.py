"""The table is numpy's formulas and ArviZ's own, under either major, and refuses a point."""

import logging

import numpy as np
import pytest
from scipy.stats import norm, rankdata

from pyro_sws.assess.draws.inference_data import arviz, as_arviz, before_1, inference_data
from pyro_sws.assess.draws.summary import MCMC, hdi, summary

RNG = np.random.default_rng(1)
DRAWS = RNG.normal(size=(4, 300, 2)) + RNG.normal(scale=0.2, size=(4, 1, 2))
SKEWED = RNG.gamma(1.5, size=(4, 300))
COLUMNS = "mean sd hdi_low hdi_high ess_bulk ess_tail r_hat mcse".split()


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def tree(method="nuts", **posterior):
    posterior = posterior or {"means": DRAWS, "precision": SKEWED}
    dims, coords = {"means": ["component"]}, {"component": ["spike", "slab"]}
    given = dims if "means" in posterior else None
    return inference_data(
        {"posterior": posterior},
        inference_method=method,
        dims=given,
        coords=coords if given else None,
    )


def split_rhat(x):
    """Between and within halves of chains; Gelman et al. 2013, eqs. 11.1-11.4."""
    halves = np.concatenate(np.split(x, 2, axis=1))
    n = halves.shape[1]
    between, within = n * halves.mean(1).var(ddof=1), halves.var(1, ddof=1).mean()
    return np.sqrt(((n - 1) / n * within + between / n) / within)


def rank_rhat(x):
    """Of normal scores of the draws, and of how far from the median; Vehtari et al. 2021."""

    def scores(z):
        return norm.ppf((rankdata(z).reshape(z.shape) - 0.375) / (z.size + 0.25))

    return max(split_rhat(scores(x)), split_rhat(scores(abs(x - np.median(x)))))


def test_the_table_is_numpy_s_formulas():
    table = summary(tree())
    assert list(table.columns) == COLUMNS
    assert list(table.index) == ["means[spike]", "means[slab]", "precision"]
    for row, x in zip(table.itertuples(), [*np.moveaxis(DRAWS, 2, 0), SKEWED], strict=True):
        assert row.mean == pytest.approx(x.mean(), rel=1e-12)
        assert row.sd == pytest.approx(x.std(ddof=1), rel=1e-12)
        assert row.r_hat == pytest.approx(rank_rhat(x), rel=1e-9)
        assert np.mean((x >= row.hdi_low) & (x <= row.hdi_high)) == pytest.approx(0.94, abs=0.002)
        ordered = np.sort(x.ravel())
        inside = int(np.floor(0.94 * x.size))
        assert row.hdi_high - row.hdi_low == pytest.approx(
            (ordered[inside:] - ordered[:-inside]).min(), rel=1e-12
        )


def test_the_table_is_arviz_s_own():
    az, table = arviz(), summary(tree())
    if before_1(az):
        own = az.summary(as_arviz(tree()), hdi_prob=0.94, round_to="none")
        low, high = "hdi_3%", "hdi_97%"
    else:
        own = az.summary(as_arviz(tree()), ci_prob=0.94, ci_kind="hdi", round_to="none")
        low, high = "hdi94_lb", "hdi94_ub"
    assert list(own.index) == list(table.index)
    columns = {"hdi_low": low, "hdi_high": high, "mcse": "mcse_mean"}
    for column in COLUMNS:
        if column != "ess_tail" or before_1(az):  # ArviZ 1 takes other quantiles than the paper
            theirs = own[columns.get(column, column)]
            np.testing.assert_allclose(table[column], theirs, rtol=1e-12, err_msg=column)


def test_correlated_draws_count_for_fewer(rng):
    rho, draws = 0.8, 5000
    chains = np.zeros((4, draws))
    noise = rng.normal(size=chains.shape) * np.sqrt(1 - rho**2)
    chains[:, 0] = rng.normal(size=4)
    for t in range(1, draws):
        chains[:, t] = rho * chains[:, t - 1] + noise[:, t]
    row = summary(tree(x=chains)).loc["x"]
    effective = chains.size * (1 - rho) / (1 + rho)  # closed form of an AR(1)
    # The sum of autocorrelations up to lag L has a relative error near sqrt(2 L / S): 5 of them.
    assert row.ess_bulk == pytest.approx(effective, rel=5 * np.sqrt(2 * 20 / chains.size))
    assert row.mcse == pytest.approx(effective**-0.5, rel=5 * np.sqrt(20 / 2 / chains.size) + 0.05)


def test_the_tail_is_that_of_the_paper_under_both_majors(rng):
    x = np.sort(rng.normal(size=(2, 400)), axis=1)  # a trend: tails and bulk differ
    x = 0.5 * x + rng.normal(size=x.shape)
    az = arviz()
    each = []
    for prob in (0.05, 0.95):
        below = (x <= np.quantile(x, prob)).astype(float)
        each.append(float(np.squeeze(az.ess(below, method="mean"))))
    assert summary(tree(x=x)).loc["x", "ess_tail"] == pytest.approx(min(each), rel=1e-9)


@pytest.mark.parametrize("method", ["delta_normal", "normal", "laplace"])
def test_chains_of_a_guide_have_no_r_hat(method):
    table = summary(tree(method))
    assert table["r_hat"].isna().all() and table.drop(columns="r_hat").notna().all(axis=None)


@pytest.mark.parametrize("method", MCMC)
def test_one_markov_chain_has_no_r_hat_and_two_have(method):
    assert summary(tree(method, x=DRAWS[:1, :, 0]))["r_hat"].isna().all()
    assert summary(tree(method, x=DRAWS[:2, :, 0]))["r_hat"].notna().all()


def test_a_scalar_that_never_moves_has_no_effective_sample_size(caplog):
    with caplog.at_level(logging.DEBUG):
        table = summary(tree(fixed=np.full((4, 300), 0.999), x=SKEWED))
    fixed = table.loc["fixed"]
    assert (fixed["hdi_low"], fixed["hdi_high"]) == (0.999, 0.999)
    assert fixed["sd"] == pytest.approx(0, abs=1e-12)
    assert fixed[["ess_bulk", "ess_tail", "r_hat", "mcse"]].isna().all()
    assert table.loc["x"].notna().all() and not caplog.records


@pytest.mark.parametrize(
    ("given", "draws"),
    [(("delta", (1, 1)), "1 x 1"), (("nuts", (1, 1)), "1 x 1"), (("delta", (4, 9)), "4 x 9")],
)
def test_a_point_is_refused(given, draws, rng):
    method, shape = given
    with pytest.raises(ValueError, match=f"a point has no spread.*'{method}', {draws} draws"):
        summary(tree(method, x=rng.normal(size=shape)))


def test_what_cannot_be_summed_up_is_named():
    with pytest.raises(ValueError, match="needs 4 draws or more a chain, got 3"):
        summary(tree(x=np.zeros((4, 3))))
    with pytest.raises(ValueError, match="no variable 'y'; choose from means, precision"):
        summary(tree(), ["y"])
    with pytest.raises(ValueError, match=r"posterior\['x'\] has 1 entries that are not finite"):
        summary(tree(x=np.array([[0, 1, 2, np.nan]])))
    with pytest.raises(ValueError, match="ci_prob must lie between 0 and 1, got 94"):
        summary(tree(), ci_prob=94)


def test_the_shortest_interval_of_a_skewed_density_leaves_out_its_tail():
    quantiles = -np.log1p(-(np.arange(10_000) + 0.5) / 10_000)  # of an exponential: [0, -log 0.06]
    ((low, high),) = hdi(quantiles[None, :, None], 0.94)
    assert (low, high) == pytest.approx((0, -np.log(0.06)), abs=0.01)
