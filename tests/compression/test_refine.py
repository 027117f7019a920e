"""Refinement: zeros come back where they pay, nothing gets longer, the file has what it found."""

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, TWO_GROUPS, classifier
from small_recipe import write_recipe
from torch import nn

import pyro_sws as sws
from pyro_sws.compression.description_length import Description
from pyro_sws.compression.refine import MeansOnlyPrior, Refinement, RefinementRates
from pyro_sws.inference.evaluation import error_cost
from pyro_sws.inference.fit import as_weights, complexity_cost
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.run import Run
from pyro_sws.weights.weight_prior import MixturePrior, snapped, widened

TRUE = torch.tensor([[0.0, 0.8, -0.8, 0.0, 0.8, 0.0, 0.0, 0.0]])


def mixture(deviation=0.02):
    means = torch.tensor([0.0, 0.7, -0.7])
    return sws.Mixture(means, torch.full((3,), deviation**-2), torch.tensor([0.9, 0.05, 0.05]))


def regression(weights, tau=0.5, noise=0.05, deviation=0.02, **fields):
    """Targets that TRUE gives, and a fit that left the network at ``weights``."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 8, generator=generator)
    targets = inputs @ TRUE.T + noise * torch.randn(200, 1, generator=generator)
    net = nn.Linear(8, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([weights]))
    likelihood = sws.Gaussian(noise_precision=noise**-2)
    model = sws.joint(net, sws.SpikeAndSlabs(), likelihood, 200, tau=tau)
    priors = {"all": MixturePrior(mixture(deviation), **fields)}
    posterior = sws.Posterior(model.groups, model.start(), priors, model.raw(), tau)
    return model, posterior, sws.Batches(inputs, targets, 50)


def values(posterior):
    return sws.quantize(posterior).dequantize()["weight"]


# What it does.

STUCK = [0.0, 0.0, -0.7, 0.7, 0.7, 0.0, 0.0, 0.0]  # one zero too many, and one too few
SETTINGS = Refinement(40, widening=10, rates=RefinementRates(weights=2e-2, means=1e-2))


@pytest.mark.integration
def test_zeros_come_back_where_they_pay_and_others_go():
    found = sws.refine(*regression(STUCK), SETTINGS)
    np.testing.assert_array_equal(values(found.posterior) != 0, TRUE.numpy() != 0)


@pytest.mark.integration
def test_values_are_estimated_again_from_the_data():
    found = sws.refine(*regression(STUCK), SETTINGS)
    np.testing.assert_allclose(values(found.posterior), TRUE.numpy(), atol=0.02)


@pytest.mark.integration
def test_each_epochs_network_is_shown_and_one_of_them_is_kept():
    seen = []
    found = sws.refine(*regression(STUCK), SETTINGS, inspect=lambda row, p: seen.append((row, p)))
    assert [row["epoch"] for row, _ in seen] == list(range(1, SETTINGS.epochs + 1))
    row, posterior = seen[found.epoch - 1]
    assert row["description_nats"] == found.summary()["description_nats"]
    assert sws.quantize(posterior) == sws.quantize(found.posterior)
    assert posterior.point.keys() == found.posterior.point.keys()  # the fitted sites, too


def test_components_as_narrow_as_they_were_fitted_hold_every_weight():
    narrow = replace(SETTINGS, widening=1.0, epochs=10)
    model, posterior, batches = regression(STUCK, deviation=1e-3)
    found = sws.refine(model, posterior, batches, narrow)
    np.testing.assert_array_equal(values(found.posterior) != 0, values(posterior) != 0)


@pytest.mark.integration
def test_the_dearer_bits_are_the_more_weights_are_zero():
    nonzero = []
    for tau in (0.5, 1e3, 1e5):
        found = sws.refine(*regression(STUCK, tau=tau, noise=0.5, deviation=0.03), SETTINGS)
        nonzero.append(np.count_nonzero(values(found.posterior)))
    assert nonzero[0] == 3 and nonzero == sorted(nonzero, reverse=True) and nonzero[-1] < 3


# Its objective.


def test_minus_elbo_is_the_snapped_networks_error_and_the_weights_prior():
    """At rates of 0 in numpy: -sum log N(y; x snapped, noise) - tau sum log p(weights)."""
    weights = [0.03, 0.65, -0.75, -0.02, 0.7, 0.01, 0.0, 0.38]
    model, posterior, batches = regression(weights, tau=0.5)
    still = Refinement(1, widening=3.0, rates=RefinementRates(0.0, 0.0))
    row = sws.refine(model, posterior, batches, still, codebook_dtype="float32").history[1]
    wide = mixture(3 * 0.02)
    snapped = np.array([0.0, 0.7, -0.7, 0.0, 0.7, 0.0, 0.0, 0.7])
    left = batches.targets[:, 0].double().numpy() - batches.inputs.double().numpy() @ snapped
    variance = 0.05**2
    error = 0.5 * (left**2 / variance + math.log(2 * math.pi * variance)).sum()
    density = wide.log_prob(torch.tensor(weights)).double().sum().item()
    assert row["error_cost_nats"] == pytest.approx(error, rel=1e-4)
    assert row["complexity_cost_nats"] == pytest.approx(-density, rel=1e-4)
    assert row["negative_elbo_nats"] == pytest.approx(error - 0.5 * density, rel=1e-4)


def test_widened_components_have_the_same_means_and_proportions():
    of = widened(MixturePrior(mixture()), 4.0).mixture
    assert torch.equal(of.means, mixture().means)
    assert torch.equal(of.proportions, mixture().proportions)
    torch.testing.assert_close(of.deviations, 4 * mixture().deviations)


@pytest.mark.integration
def test_the_mean_0_and_fixed_levels_do_not_move():
    group = regression(STUCK)[0].groups["all"]
    start = MeansOnlyPrior(MixturePrior(mixture())).start(group, None)
    assert start.keys() == {"all.refined_means"}
    assert len(start["all.refined_means"]) == 2
    assert MeansOnlyPrior(MixturePrior(mixture(), fixed_levels=True)).start(group, None) == {}
    found = sws.refine(*regression(STUCK, fixed_levels=True), SETTINGS)
    assert torch.equal(found.posterior.priors["all"].mixture.means, mixture().means)


# What it leaves.


@pytest.fixture(scope="module", params=[ONE_GROUP, TWO_GROUPS], ids=["one group", "two groups"])
def fitted(request):
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, targets, 20)
    model = sws.joint(net, request.param, "categorical", len(inputs), tau=0.05)
    found = sws.fit(model, sws.delta_guide(model), batches, epochs=20)
    return model, sws.merge(found.posterior), batches


QUICK = Refinement(6, widening=3.0, rates=RefinementRates(weights=1e-2, means=1e-2))


@pytest.mark.integration
def test_the_description_is_never_longer(fitted):
    model, posterior, batches = fitted
    wild = replace(QUICK, rates=RefinementRates(weights=3.0, means=1.0))
    for settings in (QUICK, wild):
        found = sws.refine(model, posterior, batches, settings)
        lengths = [row["description_nats"] for row in found.history]
        assert found.epoch == int(np.argmin(lengths)) and len(lengths) == 7
        whole = [(batches.inputs, batches.targets)]
        again = [
            Description(model, whole, posterior.tau).measure(p).nats
            for p in (posterior, found.posterior)
        ]
        assert again[0] == pytest.approx(lengths[0], rel=1e-6)
        assert again[1] == pytest.approx(lengths[found.epoch], rel=1e-6)


def test_where_nothing_is_gained_the_posterior_is_as_it_was(fitted):
    model, posterior, batches = fitted
    wild = Refinement(1, rates=RefinementRates(weights=30.0, means=10.0))
    found = sws.refine(model, posterior, batches, wild)
    assert found.epoch == 0 and found.posterior is posterior


@pytest.mark.integration
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_file_has_the_very_network_that_was_refined(dtype):
    model, posterior, batches = regression(STUCK)
    found = sws.refine(model, posterior, batches, SETTINGS, codebook_dtype=dtype)
    group, prior = model.groups["all"], found.posterior.priors["all"]
    refined = snapped(prior, group, found.posterior.point["all.weights"])
    stored = sws.quantize(found.posterior, dtype).dequantize()["weight"]
    assert found.epoch > 0
    np.testing.assert_array_equal(refined.numpy(), stored.ravel())


@pytest.mark.integration
def test_a_refined_posterior_is_a_point_of_the_model_still():
    model, fitted, batches = regression(STUCK)
    point = sws.refine(model, fitted, batches, SETTINGS).posterior.point
    assert set(fitted.point) < set(point)
    costs = [complexity_cost(model, point) for _ in range(3)]  # nothing is left to be drawn
    assert costs[0] == costs[1] == costs[2]


def test_a_lone_component_is_not_widened():
    one = MixturePrior(sws.Mixture(*(torch.ones(1) for _ in range(3))))
    assert widened(one, 4.0) is one


@pytest.mark.integration
def test_what_was_merged_is_remembered():
    model, posterior, batches = regression(STUCK)
    posterior = replace(posterior, merged={"all": ((0, 3), (1,), (2,))})
    found = sws.refine(model, posterior, batches, SETTINGS)
    assert found.epoch > 0 and found.posterior.merged == posterior.merged
    assert found.posterior.groups == posterior.groups and found.posterior.tau == posterior.tau


def test_the_same_in_gives_the_same_out_and_the_callers_things_stay(fitted):
    model, posterior, batches = fitted
    before = copy.deepcopy(posterior.point), torch.get_rng_state()
    first, second = (sws.refine(model, posterior, batches, QUICK, seed=3) for _ in range(2))
    assert sws.quantize(first.posterior) == sws.quantize(second.posterior)
    assert torch.equal(before[1], torch.get_rng_state())
    for site, value in before[0].items():
        assert torch.equal(value, posterior.point[site])


def test_a_learned_noise_goes_on_from_where_it_is():
    _, inputs, _ = classifier()
    net = nn.Linear(4, 1)
    likelihood = sws.Gaussian(noise_precision=sws.Gamma(2.0, 1.0))
    model = sws.joint(net, ONE_GROUP, likelihood, 60, tau=0.05)
    batches = sws.Batches(inputs, inputs[:, :1], 20)
    fitted = sws.fit(model, sws.delta_guide(model), batches, epochs=30).posterior
    point = {**fitted.point, "noise_precision": torch.tensor(7.0)}
    still = Refinement(1, rates=RefinementRates(0.0, 0.0, 0.0))
    row = sws.refine(model, replace(fitted, point=point), batches, still).history[1]
    weights = as_weights(model, sws.quantize(fitted, "float32").dequantize())
    cost = error_cost(model, weights, batches, point)
    assert row["error_cost_nats"] == pytest.approx(cost, rel=1e-2)


# From compress, a recipe and the command line.


@pytest.mark.integration
def test_compress_refines_what_it_writes():
    model, _, batches = regression(STUCK)
    net, told = model.net, []
    prior = sws.SpikeAndSlabs(2, initialization=(0.7, -0.7), start_deviation=0.03)
    call = {"prior": prior, "likelihood": model.likelihood, "tau": 0.5, "epochs": 2}
    plain = sws.compress(net, batches, **call)
    result = sws.compress(net, batches, refinement=SETTINGS, callback=told.append, **call)
    result.report.text()
    summary = result.report.refinement
    assert plain.report.refinement is None and plain.refined is None
    assert [progress.row["epoch"] for progress in told] == [1, 2, *range(1, 41)]
    assert summary["epochs"] == 40 and summary["epoch_kept"] == result.refined.epoch > 0
    assert summary["description_nats"] < summary["description_nats_before"]
    assert result.packed is result.refined.posterior
    kept = sws.quantize(result.packed).dequantize()
    for name, value in sws.decode(result.data).tensors().items():
        assert sorted(set(value.ravel())) == sorted(set(kept[name].ravel()))
    assert result.report.seconds["refine"] > 0
    json.dumps(result.report.to_dict())


@pytest.mark.integration
def test_a_recipe_says_the_same(tmp_path):
    path = write_recipe(tmp_path)
    changes = ["epochs=2", "refinement.epochs=3", "refinement.rates.weights=0.01"]
    recipe = read_recipe(path, changes)
    expected = Refinement(3, rates=RefinementRates(weights=0.01))
    assert recipe.refinement == expected and expected.rates.means == 1e-3
    run_recipe(recipe, tmp_path / "out")
    run = Run.open(tmp_path / "out")
    assert replace(run.plan, network=recipe.network, data=recipe.data) == recipe
    assert run.report.refinement["epochs"] == 3
    rows = (tmp_path / "out" / "refinement.jsonl").read_text().splitlines()
    assert [json.loads(row)["epoch"] for row in rows] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number >= 1"),
        ({"epochs": 2.5}, "epochs must be a whole number >= 1"),
        ({"widening": 0.5}, "widening must be"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Refinement(**fields)
