"""LOO is ArviZ's, and exact leave-one-out of a conjugate model; k-hat is that of known tails."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import norm

from pyro_sws.assess.draws.inference_data import arviz, as_arviz, before_1, inference_data
from pyro_sws.assess.draws.psis import good_k, loo, psis, psis_khat

NOISE, PRIOR = 1.0, 3.0  # y ~ N(theta, NOISE^2), theta ~ N(0, PRIOR^2)
Y = np.random.default_rng(2).normal(1.5, NOISE, size=20)


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def posterior(y):
    """Mean and deviation of theta given y, in closed form."""
    precision = len(y) / NOISE**2 + PRIOR**-2
    return y.sum() / NOISE**2 / precision, precision**-0.5


def exact_elpd():
    """log p(y_i | the others) of each i."""
    each = []
    for i in range(len(Y)):
        mean, deviation = posterior(np.delete(Y, i))
        each.append(norm.logpdf(Y[i], mean, np.hypot(deviation, NOISE)))
    return np.array(each)


def tree_of(theta, method="nuts", **stats):
    """The tree of draws of theta (chain, draw)."""
    groups = {
        "posterior": {"theta": theta},
        "log_likelihood": {"y": norm.logpdf(Y, theta[..., None], NOISE)},
    }
    return inference_data(
        groups | ({"sample_stats": stats} if stats else {}), inference_method=method
    )


def even_draws(mean, deviation, draws=4000):
    """A Normal's quantiles in random order, as one chain: draws without noise."""
    quantiles = norm.ppf((np.arange(draws) + 0.5) / draws, mean, deviation)
    return np.random.default_rng(4).permutation(quantiles)[None]


def test_elpd_is_exact_leave_one_out():
    found, exact = loo(tree_of(even_draws(*posterior(Y)))), exact_elpd()
    np.testing.assert_allclose(found.elpd_each, exact, atol=2e-3)
    assert found.elpd == pytest.approx(exact.sum(), abs=5e-3)
    assert found.se == pytest.approx(np.sqrt(20 * exact.var(ddof=1)), rel=1e-2)
    mean, deviation = posterior(Y)
    seen = norm.logpdf(Y, mean, np.hypot(deviation, NOISE))
    assert found.p_loo == pytest.approx((seen - exact).sum(), abs=5e-3)
    assert found.unreliable == 0


def test_draws_of_a_guide_are_weighted_to_the_posterior():
    mean, deviation = posterior(Y)
    off = mean + 0.5 * deviation, 1.3 * deviation
    theta = even_draws(*off)
    log_p = norm.logpdf(Y, theta[..., None], NOISE).sum(-1) + norm.logpdf(theta, 0, PRIOR)
    weighted = tree_of(theta, "normal", log_p=log_p, log_q=norm.logpdf(theta, *off))
    exact = exact_elpd()
    np.testing.assert_allclose(loo(weighted).elpd_each, exact, atol=5e-3)
    seen = norm.logpdf(Y, mean, np.hypot(deviation, NOISE))
    assert loo(weighted).p_loo == pytest.approx((seen - exact).sum(), abs=2e-2)
    taken_as_they_are = loo(tree_of(theta, "normal")).elpd_each
    assert np.abs(taken_as_they_are - exact).max() > 5e-2


@pytest.mark.parametrize("chains", [1, 4])
def test_loo_is_arviz_s(chains, rng):
    theta = rng.normal(*posterior(Y), size=(chains, 500))
    theta = theta + 0.3 * np.roll(theta, 1, axis=1)  # correlated, as a chain is
    tree = tree_of(theta)
    found, theirs = loo(tree), arviz().loo(as_arviz(tree), pointwise=True)
    old = before_1(arviz())
    assert found.elpd == pytest.approx(theirs["elpd_loo"] if old else theirs.elpd, rel=1e-12)
    each = theirs["loo_i"] if old else theirs.elpd_i
    np.testing.assert_allclose(found.elpd_each, each, rtol=1e-12)
    np.testing.assert_allclose(found.khat, theirs["pareto_k"], rtol=1e-9)
    assert found.p_loo == pytest.approx(theirs["p_loo"] if old else theirs.p, rel=1e-9)
    assert found.good_k == pytest.approx(theirs["good_k"])
    # 0.23 divides by n where Vehtari et al. 2017, ArviZ 1 and this divide by n - 1.
    assert found.se == pytest.approx(theirs["se"] * (np.sqrt(20 / 19) if old else 1), rel=1e-9)


def test_loo_of_a_guide_is_arviz_s(rng):
    if before_1(arviz()):
        pytest.skip("ArviZ 0.23 has no LOO of an approximate posterior")
    from arviz_stats import loo_approximate_posterior

    theta = rng.normal(1.4, 0.3, size=(1, 800))
    log_p = norm.logpdf(Y, theta[..., None], NOISE).sum(-1) + norm.logpdf(theta, 0, PRIOR)
    tree = tree_of(theta, "normal", log_p=log_p, log_q=norm.logpdf(theta, 1.4, 0.3))
    stats = tree["sample_stats"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        theirs = loo_approximate_posterior(tree, stats["log_p"], stats["log_q"], pointwise=True)
    np.testing.assert_allclose(loo(tree).elpd_each, theirs.elpd_i, rtol=1e-9)
    np.testing.assert_allclose(loo(tree).khat, theirs.pareto_k, rtol=1e-6)


def test_observations_keep_their_shape():
    tree = tree_of(even_draws(*posterior(Y), draws=200))
    values = tree["log_likelihood"]["y"].values.reshape(1, 200, 4, 5)
    groups = {"posterior": {"theta": np.zeros((1, 200))}, "log_likelihood": {"y": values}}
    shaped = loo(inference_data(groups, inference_method="nuts"))
    assert shaped.elpd_each.shape == shaped.khat.shape == (4, 5)
    np.testing.assert_array_equal(shaped.elpd_each.ravel(), loo(tree).elpd_each)


@pytest.mark.parametrize("k", [0.1, 0.4, 0.8])
def test_k_hat_is_the_shape_of_a_generalised_pareto_tail(k):
    p = (np.arange(100_000) + 0.5) / 100_000
    weights = 1 + np.expm1(-k * np.log1p(-p)) / k
    # The tail of 949 draws: deviation (1 + k) / sqrt(n), and the prior's 10 draws at 1/2.
    tolerance = 3 * (1 + k) / np.sqrt(949) + 0.01
    assert psis_khat(np.log(weights)) == pytest.approx(k, abs=tolerance)


def test_k_hat_tells_a_guide_that_is_too_narrow_from_one_that_is_too_wide():
    def khat(deviation):
        theta = even_draws(0, deviation, 10_000)
        return psis_khat(norm.logpdf(theta) - norm.logpdf(theta, 0, deviation))

    # Weights exp((1/s^2 - 1) x^2 / 2) of x ~ N(0, s^2) have a tail of shape 1 - s^2.
    assert khat(0.2) > good_k(10_000) and khat(1.5) < 0.1


def test_k_hat_ignores_a_constant_and_the_order(rng):
    log_weights = rng.standard_t(4, size=500)
    expected = psis_khat(log_weights)
    assert psis_khat(log_weights[::-1].reshape(5, 100) + 700) == pytest.approx(expected, rel=1e-6)


def test_smoothed_weights_sum_to_one_and_keep_all_but_the_tail(rng):
    log_weights = rng.standard_t(4, size=(3, 400))
    before, smoothed = log_weights.copy(), psis(log_weights)[0]
    np.testing.assert_array_equal(log_weights, before)
    np.testing.assert_allclose(np.exp(smoothed).sum(-1), 1, rtol=1e-12)
    body = np.argsort(log_weights, axis=-1)[:, : 400 - 61]
    shift = np.take_along_axis(smoothed - log_weights, body, axis=-1)
    np.testing.assert_allclose(np.ptp(shift, axis=-1), 0, atol=1e-9)


@pytest.mark.parametrize("largest", [30, 60, 90, 200])
def test_weights_alike_at_the_top_stay_as_they_are(largest):
    log_weights = np.linspace(-3, -1, 400)
    log_weights[-largest:] = 0
    smoothed, khat = psis(log_weights[None])
    np.testing.assert_allclose(np.exp(smoothed).sum(), 1, rtol=1e-12)
    if largest >= 60:  # the whole tail
        assert khat[0] == np.inf
        np.testing.assert_allclose(np.diff(smoothed[0]), np.diff(log_weights), atol=1e-12)


def test_what_has_no_leave_one_out_score_is_named():
    theta = even_draws(0, 1, draws=40)
    with pytest.raises(ValueError, match="a point has no spread: a leave-one-out score"):
        loo(tree_of(theta, "delta"))
    with pytest.raises(ValueError, match="needs 25 draws or more, got 24"):
        loo(tree_of(theta[:, :24]))
    groups = {"posterior": {"t": theta}, "log_likelihood": {"y": theta, "z": theta}}
    several = inference_data(groups, inference_method="nuts")
    with pytest.raises(ValueError, match="several variables; choose one of y, z"):
        loo(several)
    assert loo(several, "z").elpd_each.shape == ()
    with pytest.raises(ValueError, match="no variable 'x'; choose from y, z"):
        loo(several, "x")
    groups["log_likelihood"] = {"y": np.where(theta > 1, -np.inf, 0)}
    with pytest.raises(ValueError, match="must be finite"):
        loo(inference_data(groups, inference_method="nuts"))
    with pytest.raises(ValueError, match="no group 'log_likelihood'; its groups: posterior"):
        loo(inference_data({"posterior": {"t": theta}}, inference_method="nuts"))


def test_a_delta_guide_has_no_k_hat():
    with pytest.raises(ValueError, match="a delta guide has no spread to judge"):
        psis_khat(np.full(100, -3.0))
    with pytest.raises(ValueError, match="none NaN"):
        psis_khat([0.0] * 30 + [np.nan])
    with pytest.raises(ValueError, match="needs 25 draws or more, got 24"):
        psis_khat(np.arange(24.0))


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0, 1000.0])
def test_tails_of_any_shape_give_finite_weights_without_a_warning(scale, rng):
    """Shapes of a hundred and more: the largest of them overflow where they are smoothed."""
    log_weights = scale * rng.normal(size=(50, 400))
    smoothed, khat = psis(log_weights)
    assert np.isfinite(smoothed).all() and not np.isnan(khat).any()
    np.testing.assert_allclose(logsumexp(smoothed, axis=-1), 0, atol=1e-9)
    assert (khat > 1).all() == (scale >= 10)
