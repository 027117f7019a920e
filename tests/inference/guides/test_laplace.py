"""Laplace's approximation against closed forms, explicit Jacobians and finite differences."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from every_prior import GROUP, PRIORS, WEIGHTS, somewhere
from problems import ONE_GROUP, classifier
from rates import STILL
from regressions import exact, regression, ridge
from scipy import stats
from written_out import written

import pyro_sws as sws
from pyro_sws.inference.guides.curvature import error_curvature, prior_curvature
from pyro_sws.inference.guides.given_weights import GivenWeights
from pyro_sws.inference.newton import energy_and_gradient, newton_mode


def laplaced(model, batches, epochs=1, rates=STILL, **settings):
    return sws.fit(
        model,
        sws.laplace_guide(model, **settings),
        batches,
        settings=sws.Fitting(epochs=epochs, rates=rates),
    ).posterior


@pytest.mark.integration
@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_ridge_has_its_exact_posterior(tau):
    x, y = regression()
    model, batch = ridge(x, y, tau)
    found = laplaced(model, [batch] * 50, 10, sws.Rates(weights=0.03), weight_draws=4000)
    mean, cov = exact(x, y, tau)
    np.testing.assert_allclose(found.point["all.weights"], mean, atol=1e-6)
    np.testing.assert_allclose(found.deviations["all.weights"], np.diag(cov) ** 0.5, rtol=1e-9)
    assert found.floored == {"all.weights": 0}
    draws = found.draws["all.weights"].numpy()
    five = 5 * np.diag(cov) ** 0.5 / 4000**0.5
    assert (np.abs(draws.mean(0) - mean) < five).all()
    assert (
        np.abs(draws.std(0) - np.diag(cov) ** 0.5) < five
    ).all()  # its error is 1 / sqrt(2) of it


@pytest.mark.integration
def test_without_orthogonality_a_deviation_is_that_given_the_other_weights():
    x, y = regression(orthogonal=False)
    model, batch = ridge(x, y)
    found = laplaced(model, [batch] * 50, 10, sws.Rates(weights=0.03)).deviations["all.weights"]
    precision = np.linalg.inv(exact(x, y, 1.0)[1])
    np.testing.assert_allclose(found, np.diag(precision) ** -0.5, rtol=1e-9)


@pytest.mark.parametrize("tau", [1.0, 0.2])
def test_precisions_have_the_mode_and_curvature_of_their_logarithms(tau):
    """Gamma(A, B) of e^u is A u - B e^u: mode log(A / B), curvature A. Of e^u the mode is less."""
    x, y = regression(size=10)
    a, b, c, d = 3.0, 0.5, 4.0, 1.0
    model, batch = ridge(x, y, tau, sws.GaussianPrior(sws.Gamma(a, b)), sws.Gamma(c, d))
    found = laplaced(model, [batch], draws=4000)
    w = model.start()["all.weights"].numpy()
    residuals = ((y - x @ w) ** 2).sum()
    for site, shape, rate in (
        ("all.precision", a + len(w) / 2, b + (w**2).sum() / 2),
        ("noise_precision", c + len(y) / 2 / tau, d + residuals / 2 / tau),
    ):
        logs, deviation = found.draws[site].log().numpy(), shape**-0.5
        # Newton stops a thousandth of a deviation away; five standard errors of the draws.
        off = 5 * deviation / 4000**0.5 + 2e-3 * deviation
        assert logs.mean() == pytest.approx(np.log(shape / rate), abs=off), site
        assert logs.std() == pytest.approx(deviation, abs=off), site
    assert found.floored["hyperparameters"] == 0


@pytest.mark.parametrize("name", [n for n in PRIORS if PRIORS[n].start(GROUP, WEIGHTS)])
def test_the_hessian_is_the_second_difference_of_the_documented_density(name):
    prior = PRIORS[name]
    net, *batch = classifier()
    model = sws.joint(net, prior, "categorical", 60, dtype=torch.float64)
    group = model.groups["all"]
    flat = model.start()["all.weights"]
    point = {**somewhere(prior, group, flat), "all.weights": flat}
    given = GivenWeights(model, point, [batch])

    def energy(u):
        values = given.space.constrained(u)
        cost = written(prior, values, group).complexity(flat.numpy())
        parts = u.split([shape.numel() for shape in given.space.shapes.values()])
        for (site, shape), part in zip(given.space.shapes.items(), parts, strict=True):
            transform = given.space.transforms[site]

            def image(v, shape=shape, transform=transform):
                return transform(v.reshape(shape)).reshape(-1)[
                    : v.numel()
                ]  # a simplex has one more

            jacobian = torch.autograd.functional.jacobian(image, part)
            cost -= float(torch.linalg.slogdet(jacobian).logabsdet)
        return cost

    hessian = given.hessian(given.start)
    moved = energy_and_gradient(given, given.start)[1]
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        d = torch.randn(len(given.start), generator=generator, dtype=torch.float64)
        d, h = d / d.norm(), 1e-3
        if isinstance(prior, sws.Scaled):  # trained sizes stay, whatever the density says
            parts = d.split([shape.numel() for shape in given.space.shapes.values()])
            parts[list(given.space.shapes).index("all.scales")].zero_()
        up, here, down = (energy(given.start + s * h * d) for s in (1, 0, -1))
        # Third derivatives cancel; fourth ones leave h^2 of them, rounding 1e-16 |E| / h^2.
        assert float(moved @ d) == pytest.approx((up - down) / (2 * h), rel=1e-3, abs=1e-3)
        assert float(d @ hessian @ d) == pytest.approx(
            (up - 2 * here + down) / h**2, rel=1e-3, abs=1e-2
        )


def test_blocks_of_weights_add_up(monkeypatch):
    net, *batch = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    given = GivenWeights(model, model.start(), [batch])
    whole = given.hessian(given.start)
    monkeypatch.setattr("pyro_sws.inference.guides.given_weights.LARGEST_BLOCK", 300)
    torch.testing.assert_close(given.hessian(given.start), whole)


def test_the_mode_is_where_the_slope_is_nothing():
    net, *batch = classifier()
    prior = replace(ONE_GROUP, slabs=2, spike_precision=sws.Gamma(50.0, 0.5), slab_precision=9.0)
    prior = replace(prior, slab_shares="equal", zero_proportion=sws.Beta(20.0, 5.0))
    model = sws.joint(net, prior, "categorical", 60)
    given = GivenWeights(model, model.start(), [batch])
    mode, values, vectors = newton_mode(given, 0.1)
    assert (values > 0.1).all()
    before, after = (energy_and_gradient(given, u)[0] for u in (given.start, mode))
    assert after < before
    slopes = vectors.T @ energy_and_gradient(given, mode)[1]
    assert (slopes.abs() * values.rsqrt() < 2e-3).all()  # in deviations


def test_a_direction_that_no_weight_speaks_for_is_left_and_counted():
    net, *batch = classifier()
    prior = sws.SpikeAndSlabs(
        slabs=2, slab_precision=100.0, spike_precision=100.0, slab_shares="equal"
    )
    prior = replace(prior, initialization=(0.2, 9.0), zero_proportion=0.5)
    model = sws.joint(net, prior, "categorical", 60)
    found = laplaced(model, [batch], floor=0.25, draws=4000)
    assert found.floored["hyperparameters"] == 1
    empty = found.draws["all.means"][:, 1].numpy()
    assert empty.mean() == pytest.approx(9.0, abs=5 * 2.0 / 4000**0.5)
    assert empty.std() == pytest.approx(2.0, abs=5 * 2.0 / 8000**0.5)


def test_the_errors_curvature_is_the_diagonal_of_j_h_j():
    net, inputs, targets = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60, dtype=torch.float64)
    point, group = model.start(), model.groups["all"]
    batches = [(inputs[:25], targets[:25]), (inputs[25:], targets[25:])]
    found = error_curvature(model, point, batches, 60)["all.weights"]

    def outputs(flat):
        return torch.func.functional_call(model.net, group.split(flat), (inputs.double(),))

    j = torch.func.jacrev(outputs)(point["all.weights"])
    p = outputs(point["all.weights"]).softmax(-1)
    h = torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2)
    torch.testing.assert_close(found, torch.einsum("nci,ncd,ndi->i", j, h, j))


def test_a_sample_of_examples_is_scaled_to_the_whole_data():
    x, y = regression()
    x[:] = x[0]  # alike: any sample is the whole
    model, (inputs, targets) = ridge(x, y)
    batches = list(zip(inputs.split(15), targets.split(15), strict=True))
    whole, some = (error_curvature(model, model.start(), batches, n) for n in (40, 7))
    torch.testing.assert_close(whole["all.weights"], some["all.weights"])
    np.testing.assert_allclose(whole["all.weights"], 4.0 * 40 * x[0] ** 2)


def test_the_priors_curvature_is_the_second_difference_of_its_log_density():
    means, deviations, shares = np.array([0.0, 0.5]), np.array([0.1, 0.2]), np.array([0.7, 0.3])
    mixture = sws.Mixture(*(torch.tensor(v) for v in (means, deviations**-2, shares)))
    w = np.linspace(-0.5, 1.0, 31)

    def log_p(at):
        return np.log((shares * stats.norm.pdf(at[:, None], means, deviations)).sum(1))

    h = 1e-4
    expected = -(log_p(w + h) - 2 * log_p(w) + log_p(w - h)) / h**2
    found = prior_curvature(sws.MixturePrior(mixture), torch.tensor(w))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert (found < 0).any()


@pytest.mark.integration
def test_no_weights_deviation_is_above_the_groups_size():
    net, inputs, targets = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    found = laplaced(model, [(inputs, targets)])
    size = model.start()["all.weights"].square().mean().sqrt()
    deviations = found.deviations["all.weights"]
    at_bound = torch.isclose(deviations, size)
    assert (deviations <= size * (1 + 1e-6)).all()
    assert found.floored["all.weights"] == int(at_bound.sum()) > 0


@pytest.mark.integration
def test_only_the_last_layer_or_none_of_the_weights_may_have_spread():
    net, inputs, targets = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    every, last, none = (
        laplaced(model, [(inputs, targets)], weights=weights, examples=20)
        for weights in ("diagonal", "last_layer", "none")
    )
    group = model.groups["all"]
    by_tensor, whole = (group.split(p.deviations["all.weights"]) for p in (last, every))
    for tensor in group.shapes:
        if tensor.startswith("2."):
            assert torch.equal(by_tensor[tensor], whole[tensor])
        else:
            assert not by_tensor[tensor].any()
    assert none.deviations == {} and "all.weights" not in none.draws


@pytest.mark.integration
def test_hyperparameters_may_be_held_while_it_is_fitted():
    net, *batch = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    guide = sws.laplace_guide(model)
    fitted = sws.fit(model, guide, [batch], settings=sws.Fitting(epochs=2, hyperparameters_every=2))
    assert fitted.posterior.draws and fitted.bits_back_nats is None


def test_shares_that_have_underflown_have_a_place_in_unconstrained_space():
    net, *batch = classifier()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    point = {**model.start(), "all.slab_shares": torch.tensor([1.0, 0.0, 0.0])}
    given = GivenWeights(model, point, [batch])
    assert given.start.isfinite().all() and given.hessian(given.start).isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "full"}, "unknown weights 'full'; choose from diagonal, last_layer, none"),
        ({"floor": 0.0}, "floor must be a positive number, got 0.0"),
        ({"examples": 0}, "examples must be a whole number >= 1, got 0"),
        ({"draws": 0.5}, "draws must be a whole number >= 0, got 0.5"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    model = sws.joint(classifier()[0], ONE_GROUP, "categorical", 60)
    with pytest.raises(ValueError, match=message):
        sws.laplace_guide(model, **settings)


def test_more_hyperparameters_than_a_dense_hessian_is_for_are_refused():
    model = sws.joint(classifier()[0], sws.SpikeAndSlabs(slabs=400), "categorical", 60)
    with pytest.raises(ValueError, match="1201 hyperparameters, too many .* use the guide delta_n"):
        sws.laplace_guide(model)
