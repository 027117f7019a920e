"""Laplace's draws against the exact posterior of a Gaussian's precision, and scipy's Normal."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_sws.assess.draws.psis import psis_khat
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters
from pyro_sws.inference.hyperposterior.target import hyperposterior
from pyro_sws.inference.hyperpriors import Gamma, Normal
from pyro_sws.inference.priors import GaussianPrior, SpikeAndSlabs
from pyro_sws.weights.group import Group

W = 0.2 * torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
SHAPE, RATE = 3 + len(W) / 2, 0.1 + (W**2).sum().item() / 2


def given(prior, weights=W):
    group = Group("all", {"w": tuple(weights.shape)}, weights.dtype)
    return hyperposterior(prior, group, {**prior.start(group, weights), "all.weights": weights})


@pytest.fixture(scope="module")
def precision():
    return laplace_hyperparameters(given(GaussianPrior(Gamma(3.0, 0.1))), draws=4000)


def test_log_precisions_are_normal_at_the_mode_with_its_curvature(precision):
    """u = log x of a Gamma(a, b): -log density b e^u - a u has its mode at log(a / b), curvature a.

    Of the precision itself the mode would be (a - 1) / b: the Jacobian is in it.
    """
    u = precision.vectors.flatten().numpy()
    exact = stats.norm(np.log(SHAPE / RATE), SHAPE**-0.5)
    assert stats.kstest(u, exact.cdf).pvalue > 1e-3
    # Newton's steps end where they gain less than 1e-6 nats: within 0.0015 deviations of the mode.
    np.testing.assert_allclose(precision.log_q.flatten(), exact.logpdf(u), atol=0.0015 * 5)
    np.testing.assert_allclose(precision.sites["all.precision"].flatten(), np.exp(u))
    logs = stats.gamma(SHAPE, scale=1 / RATE).logpdf(np.exp(u)) + u
    assert np.ptp(precision.log_density.flatten().numpy() - logs) < 1e-8
    assert precision.vectors.shape == (1, 4000, 1) and precision.floored == 0


def test_k_hat_is_small_where_the_posterior_is_nearly_normal(precision):
    stat = precision.stats
    assert psis_khat(stat["log_p"] - stat["log_q"]) < 0.5


def test_a_mean_s_posterior_is_normal_so_that_weights_are_all_alike():
    w = 0.1 + W
    target = given(SpikeAndSlabs(1, 0.0, 9.0, 400.0, "equal", Normal(0.05)), w)
    found = laplace_hyperparameters(target, draws=500)
    precision = 0.05**-2 + len(w) * 400
    exact = stats.norm(400 * w.sum().item() / precision, precision**-0.5)
    np.testing.assert_allclose(found.log_q.flatten(), exact.logpdf(found.vectors.flatten()))
    assert np.ptp((found.log_density - found.log_q).numpy()) < 1e-8


def test_a_flat_direction_is_as_wide_as_the_floor():
    prior = SpikeAndSlabs(1, 0.0, 9.0, 1e-4, "equal", Normal(1e3))
    w = W[:1]
    found = laplace_hyperparameters(given(prior, w), draws=4000, floor=0.25)
    assert found.floored == 1
    assert found.vectors.std().item() == pytest.approx(2.0, rel=0.05)


def test_seeds_decide_the_draws_and_the_caller_s_generator_stays():
    target = given(GaussianPrior(Gamma(3.0, 0.1)))
    before = torch.get_rng_state()
    one, two, other = (laplace_hyperparameters(target, draws=5, seed=s) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.vectors, two.vectors) and not torch.equal(one.vectors, other.vectors)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="draws must be a whole number >= 1, got 0"):
        laplace_hyperparameters(given(GaussianPrior(Gamma(3.0, 0.1))), draws=0)
