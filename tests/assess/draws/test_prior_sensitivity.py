"""Overlap is that of two Normals; power-scaling sensitivity is that of a conjugate Normal model."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import norm

from pyro_sws.assess.draws.inference_data import arviz, before_1, inference_data
from pyro_sws.assess.draws.prior_sensitivity import (
    POWERS,
    overlap,
    power_scaling,
    prior_posterior_overlap,
    prior_sensitivity,
)

NOISE = 1.0  # y ~ N(theta, NOISE^2), theta ~ N(0, prior^2)
Y = np.random.default_rng(5).normal(2.0, NOISE, size=8)


def quantiles(mean, deviation, draws=4000):
    """Draws of a Normal without noise, in random order."""
    found = norm.ppf((np.arange(draws) + 0.5) / draws, mean, deviation)
    return np.random.default_rng(6).permutation(found)


def powered(prior, prior_power=1.0, likelihood_power=1.0):
    """Mean and deviation of theta given Y, in closed form."""
    precision = prior_power * prior**-2 + likelihood_power * len(Y) / NOISE**2
    return likelihood_power * Y.sum() / NOISE**2 / precision, precision**-0.5


def tree(prior, theta, method="nuts"):
    groups = {
        "posterior": {"theta": theta},
        "prior": {"theta": quantiles(0, prior)[None]},
        "log_prior": {"theta": norm.logpdf(theta, 0, prior)},
        "log_likelihood": {"y": norm.logpdf(Y, theta[..., None], NOISE)},
    }
    return inference_data(groups, inference_method=method)


def normal_overlap(mean, deviation):
    """Of N(0, 1) and N(mean, deviation^2), by their densities."""
    x = np.linspace(-12, 12 + mean, 200_001)
    return trapezoid(np.minimum(norm.pdf(x), norm.pdf(x, mean, deviation)), x)


def test_the_reference_is_the_closed_form_of_equal_deviations():
    assert normal_overlap(1.2, 1) == pytest.approx(2 * norm.cdf(-0.6), abs=1e-9)


@pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (0.5, 1), (1.2, 1), (4, 1), (0, 3)])
def test_overlap_is_that_of_two_normals(mean, deviation):
    found = overlap(quantiles(0, 1), quantiles(mean, deviation))
    # Without noise, what is left is in the bins where p and q cross, of 1/16 each.
    assert found == pytest.approx(normal_overlap(mean, deviation), abs=0.01)


@pytest.mark.parametrize(("mean", "deviation"), [(0, 0.05), (1, 0.3)])
def test_overlap_with_a_narrow_normal_gets_there_with_more_bins(mean, deviation):
    exact, excess = normal_overlap(mean, deviation), []
    for draws in (4000, 100_000):
        found = overlap(quantiles(0, 1, draws), quantiles(mean, deviation, draws))
        excess.append(found - exact)
    # A bin mixes p and q on both sides of a crossing: the value errs upwards, as documented.
    assert -1e-4 < excess[1] < 0.01 < excess[0] < 0.035


def test_the_overlap_of_random_draws_is_lower_by_no_more_than_is_said():
    rng, draws, bins = np.random.default_rng(7), 1000, 10
    found = [overlap(*rng.normal(size=(2, draws))) for _ in range(200)]
    assert 1 - np.mean(found) == pytest.approx(0.56 * np.sqrt(bins / draws), rel=0.1)


def test_overlap_is_the_same_in_logs_and_does_not_mind_which_is_which():
    rng = np.random.default_rng(8)
    a, b = rng.gamma(5, size=600), rng.gamma(9, size=1500)
    assert 0.3 < overlap(a, b) < 0.8
    assert overlap(np.log(a), np.log(b)) == overlap(b, a) == overlap(a, b)


def test_overlap_of_different_numbers_of_draws_weighs_both_alike():
    found = overlap(quantiles(0, 1, 1000), quantiles(1.2, 1, 20_000))
    assert found == pytest.approx(2 * norm.cdf(-0.6), abs=0.02)


def test_overlap_is_one_for_the_same_draws_and_zero_for_disjoint_ones():
    x = quantiles(0, 1, 501)
    assert overlap(x, x) == pytest.approx(1, abs=1e-12)
    assert overlap(x, x + 100) == 0
    assert overlap(x, quantiles(100, 1, 20)) == 0
    assert overlap(np.full(50, 0.999), np.full(50, 0.999)) == 1
    assert overlap(np.full(50, 0.999), np.full(50, 0.9)) == 0


def test_overlaps_go_by_scalar():
    groups = {
        "prior": {"x": np.stack([quantiles(0, 1)] * 2, -1)[None], "z": quantiles(0, 1)[None]},
        "posterior": {"x": np.stack([quantiles(0, 1), quantiles(4, 1)], -1)[None]},
    }
    found = prior_posterior_overlap(inference_data(groups, inference_method="normal"))
    assert list(found.index) == ["x[0]", "x[1]"]
    np.testing.assert_allclose(found, [1, 2 * norm.cdf(-2)], atol=0.01)


def closed_form_distance(before, after, low, high):
    """Square root of the symmetric cumulative Jensen-Shannon divergence of two Normals."""
    x = np.linspace(low, high, 100_001)
    each = []
    for sign in (1, -1):
        p, q = (norm.cdf(sign * (x - mean) / deviation) for mean, deviation in (before, after))
        m = (p + q) / 2
        both = p * np.log2(p / m) + q * np.log2(q / m)
        each.append(np.sqrt(trapezoid(both, x) / trapezoid(p + q, x)))
    return max(each)


@pytest.mark.parametrize("prior", [20.0, 1.0, 0.25])
def test_sensitivity_is_that_of_the_conjugate_model(prior):
    theta = quantiles(*powered(prior), draws=20_000)
    (found,) = prior_sensitivity(tree(prior, theta[None])).itertuples()
    ends = theta.min(), theta.max()
    for name in ("prior", "likelihood"):
        slopes = [
            closed_form_distance(powered(prior), powered(prior, **{f"{name}_power": power}), *ends)
            / abs(np.log2(power))
            for power in POWERS
        ]
        assert getattr(found, name) == pytest.approx(np.mean(slopes), rel=0.02), name


def test_a_wide_prior_says_little_and_a_narrow_one_conflicts():
    wide, narrow = (
        prior_sensitivity(tree(prior, quantiles(*powered(prior))[None])).loc["theta"]
        for prior in (20.0, 0.25)
    )
    assert wide["prior"] < 0.05 < wide["likelihood"]
    assert narrow["prior"] > 0.05 and narrow["likelihood"] > 0.05


def test_chance_is_what_a_density_gives_that_says_nothing_of_the_scalar():
    rng = np.random.default_rng(11)
    theta = rng.normal(*powered(0.25), size=4000)
    own = tree(0.25, theta[None])
    spread = {"theta": 30 * rng.normal(size=(1, 4000))}  # of hundreds of other hyperparameters
    noisy = {"posterior": {"theta": theta[None]}, "log_prior": spread}
    noisy["log_likelihood"] = {"y": own["log_likelihood"].to_dataset()["y"].values}
    found = prior_sensitivity(inference_data(noisy, inference_method="normal")).loc["theta"]
    assert 0.3 < found["prior"] / found["prior_chance"] < 3
    real = prior_sensitivity(own).loc["theta"]
    assert real["prior"] > 4 * real["prior_chance"]
    assert real["likelihood"] > 4 * real["likelihood_chance"]


def test_sensitivity_adds_up_variables_and_their_entries_as_one_density():
    theta = np.random.default_rng(9).normal(*powered(1.0), size=(4, 500))
    own = tree(1.0, theta)
    each = own["log_likelihood"]["y"].values
    halves = {"posterior": {"theta": theta}, "log_prior": {"a": np.zeros((4, 500))}}
    halves["log_prior"]["b"] = own["log_prior"]["theta"].values
    halves["log_likelihood"] = {"y": each[..., :3], "z": each[..., 3:].reshape(4, 500, 5, 1)}
    found = prior_sensitivity(inference_data(halves, inference_method="nuts"))
    np.testing.assert_allclose(found, prior_sensitivity(own), rtol=1e-6)


def test_a_density_or_scalar_that_does_not_vary_moves_nothing():
    draws = np.stack([quantiles(0, 1, 400), np.full(400, 3.0)], axis=1)[None]
    assert power_scaling(draws, np.full((1, 400), -7.0)).tolist() == [0, 0]
    alone, both = (power_scaling(d, norm.logpdf(draws[..., 0])) for d in (draws[..., :1], draws))
    assert both.tolist() == [*alone, 0]


def test_a_density_whose_tail_is_flat_has_no_sensitivity_or_one_that_is_not_smoothed():
    x = quantiles(0, 1, 400)[None]
    (found,) = power_scaling(x[..., None], np.minimum(norm.logpdf(x), norm.logpdf(0.7)))
    assert 0 < found < 0.1 if before_1(arviz()) else np.isnan(found)


def test_draws_that_are_too_few_to_smooth_are_refused():
    with pytest.raises(ValueError, match="needs 25 draws or more, got 24"):
        power_scaling(np.zeros((2, 12, 1)), np.zeros((2, 12)))


def test_a_point_and_what_is_missing_are_named():
    theta = quantiles(0, 1)[None]
    for judge in (prior_posterior_overlap, prior_sensitivity):
        with pytest.raises(ValueError, match="a point has no spread"):
            judge(tree(1.0, theta, "delta"))
    bare = inference_data({"posterior": {"x": theta}}, inference_method="nuts")
    with pytest.raises(ValueError, match="no group 'prior'; its groups: posterior"):
        prior_posterior_overlap(bare)
    with pytest.raises(ValueError, match="no group 'log_prior'"):
        prior_sensitivity(bare)
    shapes = {"posterior": {"x": theta}, "prior": {"x": theta[..., None]}}
    with pytest.raises(ValueError, match="prior and posterior differ in shape: 1 and 1 scalars"):
        prior_posterior_overlap(inference_data(shapes, inference_method="nuts"))
    with pytest.raises(ValueError, match="two draws or more of each, got 1 and 4000"):
        overlap([1.0], theta)
    with pytest.raises(ValueError, match="finite draws"):
        overlap([1.0, np.inf], theta)
