"""Predictions and their averages, against softmax and exact sums over all assignments."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from problems import classifier
from small_posteriors import DOUBLE, mixture, posterior, weights
from torch import nn

import pyro_sws as sws
from pyro_sws.assess.point.calibration import calibration
from pyro_sws.assess.point.predictive import (
    DRAWN,
    RETRAINED,
    SNAPPED,
    TRAINED,
    compression_stages,
    draw_assignments,
    predictions,
    weight_draws,
)
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import GaussianPrior, SpikeAndSlabs
from pyro_sws.weights.group import Group
from pyro_sws.weights.quantize import quantize
from pyro_sws.weights.weight_prior import MixturePrior, UniformlyQuantized

SEVERAL = SpikeAndSlabs(slabs=4, zero_proportion=0.3, start_deviation=0.1)


@pytest.fixture(scope="module")
def fitted():
    net, inputs, targets = classifier()
    train = sws.Batches(inputs, targets, 20)
    result = sws.compress(
        net, train, prior=SEVERAL, tau=0.1, epochs=3, packing=sws.Packing(rewrite=False)
    )
    return joint(net, SEVERAL, "categorical", 60), result, [(inputs, targets)]


def softmax_of(state):
    net, inputs, _ = classifier()
    own = copy.deepcopy(net)
    own.load_state_dict(state)
    with torch.no_grad():
        return own(inputs).double().softmax(1).numpy()


def test_labels_that_are_ignored_are_no_examples(fitted):
    model, _, [(inputs, targets)] = fitted
    labels = targets.clone()
    labels[::3] = -100
    ignoring = dataclasses.replace(model, likelihood=sws.Categorical(ignore_index=-100))
    found = predictions(ignoring, [{}], [(inputs, labels)])
    kept = labels != -100
    assert found.labels.tolist() == targets[kept].tolist()
    expected = softmax_of(classifier()[0].state_dict())[kept.numpy()]
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)


def test_stages_are_the_networks_that_they_say(fitted):
    model, result, data = fitted
    quantized = quantize(result.packed)
    stages = compression_stages(model, result.packed, quantized, data, draws=3)
    states = {
        TRAINED: classifier()[0].state_dict(),
        RETRAINED: result.packed.weights,
        SNAPPED: {k: torch.tensor(v) for k, v in quantized.dequantize().items()},
    }
    for stage, state in states.items():
        np.testing.assert_allclose(stages[stage].probabilities, softmax_of(state), atol=1e-6)
    drawn = [softmax_of(state) for state in draw_assignments(result.packed, 3)]
    np.testing.assert_allclose(stages[DRAWN].probabilities, np.mean(drawn, axis=0), atol=1e-6)
    assert 100 - 100 * calibration(stages[SNAPPED]).accuracy == pytest.approx(
        result.report.score["quantized"]
    )


def test_the_retrained_network_may_be_that_before_refinement(fitted):
    model, result, data = fitted
    first = dataclasses.replace(result.posterior, point=model.start())
    quantized = quantize(result.packed)
    stages = compression_stages(model, result.packed, quantized, data, fitted=first, draws=0)
    assert list(stages) == [TRAINED, RETRAINED, SNAPPED]
    both = (stages[stage].probabilities for stage in (TRAINED, RETRAINED))
    np.testing.assert_allclose(*both, atol=1e-6)


def two_weights():
    """A logit w0 x + w1 in three values each, none of them sure."""
    net = nn.Linear(1, 1)
    group = Group("all", {"weight": (1, 1), "bias": (1,)})
    wide = mixture([-0.5, 0.0, 0.5], [0.5, 0.5, 0.5], [0.2, 0.5, 0.3])
    single = MixturePrior(
        type(wide)(*(value.float() for value in (wide.means, wide.precisions, wide.proportions)))
    )
    flat = torch.tensor([0.3, -0.1])
    return net, posterior(single, flat, group), single.responsibilities(flat).double().numpy()


@pytest.mark.integration
def test_the_average_over_drawn_assignments_tends_to_the_sum_over_all_of_them():
    net, spread, responsibilities = two_weights()
    model = joint(net, GaussianPrior(), "bernoulli", 1)
    inputs = torch.tensor([[2.0], [-1.0]])
    found = predictions(model, draw_assignments(spread, 4000), [(inputs, torch.ones(2, 1))])
    values = [-0.5, 0.0, 0.5]
    exact, squares = np.zeros(2), np.zeros(2)
    for i, j in itertools.product(range(3), repeat=2):
        p = 1 / (1 + np.exp(-(values[i] * inputs.numpy()[:, 0] + values[j])))
        exact += responsibilities[0, i] * responsibilities[1, j] * p
        squares += responsibilities[0, i] * responsibilities[1, j] * p**2
    error = np.sqrt((squares - exact**2) / 4000)
    assert (np.abs(found.probabilities[:, 1] - exact) < 5 * error).all()
    assert found.labels.tolist() == [1, 1]


def test_each_weight_is_drawn_by_its_responsibilities():
    fitted = posterior(MixturePrior(mixture(), torch.full((60,), 2.0, **DOUBLE)))
    expected = fitted.priors["all"].responsibilities(weights()).numpy()
    draws = [torch.cat([d["a"].flatten(), d["b"]]) for d in draw_assignments(fitted, 2000)]
    shares = np.stack([(torch.stack(draws) == 2 * v).double().mean(0) for v in (-0.25, 0, 0.5)], 1)
    error = np.sqrt(expected * (1 - expected) / 2000)
    assert (np.abs(shares - expected) <= 5 * error).all()
    np.testing.assert_allclose(shares.sum(1), 1)


def test_sure_weights_snap_as_ever():
    narrow = posterior(MixturePrior(mixture([-0.5, 0.0, 0.5], [1e-3] * 3, [0.3] * 3)))
    values = quantize(narrow).dequantize()
    for drawn in draw_assignments(narrow, 2):
        for name, tensor in drawn.items():
            far = np.abs(np.abs(narrow.weights[name].numpy()) - 0.25) > 1e-3
            np.testing.assert_array_equal(tensor.numpy()[far], values[name][far])


def test_draws_of_weights_are_gone_through_in_turn():
    narrow = posterior(MixturePrior(mixture([-0.5, 0.0, 0.5], [1e-2] * 3, [0.3] * 3)))
    given = {"b": torch.stack([torch.full((20,), v, **DOUBLE) for v in (0.5, -0.5)])}
    found = list(draw_assignments(narrow, 3, weights=given))
    assert [d["b"].unique().tolist() for d in found] == [[0.5], [-0.5], [0.5]]
    unchanged = next(iter(draw_assignments(narrow, 1)))["a"]
    torch.testing.assert_close(found[0]["a"], unchanged)


def test_a_posteriors_draws_are_taken_apart_by_tensor():
    flat = torch.arange(120.0, **DOUBLE).view(2, 60)
    spread = dataclasses.replace(posterior(MixturePrior(mixture())), draws={"all.weights": flat})
    found = weight_draws(spread)
    assert found["a"].shape == (2, 4, 10) and found["b"][1].tolist() == list(range(100, 120))
    none = dataclasses.replace(spread, draws={"all.weights": flat[:0]})
    assert weight_draws(none) == weight_draws(posterior(MixturePrior(mixture()))) == {}


def test_a_prior_that_rounds_snaps_as_it_always_does():
    """Steps of an eighth, which float16 holds."""
    grid = UniformlyQuantized(mixture([0.0], [1.0], [1.0]), torch.full((60,), 0.125, **DOUBLE), 4)
    (drawn,) = draw_assignments(posterior(grid), 1)
    expected = (8 * weights()).round().clamp(-4, 4) / 8
    torch.testing.assert_close(torch.cat([drawn["a"].flatten(), drawn["b"]]), expected)


def test_nothing_is_taken_from_the_callers_generator_and_the_seed_decides(fitted):
    model, result, data = fitted
    state = torch.get_rng_state()
    shuffled = sws.Batches(*data[0], 20)
    one, same, other = (
        predictions(model, draw_assignments(result.packed, 2, seed=seed), shuffled).probabilities
        for seed in (0, 0, 1)
    )
    torch.testing.assert_close(torch.get_rng_state(), state)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_data_that_comes_in_another_order_every_time_is_refused(fitted):
    model, _, data = fitted
    inputs, targets = data[0]

    class Turning(list):
        turns = 0

        def __iter__(self):
            self.turns += 1
            return iter([(inputs.roll(self.turns, 0), targets.roll(self.turns))])

    with pytest.raises(ValueError, match="another order every time"):
        predictions(model, [{}, {}], Turning())


def test_no_draws_other_likelihoods_and_odd_draws_are_refused(fitted):
    model, result, data = fitted
    with pytest.raises(ValueError, match="at least one"):
        predictions(model, [], data)
    regression = joint(classifier()[0], SEVERAL, "gaussian", 60)
    with pytest.raises(ValueError, match="a Normal likelihood has none"):
        predictions(regression, [{}], [(data[0][0], torch.zeros(60, 3))])
    with pytest.raises(ValueError, match="at least 1"):
        next(draw_assignments(result.packed, 0))
    with pytest.raises(ValueError, match="no prior covers a tensor 'c'"):
        next(draw_assignments(posterior(MixturePrior(mixture())), 1, weights={"c": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"must be \('S', 20\)"):
        draws = {"b": torch.zeros(20)}
        next(draw_assignments(posterior(MixturePrior(mixture())), 1, weights=draws))
