"""A walk's optimiser steps: the objective and its gradients by hand, and what they leave alone."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.func import functional_call

import pyro_sws as sws
from pyro_sws.compression.walk.descent import Descent
from pyro_sws.compression.walk.place import Place
from pyro_sws.compression.walk.portions import Portion
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.weights.quantize import quantize
from pyro_sws.weights.tabulated import NODES_A_DEVIATION

EXAMPLES, BATCH, TAU = 40, 20, 0.03


def at_a_place(width=0.3, prior=None, likelihood="categorical"):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3))
        inputs, targets = torch.randn(BATCH, 6), torch.arange(BATCH) % 3
    if likelihood != "categorical":
        targets = nn.functional.one_hot(targets, 3).float()
    model = sws.joint(net, prior or default_rules(net), likelihood, EXAMPLES, tau=TAU)
    place = Place.of(model, sws.Walk(width=width, zero=0.5))
    return place, Descent(place, Portion([(inputs, targets)]), "float32"), inputs, targets


def by_hand(place, inputs, targets):
    """-ELBO in nats, with the weights snapped; and its gradients in weights and means by group."""
    tensors, cost, leaves = {}, 0.0, {}
    for name, group in place.model.groups.items():
        mixture, flat = place.densities[name].mixture, place.weights[name].clone().requires_grad_()
        means = mixture.means.clone().requires_grad_()
        normal = torch.distributions.Normal(means, mixture.deviations)
        joint = mixture.proportions.log() + normal.log_prob(flat[:, None])
        values = means[joint.argmax(1)]
        values = values + (flat - flat.detach())  # straight through
        scales = torch.zeros(len(group.shapes), requires_grad=True)
        sizes = torch.tensor([part.stop - part.start for part in group.slices.values()])
        factors = scales.exp().repeat_interleave(sizes)
        tensors |= group.split(values * factors * place.units[name])
        cost = cost - TAU * math.sqrt(place.width) * joint.logsumexp(1).sum()
        leaves[name] = flat, means, scales
    outputs = functional_call(place.model.net, tensors, (inputs,))
    error = EXAMPLES / BATCH * nn.functional.cross_entropy(outputs, targets, reduction="sum")
    (cost + error).backward()
    return (cost + error).item(), error.item(), leaves


def on_nodes(place):
    """The place with weights on nodes of the tables, where what is read is exact."""
    weights = {}
    for name, flat in place.weights.items():
        deviation = float(place.densities[name].mixture.deviations[0])
        low, high = flat.double().aminmax()
        nodes = math.ceil(float(high - low) / deviation * NODES_A_DEVIATION)
        step = (high - low) / nodes
        weights[name] = (low + step * ((flat - low) / step).round()).to(flat)
    return replace(place, weights=weights)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.3])
def test_costs_and_gradients_are_those_of_the_formula(width):
    place, descent, inputs, targets = at_a_place(width)
    place = on_nodes(place)
    descent.set_out(place)
    loss, error = descent.costs(place, inputs, targets)
    loss.backward()
    expected, of_data, leaves = by_hand(place, inputs, targets)
    assert error.item() == pytest.approx(of_data, rel=1e-5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for name, (flat, means, scales) in leaves.items():
        moving = place.densities[name].mixture.means != 0
        assert torch.allclose(descent.weights[name].grad, flat.grad, rtol=1e-3, atol=1e-3)
        assert torch.allclose(descent.means[name].grad, means.grad[moving], rtol=1e-3, atol=1e-3)
        if name == "weights":
            assert torch.allclose(descent.scales[name].grad, scales.grad, rtol=1e-3, atol=1e-3)
    assert list(descent.scales) == ["weights"]  # those of vectors stay


def test_scales_that_moved_are_those_of_the_place_reached():
    place, descent, inputs, _ = at_a_place()
    place = on_nodes(place)
    rates = sws.WalkRates(weights=0.0, means=0.0, scales=0.05, other=0.0)
    moved, _ = descent.steps(place, 5, rates, lambda progress: 1.0, seed=0)
    for name, group in place.model.groups.items():
        assert torch.equal(moved.weights[name], place.weights[name])
        ratios = moved.units[name] / place.units[name]
        if name == "vectors":
            assert torch.equal(ratios, torch.ones_like(ratios))
            continue
        assert torch.allclose(moved.own[name].scales / place.own[name].scales, ratios)
        for part in group.slices.values():
            assert torch.allclose(ratios[part], ratios[part][0]) and ratios[part][0] != 1
    # The network in the file is the one that the next steps set out from.
    decoded = quantize(moved.posterior, "float32").dequantize()
    tensors = {name: torch.from_numpy(values) for name, values in decoded.items()}
    before = functional_call(place.model.net, tensors, (inputs,))
    again, costs = descent.steps(moved, 1, rates, lambda progress: 0.0, seed=0)
    error = nn.functional.cross_entropy(before, torch.arange(BATCH) % 3, reduction="sum")
    assert costs.error_cost_nats == pytest.approx(EXAMPLES / BATCH * error.item(), rel=1e-3)
    assert torch.equal(again.units["weights"], moved.units["weights"])


def test_a_prior_without_scales_has_none_that_move():
    place, descent, *_ = at_a_place(prior=sws.SpikeAndSlabs(slabs=6, start_deviation=0.2))
    assert not descent.scales
    moved, _ = descent.steps(place, 2, sws.WalkRates(weights=1e-3), lambda progress: 1.0, seed=0)
    assert all(torch.equal(moved.units[name], place.units[name]) for name in place.units)


def test_zero_and_fixed_levels_stay():
    place, descent, *_ = at_a_place(prior=sws.Grid(steps=4))
    moved, _ = descent.steps(place, 5, sws.WalkRates().over(10_000), lambda progress: 1.0, seed=0)
    for name, density in place.densities.items():
        assert torch.equal(moved.densities[name].mixture.means, density.mixture.means)
    place, descent, *_ = at_a_place()
    moved, _ = descent.steps(
        place, 5, sws.WalkRates(weights=1e-3, means=0.1), lambda progress: 1.0, seed=0
    )
    for name, density in place.densities.items():
        before, after = density.mixture.means, moved.densities[name].mixture.means
        assert torch.equal(before == 0, after == 0)
        assert ((before != after) == (before != 0)).all()


def test_steps_go_on_from_any_place_and_change_none():
    place, descent, *_ = at_a_place()
    kept = copy.deepcopy(place.weights)
    state = torch.random.get_rng_state()
    rates = sws.WalkRates(weights=0.01)
    first, costs = descent.steps(place, 3, rates, lambda progress: 1.0, seed=1)
    descent.steps(first, 3, rates, lambda progress: 1.0, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(place.weights[n], w) for n, w in kept.items())
    assert any(not torch.equal(first.weights[n], w) for n, w in kept.items())
    still, _ = descent.steps(place, 1, rates, lambda progress: 0.0, seed=3)
    assert all(torch.equal(still.weights[n], w) for n, w in kept.items())
    assert costs.negative_elbo_nats > costs.error_cost_nats > 0


def test_a_learned_noise_moves_and_stays_positive():
    likelihood = sws.Gaussian(noise_precision=sws.Gamma(2.0, 1.0))
    place, descent, *_ = at_a_place(likelihood=likelihood)
    rates = sws.WalkRates(weights=1e-3, other=0.5)
    moved, _ = descent.steps(place, 20, rates, lambda progress: 1.0, seed=0)
    before, after = (float(p.noise["noise_precision"]) for p in (place, moved))
    assert after > 0 and after != before
    again, _ = descent.steps(moved, 1, rates, lambda progress: 0.0, seed=0)
    assert float(again.noise["noise_precision"]) == pytest.approx(after, rel=1e-5)


def test_a_loss_that_is_not_finite_is_an_error():
    place, descent, inputs, targets = at_a_place()
    with pytest.raises(FloatingPointError, match="at width 0.3|not finite"):
        descent.steps(place, 30, sws.WalkRates(weights=1e30), lambda progress: 1.0, seed=0)
