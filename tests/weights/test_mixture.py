"""The mixture: density, responsibilities, divergence and draws, against oracles."""

import numpy as np
import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro.infer import config_enumerate, infer_discrete
from scipy import stats
from sklearn.mixture import GaussianMixture
from torch.distributions import Normal, kl_divergence

from pyro_sws.weights.mixture import Mixture


@pytest.fixture
def mixture():
    return Mixture(
        torch.tensor([0.0, 0.5, -0.3], dtype=torch.float64),
        torch.tensor([400.0, 100.0, 50.0], dtype=torch.float64),
        torch.tensor([0.8, 0.15, 0.05], dtype=torch.float64),
    )


W = torch.linspace(-1, 1, 401, dtype=torch.float64)


def test_density_integrates_to_one(mixture):
    grid = torch.linspace(-4, 4, 200_001, dtype=torch.float64)
    assert torch.trapezoid(mixture.log_prob(grid).exp(), grid).item() == pytest.approx(1, abs=1e-9)


def test_log_prob_is_scipys(mixture):
    rows = zip(mixture.means, mixture.deviations, mixture.proportions, strict=True)
    expected = np.log(sum(float(p) * stats.norm.pdf(W, m, s) for m, s, p in rows))
    np.testing.assert_allclose(mixture.log_prob(W), expected, rtol=1e-10)


def test_log_prob_keeps_the_shape(mixture):
    grid = W[:400].view(20, 20)
    torch.testing.assert_close(mixture.log_prob(grid), mixture.log_prob(W[:400]).view(20, 20))


def test_log_prob_can_be_vectorised_and_differentiated_twice(mixture):
    slopes = torch.func.vmap(torch.func.grad(mixture.log_prob))(W)
    w = W.clone().requires_grad_()
    (expected,) = torch.autograd.grad(mixture.log_prob(w).sum(), w, create_graph=True)
    torch.testing.assert_close(slopes, expected)
    (curvature,) = torch.autograd.grad(expected.sum(), w)
    found = torch.func.vmap(torch.func.grad(torch.func.grad(mixture.log_prob)))(W)
    torch.testing.assert_close(found, curvature)


def test_responsibilities_are_scikit_learns(mixture):
    oracle = GaussianMixture(3, covariance_type="spherical")
    oracle.weights_ = mixture.proportions.numpy()
    oracle.means_ = mixture.means.numpy()[:, None]
    oracle.covariances_ = 1 / mixture.precisions.numpy()
    oracle.precisions_cholesky_ = mixture.precisions.sqrt().numpy()
    expected = oracle.predict_proba(W[:, None].numpy())
    np.testing.assert_allclose(mixture.responsibilities(W), expected, rtol=1e-8, atol=1e-14)


def test_total_is_the_sum_of_the_parts(mixture):
    torch.testing.assert_close(mixture.total_log_prob(W), mixture.log_prob(W).sum())


def test_assignments_are_pyros_most_probable_ones(mixture):
    @infer_discrete(first_available_dim=-2, temperature=0)
    @config_enumerate
    def model():
        with pyro.plate("weights", len(W)):
            z = pyro.sample("z", dist.Categorical(mixture.proportions))
            pyro.sample("w", dist.Normal(mixture.means[z], mixture.deviations[z]), obs=W)
        return z

    values = mixture.levels[mixture.assign(W)]
    torch.testing.assert_close(values, mixture.means[model()])


def test_components_of_equal_mean_are_one_value_and_add_up():
    # Neither zero component alone beats the slab at this point; together they do.
    mixture = Mixture(
        torch.tensor([0.0, 0.0, 0.1]), torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.3, 0.3, 0.4])
    )
    assert mixture.levels.tolist() == [0.0, pytest.approx(0.1)]
    assert mixture.assign(torch.tensor([0.05])).tolist() == [0]


def test_kl_is_torchs(mixture):
    components = [Normal(m, s) for m, s in zip(mixture.means, mixture.deviations, strict=True)]
    expected = [[kl_divergence(p, q) for q in components] for p in components]
    torch.testing.assert_close(mixture.kl(), torch.tensor(expected, dtype=torch.float64))


def test_kl_of_a_component_with_itself_is_zero(mixture):
    assert mixture.kl().diagonal().abs().max() < 1e-14


def test_draws_follow_the_density(mixture):
    torch.manual_seed(0)
    draws = mixture.sample((4000,)).numpy()

    def cdf(x):
        rows = zip(mixture.means, mixture.deviations, mixture.proportions, strict=True)
        return sum(float(p) * stats.norm.cdf(x, float(m), float(s)) for m, s, p in rows)

    # One draw of a test statistic under a fixed seed; 1e-3 is its false-alarm rate over seeds.
    assert stats.kstest(draws, cdf).pvalue > 1e-3


def test_mean_is_that_of_many_draws(mixture):
    torch.manual_seed(0)
    draws = mixture.sample((100_000,))
    assert abs(draws.mean() - mixture.mean) < 5 * draws.std() / len(draws) ** 0.5


def test_a_dead_component_gives_no_nan():
    proportions = torch.tensor([1.0, 0.0], requires_grad=True)
    mixture = Mixture(torch.tensor([0.0, 1.0]), torch.tensor([4.0, 4.0]), proportions)
    mixture.total_log_prob(torch.tensor([0.1, 0.9])).backward()
    assert proportions.grad.isfinite().all()
