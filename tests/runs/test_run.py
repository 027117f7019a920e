"""A run and its folder are one value: what is saved is opened again, field by field."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from every_prior import RowScaled
from problems import classifier

import pyro_sws as sws
from pyro_sws.compression.plan import Unnamed
from pyro_sws.runs.execute import run_recipe

pytestmark = pytest.mark.integration

QUICK = sws.Fitting(epochs=3, rates=sws.Rates(precisions=0.05))


def assert_same(one, other, where="run"):
    """Equal in every field, to the last bit."""
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
        assert any(one.stride()) == any(other.stride()), where  # one number for all weights
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other), where
    elif isinstance(one, Mapping):
        assert list(one) == list(other), where
        for key in one:
            assert_same(one[key], other[key], f"{where}[{key!r}]")
    elif dataclasses.is_dataclass(one):
        assert type(one) is type(other), where
        for field in dataclasses.fields(one):
            pair = (getattr(value, field.name) for value in (one, other))
            assert_same(*pair, f"{where}.{field.name}")
    else:
        assert one == other, where


def compressed(**more):
    net, inputs, targets = classifier()
    batches = [(inputs[:30], targets[:30]), (inputs[30:], targets[30:])]
    given = {"fit": QUICK, "tau": 0.001, **more}
    return sws.compress(net, batches, validation=batches[1:], **given)


KINDS = {
    "plain": {},
    "refined": {"refinement": sws.Refinement(epochs=2)},
    "merged by description": {"packing": sws.Packing(merge_by="description")},
    "fingerprint": {"packing": sws.Packing(fingerprint=True)},
    "with spread": {"guide": "normal", "packing": sws.Packing(signal_to_noise=0.1)},
    "low rank": {"guide": "low_rank"},
    "laplace": {"guide": "laplace", "fit": sws.Fitting(epochs=2)},
    "scaled": {"prior": sws.Scaled(sws.SpikeAndSlabs(3, 0.5))},
    "scaled by row": {"prior": sws.Scaled(sws.SpikeAndSlabs(3, 0.5), "row")},
    "structured": {"prior": sws.Structured()},
    "grid": {"prior": sws.Grid()},
    "ternary": {"prior": sws.Ternary(0.5)},
    "rounded Gaussian": {"prior": sws.GaussianPrior(4.0, steps=7)},
    "several groups": {
        "prior": [
            sws.Rule(sws.SpikeAndSlabs(2), match="0.*", group="first"),
            sws.Rule(sws.SpikeAndSlabs(2), match="2.weight", group="last", each=True),
        ]
    },
    "several groups with spread": {
        "guide": "normal",
        "prior": [
            sws.Rule(sws.SpikeAndSlabs(2), match="2.*", group="upper"),
            sws.Rule(sws.SpikeAndSlabs(2), group="lower"),
        ],
    },
    "learned noise, double": {"likelihood": "gaussian", "dtype": torch.float64},
}


def one_hot(kind):
    net, inputs, targets = classifier()
    return [(inputs, torch.nn.functional.one_hot(targets).float())]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_opened_as_it_was_saved(kind, tmp_path):
    if kind.startswith("learned noise"):
        noise = sws.Gaussian(noise_precision=sws.Gamma(2.0, 1.0))
        batches = one_hot(kind)
        net, *_ = classifier()
        run = sws.compress(net, batches, likelihood=noise, dtype=torch.float64, fit=QUICK)
    else:
        run = compressed(**KINDS[kind])
    run.save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    # A network and batches given in Python have no name in a folder.
    named = dataclasses.replace(run.plan, network=Unnamed("Sequential"), data=opened.plan.data)
    assert isinstance(opened.plan.data, Unnamed)
    assert_same(dataclasses.replace(run, plan=named), opened)
    opened.save(tmp_path / "again")
    for path in (tmp_path / "run").rglob("*"):
        if path.is_file():
            again = tmp_path / "again" / path.relative_to(tmp_path / "run")
            assert again.read_bytes() == path.read_bytes(), path


def test_a_recipe_s_run_is_opened_with_its_whole_plan(finished_runs, tmp_path):
    run, folder = finished_runs.run("refined"), finished_runs.copy("refined", tmp_path)
    opened = sws.Run.open(folder)
    assert_same(dataclasses.replace(run, plan=opened.plan), opened)
    assert sws.Run.open(folder).plan == opened.plan
    again = run_recipe(sws.read_recipe(folder / "recipe.toml"), tmp_path / "again")
    assert again.data == run.data and again.history[-1]["mixtures"] == run.history[-1]["mixtures"]


def test_what_a_folder_names_is_not_run_for_its_sake(finished_runs, tmp_path):
    opened = sws.Run.open(finished_runs.folder("plain") / "out")
    for use in (
        lambda: opened.decoded,
        lambda: opened.with_prior(sws.SpikeAndSlabs(2)),
        lambda: run_recipe(opened.plan, tmp_path / "again"),
    ):
        with pytest.raises(ValueError, match="is code that a run folder names; it is run only"):
            use()


def test_the_tensors_of_a_run_are_copies(tmp_path):
    net, inputs, targets = classifier()
    run = sws.compress(net, [(inputs, targets)], epochs=1)
    before = run.given["0.weight"].clone()
    with torch.no_grad():
        net[0].weight.zero_()
    assert torch.equal(run.given["0.weight"], before)


def test_a_path_that_ends_in_sws_is_the_file_alone(tmp_path):
    run = compressed()
    run.save(tmp_path / "net.sws")
    assert (tmp_path / "net.sws").read_bytes() == run.data
    assert [path.name for path in tmp_path.iterdir()] == ["net.sws"]


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path):
    run = compressed()
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty"):
        run.save(tmp_path)
    assert (tmp_path / "figures" / "mine.png").read_bytes() == b"mine"
    run.save(tmp_path / "run")
    (tmp_path / "run" / "figures" / "mine.png").write_bytes(b"mine")
    run.save(tmp_path / "run")  # over a run
    assert (tmp_path / "run" / "figures" / "mine.png").read_bytes() == b"mine"
    assert sws.Run.open(tmp_path / "run").data == run.data


@pytest.mark.parametrize("report", ["{}", "[1]", "no JSON", '{"format": 1}'])
def test_a_report_json_alone_makes_no_run_of_a_folder(report, tmp_path):
    (tmp_path / "report.json").write_text(report)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "mine.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not empty"):
        compressed().save(tmp_path)
    assert (tmp_path / "report.json").read_text() == report
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["mine.png"]


def test_a_diagnosis_stays_where_a_run_is_saved_over_its_own_folder(finished_runs, tmp_path):
    folder = finished_runs.copy("mixture", tmp_path)
    sws.diagnose(folder)
    diagnosis = folder / "diagnostics"
    before = {path.name: path.read_bytes() for path in diagnosis.iterdir()}
    page = (folder / "report.html").read_bytes()
    opened = sws.Run.open(folder)
    opened.save(folder)
    assert {path.name: path.read_bytes() for path in diagnosis.iterdir()} == before
    assert (folder / "report.html").read_bytes() == page
    finished_runs.run("mixture").save(folder)  # without a diagnosis
    assert not diagnosis.exists()


def test_a_run_from_a_folder_says_how_to_go_on(tmp_path):
    compressed().save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    with pytest.raises(ValueError, match=r"Go on with yours: compress\(net, train, prior="):
        opened.with_prior(sws.SpikeAndSlabs(3))


def test_a_run_from_a_folder_says_what_it_has_no_network_for(tmp_path):
    compressed().save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    with pytest.raises(ValueError, match="the network, Sequential, was given in Python"):
        opened.decoded  # noqa: B018


def test_a_recipe_s_run_goes_on_under_another_prior(finished_runs):
    run = finished_runs.run("plain")
    again = run.with_prior(sws.SpikeAndSlabs(3), epochs=1)
    assert len(again.history) == 1 and again.report.score["before"] == run.report.score["before"]
    assert type(again.plan.prior[0].prior) is sws.SpikeAndSlabs


def test_a_density_of_one_s_own_class_is_kept_to_look_at(tmp_path):
    run = compressed(prior=RowScaled())
    run.save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    own, kept = run.packed.priors["all"], opened.packed.priors["all"]
    part = run.packed.groups["all"].slices["0.weight"]
    assert torch.equal(kept.mixture.means, own.mixture.means)
    assert torch.equal(kept.scale(part), own.scale(part))
    with pytest.raises(TypeError, match="needs the class .*, which a folder does not hold"):
        kept.log_prob(run.packed.point["all.weights"])


def of_its_sites(group):
    """A mixture that is made of the sampled tensors themselves."""
    one = group.constant(1.0)
    normal = dist.Normal(0 * one, one).expand([3]).to_event(1)
    means = pyro.sample(f"{group.name}.means", normal).reshape(-1)
    shares = (one / 3).expand(3)
    return sws.MixturePrior(sws.Mixture(means, (50 * one).expand(3), shares))


def test_a_prior_whose_mixture_is_made_of_its_sites_is_saved(tmp_path):
    run = compressed(prior=sws.Custom(of_its_sites), guide="normal")
    run.save(tmp_path / "run")
    found = sws.Run.open(tmp_path / "run").posterior
    means = run.posterior.point["all.means"]
    assert means.data_ptr() == run.posterior.priors["all"].mixture.means.data_ptr()
    assert torch.equal(found.point["all.means"], means)
    assert torch.equal(found.priors["all"].mixture.means, means)
