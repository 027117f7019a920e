"""Laplace's draws and their mode against exact posteriors, and starts where the bins fail."""

import numpy as np
import pytest
import torch
from scipy import stats

from pyro_sws.assess.draws.psis import psis_khat
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters, mode_of
from pyro_sws.inference.hyperposterior.target import hyperposterior
from pyro_sws.inference.hyperpriors import Dirichlet, Gamma, Normal
from pyro_sws.inference.priors import GaussianPrior, SpikeAndSlabs
from pyro_sws.weights.group import Group

W = 0.2 * torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
CLUSTERS = torch.cat([torch.full((100,), -0.5), torch.zeros(100), torch.full((100,), 0.5)]).double()
CLUSTERED = CLUSTERS + 0.03 * torch.randn(300, generator=torch.Generator().manual_seed(0)).double()
WIDE = SpikeAndSlabs(
    2, 0.3, Gamma(2.0, 1e-5), Gamma(2.0, 1e-5), Dirichlet(2.0), Normal(1.0), (-0.8, 0.9), 0.3
)
SHAPE, RATE = 3 + len(W) / 2, 0.1 + (W**2).sum().item() / 2


def given(prior, weights=W, **settings):
    group = Group("all", {"w": tuple(weights.shape)}, weights.dtype)
    point = {**prior.start(group, weights), "all.weights": weights}
    return hyperposterior(prior, group, point, **settings)


@pytest.fixture(scope="module")
def precision():
    return laplace_hyperparameters(given(GaussianPrior(Gamma(3.0, 0.1))), draws=4000)


@pytest.mark.integration
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


@pytest.mark.integration
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


@pytest.mark.integration
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


def test_the_mode_of_a_precision_is_that_of_its_gamma_in_the_logarithm():
    mode, curvatures, _ = mode_of(given(GaussianPrior(Gamma(3.0, 0.1)), CLUSTERED))
    shape, rate = 3 + 150, 0.1 + (CLUSTERED**2).sum().item() / 2
    assert mode.item() == pytest.approx(np.log(shape / rate), abs=1e-4)
    assert curvatures.item() == pytest.approx(shape, rel=1e-3)


@pytest.mark.integration
def test_a_start_far_too_wide_for_the_weights_is_refused():
    """Fourteen bins for three clusters: what holds for wide components within one fails for narrow.

    The binned density then grows without bound, by components that lie between bins.
    """
    with pytest.raises(ValueError, match="start at a fitted point"):
        mode_of(given(WIDE, CLUSTERED))


@pytest.mark.integration
def test_the_same_start_leads_to_the_mode_without_bins():
    target = given(WIDE, CLUSTERED, exact=True)
    mode, _, _ = mode_of(target)
    mixture = target.mixture(mode)
    assert sorted(mixture.means.tolist()) == pytest.approx([-0.5, 0, 0.5], abs=0.01)
    assert mixture.deviations.tolist() == pytest.approx([0.03] * 3, rel=0.2)
