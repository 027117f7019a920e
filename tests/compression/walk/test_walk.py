"""The walk, whole: no network comes back destroyed, the tolerance holds, units do not matter."""

import copy
import json
from types import SimpleNamespace

import pytest
import torch
from every_likelihood import FUNCTIONS
from torch import nn

import pyro_sws as sws
from pyro_sws.assess.point.predictive import RETRAINED, SNAPPED, TRAINED
from pyro_sws.compression.execute import taught
from pyro_sws.compression.walk.failure import CompressionFailed
from pyro_sws.compression.walk.hyperparameters import most_probable
from pyro_sws.compression.walk.judge import judge
from pyro_sws.compression.walk.place import Place
from pyro_sws.compression.walk.portions import Portion
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.compression.walk.walker import Walker
from pyro_sws.diagnosis.diagnostics import mixtures, point_diagnostics, stages
from pyro_sws.diagnosis.subject import subject_of
from pyro_sws.inference.evaluation import evaluate
from pyro_sws.inference.guides.given_weights import GivenWeights
from pyro_sws.recipes.recipe import parse

QUICK = sws.Budget(passes=12, minutes=5)


def blobs(n=300, seed=0):
    """Three classes around the corners of a triangle, and a network that tells them apart."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % 3
    corners = torch.tensor([[2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 2.0, 0]])
    inputs = corners[targets] + 0.5 * torch.randn(n, 4, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(inputs), targets).backward()
            optimiser.step()
    return net, inputs, targets


def error_by_hand(net, inputs, targets):
    with torch.no_grad():
        return 100 * (net(inputs).argmax(1) != targets).double().mean().item()


@pytest.fixture(scope="module")
def walked():
    net, inputs, targets = blobs()
    given = copy.deepcopy(net.state_dict())
    state = torch.random.get_rng_state()
    run = sws.compress(net, sws.Batches(inputs, targets, 16), budget=QUICK)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(given[n], t) for n, t in net.state_dict().items())
    return net, inputs, targets, run


@pytest.mark.integration
def test_what_comes_back_is_the_smallest_within_the_tolerance(walked):
    net, inputs, targets, run = walked
    decoded = sws.load(run.data, into=net)
    score = error_by_hand(decoded, inputs, targets)
    best = run.frontier.smallest()
    assert score == pytest.approx(best.score, abs=1e-4)
    assert score <= error_by_hand(net, inputs, targets) + run.frontier.tolerance + 1e-6
    assert run.frontier.reference <= error_by_hand(net, inputs, targets) + 1e-6
    assert len(run.data) <= best.bytes < run.frontier[0].bytes < run.report.parameter_bytes
    assert best.bytes == min(p.bytes for p in run.frontier if p.within)


@pytest.mark.integration
def test_each_point_is_a_file_of_its_score(walked):
    net, inputs, targets, run = walked
    assert len(run.frontier) >= 8
    for point in run.frontier:
        decoded = sws.load(point.data, into=net)
        assert len(point.data) == point.bytes
        assert error_by_hand(decoded, inputs, targets) == pytest.approx(point.score, abs=1e-4)


@pytest.mark.integration
def test_the_report_and_its_page_say_what_the_walk_was_held_to(walked, tmp_path):
    run = walked[-1]
    frontier, told = run.frontier, run.report.walk
    assert told["reference"] == frontier.reference and told["tolerance"] == frontier.tolerance
    assert (told["files"], told["score"]) == (len(frontier), frontier.smallest().score)
    assert not any("snapping moved" in warning for warning in run.report.warnings)
    assert sum("judged on training examples" in warning for warning in run.report.warnings) == 1
    run.save(tmp_path / "run")
    page = " ".join((tmp_path / "run" / "report.html").read_text().split())
    assert f"A walk met {len(frontier)} files in" in page and "judged on training data" in page
    line = f"{len(frontier)} files, limited by the {told['limited_by']}"
    assert line in run.report.text() and "% on training data, where" in run.report.text()
    assert run.report.score["posterior"] is None and "not yet snapped" not in page


@pytest.mark.integration
def test_costs_of_a_walk_are_of_the_network_in_the_file(walked):
    """The weights behind the values are no network: on them nothing was ever computed."""
    net, inputs, targets, run = walked
    with torch.no_grad():
        outputs = sws.load(run.data, into=net)(inputs)
    cost = nn.functional.cross_entropy(outputs.double(), targets, reduction="sum").item()
    assert run.report.error_cost_nats == pytest.approx(cost, rel=1e-4)
    prior = run.report.tau * run.report.complexity_cost_nats
    assert run.report.negative_elbo_nats == pytest.approx(cost + prior, rel=1e-4)


@pytest.mark.integration
def test_a_walk_is_diagnosed_without_the_weights_behind_the_values(walked):
    found = point_diagnostics(subject_of(walked[-1]))
    assert found["snapping"] is None and found["certainty"]["tensors"]
    assert not any("merge_by" in told for group in found["warnings"].values() for told in group)
    predicted = stages(subject_of(walked[-1]))
    assert RETRAINED not in predicted and {TRAINED, SNAPPED} < set(predicted)
    trees, _ = mixtures(subject_of(walked[-1]))
    assert all("a walk sets values" in tree.attrs["notes"] for tree in trees.values()) and trees


@pytest.mark.integration
def test_the_budget_is_kept(walked):
    run = walked[-1]
    assert 0.8 * 12 <= run.frontier[-1].passes <= 1.2 * 12
    steps = [row["file_bytes"] for row in run.history if "file_bytes" in row]
    met = [point.bytes for point in run.frontier][1:]
    differing = [(own, found) for own, found in zip(steps, met, strict=True) if own != found]
    assert all(own > found == len(run.data) for own, found in differing) and len(differing) <= 1


@pytest.mark.integration
def test_a_run_that_walked_is_saved_opened_and_picked_from(walked, tmp_path):
    from typer.testing import CliRunner

    from pyro_sws.cli import app

    run = walked[-1]
    run.save(tmp_path / "run")
    again = sws.Run.open(tmp_path / "run")
    assert [vars(p) for p in again.frontier] == [vars(p) for p in run.frontier]
    assert again.plan.walk == run.plan.walk and again.plan.budget == QUICK
    out = tmp_path / "net.sws"
    told = CliRunner().invoke(
        app, ["pick", str(tmp_path / "run"), "--within", "100", "--out", str(out), "--json"]
    )
    assert told.exit_code == 0, told.output
    smallest = min(run.frontier, key=lambda p: p.bytes)
    assert json.loads(told.stdout)["bytes"] == smallest.bytes
    assert out.read_bytes() == smallest.data
    again.save(tmp_path / "run")
    assert sws.Run.open(tmp_path / "run").data == run.data
    assert "certainty" in sws.diagnose(tmp_path / "run")


@pytest.mark.integration
def test_a_walk_goes_on_under_another_prior_as_a_walk_or_as_a_fit(walked):
    run = walked[-1]
    fitted = run.with_prior(sws.SpikeAndSlabs(slabs=8), epochs=1, tau=0.03)
    assert fitted.frontier is None and fitted.plan.tau == 0.03
    again = run.with_prior(sws.Grid(steps=8))
    assert again.frontier is not None and again.plan.budget == QUICK
    assert len(sws.compare([run, again]).rows) == 2


@pytest.mark.integration
def test_rescaling_layers_or_inputs_changes_nothing():
    """By powers of 2, which floats take exactly: the same file but for its scales."""
    net, inputs, targets = blobs()
    other = copy.deepcopy(net)
    with torch.no_grad():
        other[0].weight.mul_(8 / 4)
        other[0].bias.mul_(8)
        other[2].weight.div_(8)
    runs = [
        sws.compress(n, sws.Batches(x, targets, 16), budget=QUICK)
        for n, x in ((net, inputs), (other, 4 * inputs))
    ]
    first, second = runs
    assert [p.score for p in first.frontier] == [p.score for p in second.frontier]
    for name, symbols in first.quantized.symbols.items():
        assert (symbols == second.quantized.symbols[name]).all()
    assert abs(len(first.data) - len(second.data)) <= 4


@pytest.mark.integration
@pytest.mark.slow
def test_a_network_that_still_learns_is_held_to_what_it_has_learnt():
    """Else a file could give away all that training on had gained, and more."""
    net, inputs, targets = blobs()
    with torch.no_grad():
        net[2].bias += torch.tensor([9.0, 0.0, 0.0])  # easily unlearnt
    before = error_by_hand(net, inputs, targets)
    run = sws.compress(net, sws.Batches(inputs, targets, 16), budget=QUICK)
    learnt = error_by_hand(sws.load(run.frontier[1].data, into=net), inputs, targets)
    assert learnt < before - 5
    assert run.frontier.reference == pytest.approx(learnt, abs=1e-4)
    decoded = error_by_hand(sws.load(run.data, into=net), inputs, targets)
    assert decoded <= learnt + run.frontier.tolerance + 1e-6


@pytest.mark.integration
def test_validation_data_is_what_a_walk_is_judged_by():
    net, inputs, targets = blobs()
    fresh = blobs(seed=1)[1:]
    run = sws.compress(
        net, sws.Batches(inputs, targets, 16), validation=[fresh], tolerance=1.0, budget=QUICK
    )
    assert run.frontier.judged_on == "validation" and run.frontier.tolerance == 1.0
    assert run.frontier.reference == pytest.approx(error_by_hand(net, *fresh), abs=1e-4)
    decoded = sws.load(run.data, into=net)
    assert error_by_hand(decoded, *fresh) <= error_by_hand(net, *fresh) + 1.0 + 1e-6


@pytest.mark.integration
def test_a_network_that_cannot_be_kept_is_an_error_with_what_there_is():
    net, inputs, targets = blobs()
    wrong = (targets + 1) % 3  # what it learns on the way is not what it is judged by
    with pytest.raises(CompressionFailed, match="no file within 0.1 percent") as caught:
        sws.compress(
            net,
            sws.Batches(inputs, wrong, 16),
            validation=[(inputs, targets)],
            tolerance=0.1,
            prior=sws.Ternary(),
            budget=QUICK,
        )
    frontier = caught.value.frontier
    assert caught.value.best in frontier.points and not any(p.within for p in frontier)
    assert sws.load(caught.value.best.data, into=net)


@pytest.mark.integration
@pytest.mark.parametrize(
    "prior", [sws.Grid(steps=8), sws.SpikeAndSlabs(slabs=30)], ids=["grid", "slabs"]
)
def test_another_prior_walks(prior):
    net, inputs, targets = blobs()
    run = sws.compress(
        net, sws.Batches(inputs, targets, 16), prior=prior, fit=sws.Walk(), budget=QUICK
    )
    assert (
        error_by_hand(sws.load(run.data, into=net), inputs, targets)
        <= run.frontier.reference + run.frontier.tolerance + 1e-6
    )
    assert len(run.data) < run.frontier[0].bytes


@pytest.mark.integration
def test_a_list_of_one_batch_is_no_budget_of_so_many_steps():
    net, inputs, targets = blobs()
    run = sws.compress(net, [(inputs, targets)], budget=QUICK)
    assert len(run.data) < 0.7 * run.frontier[0].bytes


@pytest.mark.integration
@pytest.mark.slow
def test_a_regression_keeps_its_error():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(400, 5, generator=generator)
    targets = 1000 * (
        inputs[:, :1] - inputs[:, 1:2] + 0.2 * torch.randn(400, 1, generator=generator)
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 1))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(400):
        optimiser.zero_grad()
        (net(inputs) - targets / 1000).square().mean().backward()
        optimiser.step()
    with torch.no_grad():
        net[2].weight.mul_(1000), net[2].bias.mul_(1000)
    run = sws.compress(
        net, sws.Batches(inputs, targets, 16), likelihood="gaussian", budget=sws.Budget(passes=60)
    )
    model = sws.joint(net, sws.SpikeAndSlabs(), "gaussian", 400)
    before = evaluate(model, {}, [(inputs, targets)], model.start()).score
    decoded = sws.joint(sws.load(run.data, into=net), sws.SpikeAndSlabs(), "gaussian", 400)
    after = evaluate(decoded, {}, [(inputs, targets)], model.start()).score
    assert after <= before + run.frontier.tolerance


def test_what_is_for_a_fit_is_refused_beside_a_walk():
    net, inputs, targets = blobs()
    for more, name in (
        ({"refinement": sws.Refinement()}, "refinement"),
        ({"guide": "normal"}, "guide"),
        ({"density": sws.Density(prior_subsample=0.5)}, "prior_subsample"),
        ({"packing": sws.Packing(signal_to_noise=1.0)}, "signal_to_noise"),
        ({"packing": sws.Packing(merge_by="description")}, "merge_by"),
    ):
        with pytest.raises(ValueError, match=f"{name} is for a fit, and this is a walk"):
            sws.compress(net, [(inputs, targets)], tolerance=1.0, **more)


@pytest.mark.parametrize("tolerance", [0, -1, float("nan"), float("inf"), "1", True])
def test_a_tolerance_is_a_positive_number(tolerance):
    net, inputs, targets = blobs()
    with pytest.raises(ValueError, match="tolerance must be a"):
        sws.compress(net, [(inputs, targets)], tolerance=tolerance)


def test_tau_epochs_or_fitting_ask_for_the_papers_procedure():
    net, inputs, targets = blobs()
    for asked in ({"tau": 0.1, "epochs": 1}, {"fit": sws.Fitting(epochs=1)}, {"epochs": 1}):
        run = sws.compress(net, [(inputs, targets)], **asked)
        assert run.frontier is None and run.plan.walk is None


def test_a_recipe_walks_where_it_has_a_tolerance():
    table = {"network": "a.py:b", "data": "c.py:d", "prior": [{"family": "grid"}]}
    assert parse(table).walk is None
    assert parse({**table, "tolerance": 0.3}).walk == sws.Walk()
    plan = parse({**table, "budget": {"passes": 10}, "walk": {"growth": 1.1}})
    assert plan.walk == sws.Walk(growth=1.1) and plan.budget == sws.Budget(passes=10)


@pytest.mark.integration
@pytest.mark.parametrize("budget", [sws.Budget(passes=0.5), sws.Budget(passes=None, minutes=1e-4)])
def test_a_budget_of_next_to_nothing_gives_a_file_or_says_so(budget):
    net, inputs, targets = blobs(60)
    run = sws.compress(net, sws.Batches(inputs, targets), budget=budget, tolerance=50.0)
    assert len(run.frontier) >= 2


def test_settings_of_a_fit_are_refused_beside_a_tolerance():
    net, inputs, targets = blobs()
    for more in ({"epochs": 1}, {"fit": sws.Fitting(epochs=1)}, {"tau": 0.1}):
        (name,) = more
        with pytest.raises(ValueError, match=f"^{name} = .* is for a fit"):
            sws.compress(net, [(inputs, targets)], tolerance=1.0, **more)


@pytest.mark.integration
@pytest.mark.slow
def test_units_of_targets_change_nothing():
    """By a power of 2: the same scores in other units, however small a gradient is in them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 3, generator=generator)
    targets = inputs[:, :1] + 0.3 * torch.randn(200, 1, generator=generator)
    scores = []
    for unit in (1.0, 2.0**-30):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
        with torch.no_grad():
            net[2].weight.mul_(unit), net[2].bias.mul_(unit)
        run = sws.compress(
            net, sws.Batches(inputs, unit * targets, 16), likelihood="gaussian", budget=QUICK
        )
        scores.append([point.score / unit for point in run.frontier])
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)


@pytest.mark.parametrize(
    "share, likelihood, fitted",
    [
        (0.5, sws.Categorical(), sws.Distilled(share=0.5)),
        (0.0, sws.Categorical(), sws.Categorical()),
        (0.5, sws.Distilled(share=0.9), sws.Distilled(share=0.9)),
        (0.5, sws.Gaussian(4.0), sws.Gaussian(2.0)),  # of dispersion 2: numbers as they are
        (0.0, sws.Gaussian(4.0), sws.Gaussian(2.0)),
        (0.5, sws.Taught(sws.Gaussian(4.0), 0.9), sws.Taught(sws.Gaussian(2.0), 0.9)),
        (0.5, sws.Taught(sws.Bernoulli(), 0.9), sws.Taught(sws.Bernoulli(), 0.9)),
        (0.5, FUNCTIONS["loss"], FUNCTIONS["loss"]),
        (0.5, FUNCTIONS["from_distribution"], FUNCTIONS["from_distribution"]),
    ],
)
def test_a_walk_is_taught_by_the_network_unless_the_likelihood_says_otherwise(
    share, likelihood, fitted
):
    net, *_ = blobs()
    model = sws.joint(net, sws.SpikeAndSlabs(), likelihood, 300, tau=0.1)
    walked = taught(model, 2.0, sws.Walk(soft_targets=share))
    assert walked.likelihood == fitted and walked.tau == pytest.approx(0.05)
    if hasattr(fitted, "taught"):  # by what the network says, asked once an example
        inputs = torch.randn(5, 4)
        with torch.no_grad():
            expected = net(inputs)
        for _ in range(2):
            assert torch.allclose(walked.teacher(inputs), expected, atol=1e-6)


def walker_of(net, inputs, targets, tolerance, tau, budget=QUICK):
    batches = sws.Batches(inputs, targets, 16)
    model = sws.joint(net, default_rules(net), "categorical", len(inputs), tau=tau)
    judged = judge(model, [(inputs, targets)], "training", tolerance)
    walker = Walker(judged, Portion(batches), 19, sws.Walk(), "float16", 0, budget)
    return walker, walker.measured(Place.of(model, sws.Walk())), batches


def test_values_merge_at_the_end_where_their_description_is_shorter():
    net, inputs, targets = blobs()
    walker, stand, batches = walker_of(net, inputs, targets, 5.0, tau=30.0)
    merged = walker.merged(stand, batches, None)
    assert merged.point is walker.points[-1] and merged.point.bytes < stand.point.bytes
    fewer = {name: len(density.mixture) for name, density in merged.place.densities.items()}
    assert any(n < len(stand.place.densities[name].mixture) for name, n in fewer.items())
    decoded = sws.load(merged.point.data, into=net)
    assert error_by_hand(decoded, inputs, targets) == pytest.approx(merged.point.score, abs=1e-4)
    # Where a value is worth its bits there is nothing to merge, and no file more.
    walker, stand, batches = walker_of(net, inputs, targets, 5.0, tau=1e-9)
    if (found := walker.merged(stand, batches, None)) is not None:
        assert found.point.bytes <= stand.point.bytes


def test_a_merged_file_beyond_the_tolerance_is_not_the_one_that_comes_back(monkeypatch):
    monkeypatch.setattr("pyro_sws.compression.walk.walker.MERGING", 50)
    net, inputs, targets = blobs()
    walker, stand, batches = walker_of(net, inputs, targets, 0.5, tau=1e5)
    merged = walker.merged(stand, batches, None)
    assert not merged.point.within and walker.shorter(stand, merged) is stand


def test_nothing_merges_where_training_outputs_are_not_finite():
    net, inputs, targets = blobs()
    walker, stand, _ = walker_of(net, inputs, targets, 5.0, tau=30.0)
    assert walker.merged(stand, [], [(inputs * 1e38, targets)]) is None
    assert len(walker.points) == 1


def test_merging_is_within_the_budgets_minutes():
    walker = Walker(None, Portion([]), 10, sws.Walk(), "float16", 0, sws.Budget(minutes=1.0))
    assert walker.has_minutes()
    walker.began -= 61
    assert not walker.has_minutes()
    walker.budget = sws.Budget(minutes=None)
    assert walker.has_minutes()


def test_rates_are_in_proportion_to_narrow_widths_and_fall_at_the_end():
    walker = Walker(None, Portion([]), 10, sws.Walk(), "float16", 0, sws.Budget(passes=10))
    at = {width: walker.rate(width) for width in (0.001, 0.15, 0.3, 3.0)}
    assert at == {0.001: 0.1, 0.15: 0.5, 0.3: 1.0, 3.0: 1.0}
    rates = []
    for walker.taken in (50, 75, 100):
        rates.append(walker.rate(1.0))
    assert rates == pytest.approx([1.0, 0.5, 0.1])
    walker.slow_down()
    assert walker.rate(1.0) == pytest.approx(0.1 / 4)


@pytest.mark.integration
def test_a_network_that_few_values_cannot_say_sets_out_with_more():
    """Targets are the network's own outputs: a value is as near as it is fine."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 24), nn.Tanh(), nn.LayerNorm(24), nn.Linear(24, 1))
    inputs = torch.randn(300, 6)
    with torch.no_grad():
        targets = net(inputs) + 0.05 * torch.randn(300, 1)
    run = sws.compress(
        net, sws.Batches(inputs, targets, 16), likelihood="gaussian", budget=sws.Budget(passes=4)
    )
    first, second = run.frontier[:2]
    assert not first.within and second.score < first.score
    assert second.width == first.width / 2 and second.passes == 0


@pytest.mark.integration
@pytest.mark.parametrize("tolerance", [50.0, 1e-9])
def test_rates_that_destroy_at_once_leave_the_network_as_it_was_snapped(tolerance):
    net, inputs, targets = blobs()
    rates = sws.WalkRates(weights=1e30, means=1e30, scales=1e30)
    asked = {"fit": sws.Walk(rates=rates), "tolerance": tolerance, "budget": QUICK}
    if tolerance < 1:
        targets = (targets + (torch.arange(len(targets)) % 7 == 0)) % 3  # no snapped one is as good
        asked["prior"] = sws.Ternary()
        with pytest.raises(CompressionFailed) as caught:
            sws.compress(net, sws.Batches(inputs, targets, 16), **asked)
        assert sws.load(caught.value.best.data, into=net)
        return
    run = sws.compress(net, sws.Batches(inputs, targets, 16), **asked)
    assert run.frontier.smallest().step == 0


@pytest.mark.integration
def test_passes_of_little_data_are_those_that_were_asked_for():
    net, inputs, targets = blobs(30)
    run = sws.compress(
        net, sws.Batches(inputs, targets, 10), budget=sws.Budget(passes=4, minutes=None)
    )
    assert run.frontier[-1].passes <= 4.8


@pytest.mark.parametrize(
    ("scores", "chosen", "measured"),
    [
        ([4.0], 0, 1),  # within
        ([9.0, 4.0], 1, 2),
        ([9.0, 8.0, 4.0], 2, 3),
        ([9.0, 9.0, 4.0], 0, 2),  # finer is no better: values are not what is missing
        ([9.0, 8.0, 8.5, 4.0], 1, 3),
        ([9.0, 8.0, 7.0, 6.0, 4.0], 3, 4),
    ],
)
def test_values_are_made_finer_as_long_as_that_helps_and_the_network_is_not_within(
    scores, chosen, measured
):
    class Measured(Walker):
        settings, met = sws.Walk(), 0

        def __init__(self):
            pass

        def measured(self, place):
            score, self.met = scores[self.met], self.met + 1
            return SimpleNamespace(
                place=place, point=SimpleNamespace(score=score, within=score <= 5)
            )

    class Coarse:
        doublings = 0

        def finer(self, settings):
            finer = Coarse()
            finer.doublings = self.doublings + 1
            return finer

    walker = Measured()
    assert walker.started(Coarse()).place.doublings == chosen and walker.met == measured


def test_hyperparameters_are_those_of_most_density_to_a_few_nats():
    """Against many more steps of another optimiser, from where it ended."""
    net, inputs, targets = blobs()
    batches = [(inputs, targets)]
    model = sws.joint(net, default_rules(net), "categorical", 300, tau=0.03)
    walked = Place.of(model, sws.Walk()).posterior
    found = most_probable(model, walked, batches)
    energy = GivenWeights(model, {**model.start(), **walked.point}, batches)
    ended = GivenWeights(model, found.point, batches)

    def cost(at):
        return energy.potential(at) + energy.space.with_jacobian(at)[1]

    at = ended.start.clone().requires_grad_()
    first = cost(at).item()
    optimiser, least = torch.optim.Adam([at], 0.02), first
    for _ in range(300):
        optimiser.zero_grad()
        value = cost(at)
        value.backward()
        optimiser.step()
        least = min(least, value.item())
    assert first - least < 3.0
