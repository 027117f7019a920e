"""Weights in units of their trained size: what a rescaling leaves alone, and what a file holds."""

import numpy as np
import pytest
import torch
from elbos import elbo_of
from every_prior import density, log_joint
from problems import classifier
from pyro import poutine
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.fit import complexity_cost
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import Scaled, SpikeAndSlabs
from pyro_sws.weights.group import Group

SHAPE = SpikeAndSlabs(3, 0.6)
GROUP = Group("all", {"w": (3, 4), "b": (3,)}, torch.float64)


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(GROUP.size, generator=generator, dtype=torch.float64)


def relu_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).double()


def rescaled(net, factor):
    """The same function: one layer times a factor, the next over it."""
    other = relu_network()
    other.load_state_dict(net.state_dict())
    with torch.no_grad():
        other[0].weight *= factor
        other[0].bias *= factor
        other[2].weight /= factor
    return other


@pytest.mark.parametrize("by", ["tensor", "row"])
@pytest.mark.parametrize("factor", [1e-3, 0.5, 40.0])
def test_the_cost_and_its_gradient_ignore_a_rescaling(by, factor):
    net = relu_network()
    inputs = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(rescaled(net, factor)(inputs), net(inputs))
    costs, gradients = [], []
    for own in (net, rescaled(net, factor)):
        model = joint(own, Scaled(SHAPE, by), "categorical", 10)
        start = model.start()
        costs.append(complexity_cost(model, start))
        flat = start["all.weights"].requires_grad_()
        found = density(model.priors["all"], model.groups["all"], start)
        (gradient,) = torch.autograd.grad(found.log_prob(flat), flat)
        gradients.append(gradient * found.scales)  # in units of standardised weights
    assert costs[1] == pytest.approx(costs[0], rel=1e-10)
    torch.testing.assert_close(gradients[1], gradients[0])


def test_by_row_every_row_may_have_a_factor_of_its_own():
    factors = torch.tensor([0.01, 3.0, 50.0], dtype=torch.float64)
    moved = weights().clone()
    moved[:12] *= factors.repeat_interleave(4)
    prior = Scaled(SHAPE, "row")
    costs = [log_joint(prior, GROUP, prior.start(GROUP, w), w).item() for w in (weights(), moved)]
    assert costs[1] == pytest.approx(costs[0], rel=1e-12)
    by_tensor = Scaled(SHAPE)
    costs = [
        log_joint(by_tensor, GROUP, by_tensor.start(GROUP, w), w).item() for w in (weights(), moved)
    ]
    assert costs[1] != pytest.approx(costs[0], rel=1e-6)


def test_scales_are_trained_root_mean_squares_over_the_deviation():
    w = weights().numpy()
    rms = [np.sqrt(np.mean(part**2)) for part in (w[:12], w[12:])]
    found = Scaled(SHAPE, deviation=0.2).start(GROUP, weights())["all.scales"]
    np.testing.assert_allclose(found, np.array(rms) / 0.2, rtol=1e-12)
    rows = [np.sqrt(np.mean(part**2)) for part in (w[:4], w[4:8], w[8:12], w[12:])]
    found = Scaled(SHAPE, "row", 0.2).start(GROUP, weights())["all.scales"]
    np.testing.assert_allclose(found, np.array(rows) / 0.2, rtol=1e-12)


def test_the_shape_starts_over_standardised_weights():
    prior = Scaled(SHAPE, deviation=0.2)
    start = prior.start(GROUP, weights())
    standardised = weights() / density(prior, GROUP, start).scales
    torch.testing.assert_close(start["all.means"], SHAPE.start(GROUP, standardised)["all.means"])
    np.testing.assert_allclose(
        [standardised[:12].square().mean().sqrt(), standardised[12:].square().mean().sqrt()], 0.2
    )


def test_a_tensor_of_zeros_has_the_groups_scale():
    w = weights()
    w[12:] = 0.0  # a fresh bias
    _, bias = Scaled(SHAPE, deviation=0.05).start(GROUP, w)["all.scales"].tolist()
    assert bias == pytest.approx(w.square().mean().sqrt().item() / 0.05)
    nothing = torch.zeros_like(w)
    assert Scaled(SHAPE).start(GROUP, nothing)["all.scales"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("by, shape", [("tensor", (1, 1)), ("row", (8, 1))])
def test_a_fit_leaves_the_scales_and_the_file_holds_each_once(by, shape):
    # Their improper density alone grows with them: under its gradient they would run away.
    net, inputs, targets = classifier()
    prior = Scaled(SpikeAndSlabs(3, 0.5), by)
    result = sws.compress(
        net, [(inputs, targets)], prior=prior, epochs=5, packing=sws.Packing(rewrite=False)
    )
    start = joint(net, prior, "categorical", 60).start()["all.scales"]
    # Up to the rounding of exp(log scale).
    torch.testing.assert_close(result.posterior.point["all.scales"], start, rtol=1e-6, atol=0)
    file = sws.decode(result.data)
    stored, values = file.scales, file.dequantize()
    assert {name for name in values if values[name].any()} == set(stored)  # of zeros none
    assert stored["0.weight"].shape == shape
    found = stored["0.weight"].ravel()
    np.testing.assert_array_equal(found, result.posterior.point["all.scales"][: len(found)].half())
    np.testing.assert_allclose(found, start[: len(found)], rtol=2.0**-11)


@pytest.mark.parametrize("by", ["tensor", "row"])
@pytest.mark.parametrize("guide", ["delta_normal", "normal", "low_rank"])
def test_a_guide_with_spread_leaves_the_scales_too(guide, by):
    # Its entropy alone, log scale + log width, grows with them: they would run away together.
    net, inputs, targets = classifier()
    model = joint(net, Scaled(SpikeAndSlabs(3, 0.5), by), "categorical", 60, tau=0.3)
    fitted = sws.fit(model, sws.GUIDES[guide](model), [(inputs, targets)] * 20, epochs=3)
    found, start = fitted.posterior.point["all.scales"], model.start()["all.scales"]
    torch.testing.assert_close(found, start, rtol=1e-6, atol=0)  # rounding of exp(log scale)
    assert "all.scales" not in fitted.posterior.draws
    assert fitted.bits_back_nats is None  # at any tau: the standardised weights are scored


@pytest.mark.integration
def test_under_a_guide_with_spread_a_thousand_steps_at_default_rates_shorten_the_description():
    # With scales that had spread the loss was NaN after 900.
    net, inputs, targets = classifier()
    model = joint(net, Scaled(SpikeAndSlabs(3, 0.5)), "categorical", 60, tau=0.3)
    history = sws.fit(model, sws.normal_guide(model), [(inputs, targets)] * 250, epochs=4).history
    costs = [row["negative_elbo_nats"] for row in history]
    assert np.isfinite(costs).all() and costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("guide", ["normal", "low_rank"])
def test_the_cost_under_a_guide_with_spread_is_that_of_the_shape_and_standardised_weights(guide):
    """With the scales given, w / scale under the shape is the same problem up to sum n log scale.

    The oracle is torch's own mixture over draws of the guide, divided by the scales.
    """
    net, inputs, targets = classifier()
    prior = Scaled(SpikeAndSlabs(3, 0.5, spike_precision=900.0, slab_precision=400.0))
    model = joint(net, prior, "categorical", 60)
    elbo = elbo_of(sws.GUIDES[guide](model), model, (inputs, targets))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        cost, error = elbo(inputs, targets)
        torch.manual_seed(0)
        with pyro_step(elbo.store):
            drawn = poutine.trace(elbo._guide[0]).get_trace(inputs, targets)
    values = {name: drawn.nodes[name]["value"] for name in drawn.stochastic_nodes}
    found = density(prior, model.groups["all"], values)
    mixture = found.mixture
    components = torch.distributions.Normal(mixture.means, mixture.precisions.rsqrt())
    proportions = torch.distributions.Categorical(mixture.proportions)
    shape = torch.distributions.MixtureSameFamily(proportions, components)
    log_prior = shape.log_prob(values["all.weights"] / found.scales).sum()
    hyper = sum(drawn.nodes[site]["fn"].log_prob(value).sum() for site, value in values.items())
    torch.testing.assert_close(cost, error - log_prior + hyper, rtol=1e-4, atol=1e-3)


def test_a_scale_has_no_draws_but_ones():
    draw = Scaled(SHAPE)(GROUP)
    assert torch.equal(draw.scales, torch.ones(GROUP.size, dtype=torch.float64))


def test_a_deviation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="deviation must be positive, got 0.0"):
        Scaled(deviation=0.0)
