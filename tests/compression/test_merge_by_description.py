"""Components that a description does without: what goes, what stays; nothing gets longer."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from problems import classifier
from small_recipe import write_recipe
from torch import nn
from torch.func import functional_call

import pyro_sws as sws
from pyro_sws.compression.description_length import Description
from pyro_sws.compression.survey import survey
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.run import Run
from pyro_sws.weights.weight_prior import MixturePrior

TAUS = [1e-6, 0.03, 1.0, 1e3]
LEVELS = (-2.0, -1.0, 0.0, 1.0, 2.0)


def mixture(means, deviation=0.1, proportions=None):
    means = torch.tensor(means)
    shares = torch.ones_like(means) if proportions is None else torch.tensor(proportions)
    return sws.Mixture(means, torch.full_like(means, deviation**-2), shares / shares.sum())


def problem(means, weights=LEVELS, rules=None, **mixture_fields):
    """A posterior near the given weights, drawn in turn, and the labels that its network gives."""
    net, inputs, _ = classifier()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            drawn = torch.randint(len(weights), parameter.shape, generator=generator)
            noise = 0.02 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(torch.tensor(weights)[drawn] + noise)
        targets = net(inputs).argmax(1)
    model = sws.joint(net, rules or sws.SpikeAndSlabs(), "categorical", 60, tau=0.03)
    prior = MixturePrior(mixture(means, **mixture_fields))
    priors = dict.fromkeys(model.groups, prior)
    posterior = sws.Posterior(model.groups, model.start(), priors, model.raw(), model.tau)
    return model, posterior, [(inputs, targets)]


def kept(posterior, group="all"):
    return [j for cluster in posterior.merged[group] for j in cluster]


def description(model, posterior, batches, tau):
    """In nats, from the file alone."""
    data = sws.encode(sws.quantize(posterior))
    weights = {name: torch.from_numpy(a) for name, a in sws.decode(data).tensors().items()}
    ((inputs, targets),) = batches
    outputs = functional_call(model.net, weights, (inputs,))
    error = nn.functional.cross_entropy(outputs.double(), targets, reduction="sum").item()
    return error + tau * math.log(2) * 8 * len(data)


@pytest.mark.parametrize("tau", TAUS)
def test_coincident_components_are_one_in_the_end(tau):
    found = sws.merge_by_description(*problem([*LEVELS, 1.0, 1.0]), tau=tau)
    assert all({3, 5, 6} <= set(c) or not {3, 5, 6} & set(c) for c in found.merged["all"])


@pytest.mark.parametrize("tau", TAUS)
def test_a_component_that_no_weight_takes_goes_at_any_tau_unless_it_is_zero(tau):
    without_zeros = [level for level in LEVELS if level]
    model, posterior, batches = problem([*LEVELS, 9.0, -9.0], weights=without_zeros)
    found = sws.merge_by_description(model, posterior, batches, tau=tau)
    assert not {5, 6} & set(kept(found)) and 2 in kept(found)


def test_components_that_the_network_needs_stay_where_bytes_cost_nothing():
    model, posterior, batches = problem(LEVELS)
    found = sws.merge_by_description(model, posterior, batches, tau=1e-9)
    before, after = (description(model, p, batches, 0.0) for p in (posterior, found))
    assert after <= before + 1e-3 and len(found.priors["all"].mixture) >= 3
    # And without them the network would be another one.
    gone = sws.merge(posterior, threshold=1e9)
    assert description(model, gone, batches, 0.0) > before + 10


def test_few_components_are_left_where_bytes_are_dear():
    model, posterior, batches = problem(LEVELS)
    sizes = []
    for tau in (1e-9, 1e6):
        found = sws.merge_by_description(model, posterior, batches, tau=tau)
        sizes.append((len(found.priors["all"].mixture), len(sws.encode(sws.quantize(found)))))
    assert sizes[1] < sizes[0] and sizes[1][0] <= 2 and sizes[1][1] < sizes[0][1]


def test_rounds_end_it_sooner():
    means = torch.linspace(-2.2, 2.2, 40).tolist() + [0.0]
    model, posterior, batches = problem(means, deviation=0.4)
    sizes = []
    for rounds in (0, 1, 2, None):
        found = sws.merge_by_description(model, posterior, batches, tau=1e6, rounds=rounds)
        sizes.append(len(found.priors["all"].mixture))
    assert sizes[0] == 41 and sizes == sorted(sizes, reverse=True) and sizes[1] > sizes[3]


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("deviation", [0.05, 0.4])
def test_the_description_never_gets_longer(tau, deviation):
    means = torch.linspace(-2.2, 2.2, 15).tolist() + [0.0]
    model, posterior, batches = problem(means, deviation=deviation)
    found = sws.merge_by_description(model, posterior, batches, tau=tau)
    before, after = (description(model, p, batches, tau) for p in (posterior, found))
    assert after <= before * (1 + 1e-6) and len(found.priors["all"].mixture) < 16


def test_the_posteriors_own_tau_counts_unless_another_is_given():
    model, posterior, batches = problem(LEVELS)
    dear = replace(posterior, tau=1e6)
    own = sws.merge_by_description(model, dear, batches)
    given = sws.merge_by_description(model, posterior, batches, tau=1e6)
    assert own.merged == given.merged != sws.merge_by_description(model, posterior, batches).merged
    assert own.tau == 1e6 and given.tau == posterior.tau


def test_what_was_merged_before_is_still_known():
    model, posterior, batches = problem([*LEVELS, 1.001, 9.0])
    once = sws.merge(posterior)
    assert once.merged["all"] == ((0,), (1,), (2,), (3, 5), (4,), (6,))
    twice = sws.merge_by_description(model, once, batches, tau=1e-9)
    assert (3, 5) in [tuple(j for j in c if j in (3, 5)) for c in twice.merged["all"]]
    assert len(twice.merged["all"]) == len(twice.priors["all"].mixture) and 6 not in kept(twice)


TWO_GROUPS = [sws.Rule(sws.SpikeAndSlabs(), "0.*", "first"), sws.Rule(sws.SpikeAndSlabs())]


def test_each_group_has_its_own_number_and_fixed_levels_stay():
    model, posterior, batches = problem([*LEVELS, 9.0], rules=TWO_GROUPS)
    grid = replace(posterior.priors["first"], fixed_levels=True)
    posterior = replace(posterior, priors={**posterior.priors, "first": grid})
    found = sws.merge_by_description(model, posterior, batches, tau=1e6)
    assert found.priors["first"] is grid and kept(found, "first") == [0, 1, 2, 3, 4, 5]
    assert len(found.priors["all"].mixture) <= 2
    before, after = (description(model, p, batches, 1e6) for p in (posterior, found))
    assert after < before


def test_groups_without_fixed_levels_all_lose_components():
    model, posterior, batches = problem([*LEVELS, 9.0], rules=TWO_GROUPS)
    found = sws.merge_by_description(model, posterior, batches, tau=1.0)
    assert all(5 not in kept(found, name) for name in ("first", "all"))
    before, after = (description(model, p, batches, 1.0) for p in (posterior, found))
    assert after < before


def test_scaled_weights_are_merged_in_units_of_their_scale():
    model, posterior, batches = problem(LEVELS)
    scales = torch.linspace(0.5, 2, 67)
    weights = posterior.point["all.weights"] * scales
    prior = MixturePrior(posterior.priors["all"].mixture, scales)
    scaled = replace(posterior, point={"all.weights": weights}, priors={"all": prior})
    found = sws.merge_by_description(model, scaled, batches, tau=1.0)
    before, after = (description(model, p, batches, 1.0) for p in (scaled, found))
    assert after < before and torch.equal(found.priors["all"].scales, scales)


def test_the_result_goes_to_a_file_and_back():
    model, posterior, batches = problem(LEVELS)
    found = sws.merge_by_description(model, posterior, batches, tau=0.3)
    quantized = sws.quantize(found)
    loaded = sws.load(sws.encode(quantized), into=model.net)
    for name, values in quantized.tensors().items():
        assert torch.equal(loaded.state_dict()[name], torch.from_numpy(values))


def test_the_same_in_gives_the_same_out_and_the_callers_things_stay():
    model, posterior, batches = problem(LEVELS)
    net, means = (
        copy.deepcopy(model.net.state_dict()),
        posterior.priors["all"].mixture.means.clone(),
    )
    state = torch.get_rng_state()
    one, other = (
        sws.merge_by_description(model, posterior, sws.Batches(*batches[0], 7), examples=30, tau=1)
        for _ in range(2)
    )
    assert one.merged == other.merged
    assert torch.equal(one.priors["all"].mixture.means, other.priors["all"].mixture.means)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(posterior.priors["all"].mixture.means, means) and not posterior.merged
    assert all(torch.equal(net[name], w) for name, w in model.net.state_dict().items())


def test_a_subset_stands_for_the_whole_data():
    inputs, targets = torch.arange(4000.0).view(-1, 1).expand(-1, 4), torch.arange(4000) % 3
    model = sws.joint(classifier()[0], sws.SpikeAndSlabs(), "categorical", 4000)
    subset = survey(sws.Batches(inputs, targets, 64), model.data_size, examples=1000).sample
    rows = torch.cat([part[:, 0] for part, _ in subset])
    assert len(rows.unique()) == len(rows) and len(subset) == 1
    assert abs(len(rows) - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5  # binomial
    assert Description(model, subset, 1.0).factor == pytest.approx(4000 / len(rows))
    whole = survey(sws.Batches(inputs, targets, 64), model.data_size, examples=10_000).sample
    assert sum(len(part) for part, _ in whole) == 4000


def test_curvature_of_a_quadratic_cost_is_its_second_derivative():
    # Error cost 0.5 sum_n (w x_n - y_n)^2: the second derivative in w is sum_n x_n^2.
    net = nn.Linear(1, 1, bias=False)
    inputs = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    model = sws.joint(net, sws.SpikeAndSlabs(), "gaussian", 100)
    prior = {"all": MixturePrior(mixture([0.0, 1.0]))}
    point = {"all.weights": torch.tensor([0.9])}
    posterior = sws.Posterior(model.groups, point, prior, {}, 1.0, merged={"all": ((0,), (1,))})
    found = Description(model, [(inputs, 3 * inputs)], 1.0)
    sensitivity = found.sensitivity(found.measure(posterior))
    squares = 2 * inputs.square().sum().item()  # each example stands for two
    assert sensitivity.gradient["weight"].item() == pytest.approx((1 - 3) * squares, rel=1e-4)
    assert sensitivity.curvature["weight"].item() == pytest.approx(squares, rel=1e-2)


@pytest.mark.integration
def test_compress_has_it_as_a_choice():
    net, inputs, targets = classifier()
    batches, quick = [(inputs, targets)], sws.Rates(weights=0.02, precisions=0.03)
    fields = {"tau": 0.3, "fit": sws.Fitting(epochs=30, rates=quick)}
    plain, result = (
        sws.compress(net, batches, packing=sws.Packing(merge_by=by, rewrite=False), **fields)
        for by in ("divergence", "description")
    )
    assert plain.packed.merged == sws.merge(plain.posterior).merged
    model = sws.joint(net, sws.SpikeAndSlabs(), "categorical", 60)
    before, after = (description(model, r.packed, batches, 0.3) for r in (plain, result))
    assert after <= before * (1 + 1e-6)
    assert result.data == sws.encode(sws.quantize(result.packed))
    (group,) = result.report.groups.values()
    lost = sum(len(cluster) - 1 for cluster in group["merged"]) + len(group["deleted"])
    assert group["components"] == group["components_before_merging"] - lost
    assert group["components"] == len(result.packed.priors["all"].mixture)
    assert 0 < result.report.seconds["merge"]


@pytest.mark.integration
def test_a_recipe_chooses_it(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path, merge_by="description"))
    result = run_recipe(recipe, tmp_path / "out")
    assert 'merge_by = "description"' in (tmp_path / "out/recipe.toml").read_text()
    (group,) = Run.open(tmp_path / "out").report.groups.values()
    assert group["components"] == len(result.packed.priors["all"].mixture)
    assert group["components"] - 1 <= group["used_components"]  # zero may stay unused


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({"tau": 0.0}, ValueError, "tau must be a positive number, got 0.0"),
        ({"tau": math.inf}, ValueError, "tau must be a positive number, got inf"),
        ({"examples": 0}, ValueError, "examples must be at least 1, got 0"),
        ({"codebook_dtype": "int8"}, ValueError, "unknown codebook_dtype 'int8'"),
        ({"batches": iter(())}, TypeError, "one-shot iterator"),
    ],
)
def test_what_cannot_be_is_refused(keys, error, message):
    model, posterior, batches = problem(LEVELS)
    with pytest.raises(error, match=message):
        sws.merge_by_description(model, posterior, **{"batches": batches, **keys})
