"""Diagnosing a run: what is written, kept and refused; from its folder or from a result."""

import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from few_draws import few_draws
from finished_runs import MIXTURE
from pictures import PNG, rendered
from problems import classifier
from small_recipe import write_recipe

import pyro_sws as sws
from pyro_sws.assess.draws.inference_data import load_netcdf
from pyro_sws.diagnosis import diagnostics as diagnosis
from pyro_sws.diagnosis import folder as diagnosis_folder
from pyro_sws.diagnosis.diagnostics import Nuts, point_diagnostics
from pyro_sws.diagnosis.subject import subject_of
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

pytestmark = pytest.mark.integration

SHORT = Nuts(chains=2, warmup=5, draws=13, processes=1)


@pytest.fixture(autouse=True)
def quick():
    with few_draws():
        yield


def made(folder, **changes):
    """The folder of a run of one's own."""
    recipe = read_recipe(write_recipe(folder, prior=[MIXTURE], **changes))
    run_recipe(recipe, folder / "out")
    return folder / "out"


def diagnose(folder, **settings):
    """With the recipe that lies in the folder, which the user names."""
    return sws.diagnose(folder, recipe=folder / "recipe.toml", **settings)


@pytest.fixture(scope="module")
def delta(finished_runs, tmp_path_factory):
    """The result of a run, its folder, and what diagnosing it returned; its pictures are drawn."""
    folder = finished_runs.copy("mixture", tmp_path_factory.mktemp("delta"))
    with few_draws(), rendered():
        return finished_runs.run("mixture"), folder, diagnose(folder)


@pytest.fixture(scope="module")
def spread(finished_runs, tmp_path_factory):
    """The same under a guide with spread."""
    folder = finished_runs.copy("spread", tmp_path_factory.mktemp("spread"))
    with few_draws():
        return finished_runs.run("spread"), folder, diagnose(folder)


@pytest.fixture
def fresh(finished_runs, tmp_path):
    """A folder of a run that was never diagnosed."""
    return finished_runs.copy("mixture", tmp_path)


def test_the_folder_has_trees_figures_and_numbers(delta):
    _, folder, found = delta
    written = {p.name for p in (folder / "diagnostics").iterdir()}
    assert written == {
        "diagnostics.json",
        "captions.json",
        "mixture.nc",
        "network.nc",
        "mixture_means.png",
        "mixture_deviations.png",
        "mixture_pairs.png",
        "calibration.png",
    }
    pictures = [path.read_bytes() for path in (folder / "diagnostics").glob("*.png")]
    assert len(pictures) == 4 and all(len(each) > len(PNG) for each in pictures)
    assert json.loads((folder / "diagnostics" / "diagnostics.json").read_text()) == found
    mixture, network = (
        load_netcdf(folder / "diagnostics" / f"{n}.nc") for n in ("mixture", "network")
    )
    assert mixture.attrs["inference_method"] == "laplace"
    assert network.attrs["inference_method"] == "delta"
    assert network["observed_data"]["targets"].shape == (20,)


def test_the_page_has_one_part_on_diagnostics_however_often(delta):
    _, folder, _ = delta
    diagnose(folder)
    page = (folder / "report.html").read_text()
    assert page.count("<h2>Diagnostics</h2>") == 1
    assert page.rstrip().endswith("</html>")


def test_a_point_gets_no_r_hat_and_no_leave_one_out(delta):
    found = delta[2]
    assert found["leave_one_out"] is None and found["guide"] == "delta"
    assert all(row["r_hat"] is None for row in found["mixture"]["mixture"]["rows"])
    assert 0 < found["mixture"]["mixture"]["good_k"] < 1


def test_snapped_weights_cost_what_the_report_says(delta):
    """The same network on the same data, by another way through the program."""
    result, _, found = delta
    score, snapping = result.report.score, found["snapping"]
    assert snapping["unsnapped"]["score"] == pytest.approx(score["posterior"])
    assert snapping["snapped"]["score"] == pytest.approx(score["quantized"])
    snapped = found["calibration"]["snapped"]
    assert 100 * (1 - snapped["accuracy"]) == pytest.approx(score["quantized"])


def test_a_result_and_its_folder_are_diagnosed_alike(delta):
    result, folder, _ = delta
    recipe = folder / "recipe.toml"
    subjects = subject_of(result), subject_of(sws.Run.open(folder), recipe)
    ours, theirs = map(point_diagnostics, subjects)
    a, b = (
        np.array([row["mean_entropy_nats"] for row in each["certainty"]["tensors"]])
        for each in (ours, theirs)
    )
    np.testing.assert_allclose(a, b, rtol=1e-5)
    assert ours["snapping"]["snapped"]["score"] == theirs["snapping"]["snapped"]["score"]
    assert ours["occupancy"]["all"]["assigned"] == theirs["occupancy"]["all"]["assigned"]


def test_a_guide_s_spread_is_in_the_folder(spread):
    result, folder, _ = spread
    back = sws.Run.open(folder).posterior
    for name in ("draws", "deviations"):
        own, read = getattr(result.posterior, name), getattr(back, name)
        assert own.keys() == read.keys() and own
        for site in own:
            torch.testing.assert_close(own[site], read[site])
    assert back.floored == result.posterior.floored
    assert load_netcdf(folder / "diagnostics" / "network.nc").attrs["inference_method"] == "normal"


def test_a_run_written_over_loses_its_diagnostics_and_spread(spread, tmp_path):
    shutil.copytree(spread[1].parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "out"
    assert (folder / "diagnostics").exists() and sws.Run.open(folder).posterior.draws
    run_recipe(read_recipe(write_recipe(tmp_path, prior=[MIXTURE])), folder, overwrite=True)
    assert not (folder / "diagnostics").exists()
    assert sws.Run.open(folder).posterior.draws is None


@pytest.mark.slow
def test_draws_by_nuts_are_kept_until_others_are_wanted(fresh, monkeypatch):
    folder = fresh
    found = diagnose(folder, nuts=SHORT)["mixture"]["mixture"]
    assert found["method"] == "nuts" and (found["chains"], found["draws"]) == (2, 13)
    assert len(found["relabelled"]) == 2
    assert (folder / "diagnostics" / "mixture_ranks.png").is_file()
    sampled = []
    monkeypatch.setattr(
        diagnosis, "sample_hyperparameters", lambda *a, **k: sampled.append(k) or 1 / 0
    )
    for nuts in (None, SHORT):
        assert diagnose(folder, nuts=nuts)["mixture"]["mixture"]["rows"] == found["rows"]
    assert not sampled
    with pytest.raises(ZeroDivisionError):
        diagnose(folder, nuts=Nuts(chains=2, warmup=5, draws=14, processes=1))
    kept = load_netcdf(folder / "diagnostics" / "mixture.nc")
    assert kept["posterior"].sizes["draw"] == 13  # nothing was lost


def test_restarts_are_a_table_of_agreement(delta, tmp_path):
    _, folder, _ = delta
    other = made(tmp_path, seed=1)
    found = diagnose(folder, restarts=[other])["restarts"]
    assert [row["restart"] for row in found["rows"]] == [str(folder), str(other)]
    assert "Markov" in found["kind"]


def test_a_group_without_a_mixture_says_why(tmp_path):
    prior = [{"family": "structured", "shape": {k: v for k, v in MIXTURE.items() if k != "family"}}]
    run_recipe(read_recipe(write_recipe(tmp_path, prior=prior)), tmp_path / "out")
    found = diagnose(tmp_path / "out")
    assert (
        found["mixture"] == {}
        and "no mixture that all weights share" in found["without_mixture"]["all"]
    )
    assert not (tmp_path / "out" / "diagnostics" / "mixture.nc").exists()
    assert found["snapping"]["tensors"]


def test_a_laplace_that_misses_the_posterior_says_so(tmp_path):
    """Three levels on one scale, and next to no data: its tails are nowhere near normal."""
    run_recipe(read_recipe(write_recipe(tmp_path, prior=[{"family": "ternary"}])), tmp_path / "out")
    found = diagnose(tmp_path / "out")["mixture"]["mixture"]
    assert found["khat"] > found["good_k"]


def test_arviz_gets_both_trees(delta):
    result, folder, _ = delta
    trees = result.to_arviz()
    assert list(trees) == ["mixture", "network"]
    again = sws.to_arviz(folder)["mixture"]["posterior"]["means"]
    np.testing.assert_allclose(trees["mixture"]["posterior"]["means"], again, atol=1e-4)


def test_groups_have_a_mixture_each_and_one_that_fails_ends_nothing(tmp_path, monkeypatch):
    rules = [
        {**MIXTURE, "match": "0.*", "group": "first"},
        {**MIXTURE, "match": "*.bias", "group": "biases"},
        {**MIXTURE, "group": "rest"},
    ]
    run_recipe(read_recipe(write_recipe(tmp_path, prior=rules)), tmp_path / "out")
    own = diagnosis.laplace_hyperparameters

    def failing(target, **settings):
        if target.group.name == "first":
            raise ValueError("there is no mode")
        return own(target, **settings)

    monkeypatch.setattr(diagnosis, "laplace_hyperparameters", failing)
    found = diagnose(tmp_path / "out")
    assert found["without_mixture"]["first"] == "there is no mode"
    made = {f"mixture.{name}" for name in ("biases", "rest")} - {
        f"mixture.{name}" for name in found["without_mixture"]
    }
    assert set(found["mixture"]) == made
    there = {path.stem for path in (tmp_path / "out" / "diagnostics").glob("mixture*.nc")}
    assert there == made


def test_what_arviz_does_not_get_says_why(tmp_path):
    shape = {k: v for k, v in MIXTURE.items() if k != "family"}
    rules = [
        {"family": "structured", "shape": shape, "match": "0.*", "group": "binned"},
        {**MIXTURE, "group": "rest"},
    ]
    run_recipe(read_recipe(write_recipe(tmp_path, prior=rules)), tmp_path / "run")
    trees = sws.to_arviz(tmp_path / "run")
    assert list(trees) == ["mixture.rest"] and list(trees.mixtures) == ["rest"]
    assert trees.mixtures["rest"] is trees["mixture.rest"]
    assert set(trees.without) == {"mixture.binned", "network"}
    with pytest.raises(KeyError, match=r"no tree 'mixture.binned': .*no mixture that all"):
        trees["mixture.binned"]
    with pytest.raises(KeyError, match="no tree 'network': the network itself is needed"):
        trees["network"]
    with pytest.raises(KeyError, match=r"no tree 'mixture'; there are mixture\.rest"):
        trees["mixture"]


def test_the_only_mixture_goes_by_its_group_too(delta):
    trees = delta[0].to_arviz()
    assert trees.mixtures["all"] is trees["mixture"] and trees.without == {}


def test_what_nuts_drew_is_kept_though_the_rest_fails(fresh, monkeypatch):
    monkeypatch.setattr(diagnosis_folder, "stages", lambda subject: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        diagnose(fresh, nuts=SHORT)
    monkeypatch.undo()
    monkeypatch.setattr(diagnosis, "sample_hyperparameters", lambda *a, **k: 1 / 0)
    assert diagnose(fresh)["mixture"]["mixture"]["method"] == "nuts"


@pytest.mark.slow
def test_one_chain_has_traces_and_no_ranks(fresh):
    found = diagnose(fresh, nuts=Nuts(chains=1, warmup=5, draws=25))
    assert found["mixture"]["mixture"]["largest_r_hat"] is None
    there = {path.name for path in (fresh / "diagnostics").glob("*.png")}
    assert "mixture_trace.png" in there and "mixture_ranks.png" not in there


@pytest.mark.parametrize("counts", [{"chains": 0}, {"draws": 0}, {"chains": 2, "draws": 12}])
def test_too_few_draws_are_refused_before_sampling(counts):
    with pytest.raises(ValueError, match="at least 1|too few"):
        Nuts(**counts)


def test_a_prior_of_a_file_is_sampled_in_one_process(tmp_path):
    rules = [{"family": "own.py:by_hand", "slabs": 2}]
    own = read_recipe(write_recipe(tmp_path, prior=rules)).prior[0].prior
    assert diagnosis._processes(4, own) == 1
    assert diagnosis._processes(4, sws.SpikeAndSlabs()) == min(4, os.cpu_count())


def test_a_restart_that_is_the_run_itself_is_refused(delta):
    with pytest.raises(ValueError, match="other folders than the run's own"):
        diagnose(delta[1], restarts=[delta[1]])


def test_a_leave_one_out_score_is_given_or_its_lack_explained(spread, tmp_path):
    assert "tau" in spread[2]["leave_one_out"]["reason"]
    path = write_recipe(tmp_path, prior=[MIXTURE], guide="normal", tau=1.0)
    result = run_recipe(read_recipe(path), tmp_path / "out")
    assert "25" in diagnosis.leave_one_out_score(subject_of(result))["reason"]
    many = replace(result.posterior, draws=more_draws(result.posterior, 40))
    score = diagnosis.leave_one_out_score(subject_of(replace(result, posterior=many)))
    assert np.isfinite(score["elpd"]) and score["elpd"] < 0


def more_draws(posterior, count):
    """Draws of the weights from the normal guide's own mean and deviations."""
    site, generator = "all.weights", torch.Generator().manual_seed(0)
    mean, deviation = posterior.point[site], posterior.deviations[site]
    noise = torch.randn(count, *mean.shape, generator=generator)
    return {**posterior.draws, site: mean + deviation * noise}


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no finished run"):
        diagnose(tmp_path)


def test_without_a_recipe_nothing_is_run_and_what_needs_the_network_is_left_out(delta, tmp_path):
    whole = delta[2]
    shutil.copytree(delta[1].parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "out"
    (tmp_path / "networks.py").write_text("raise SystemExit('networks.py was run')")
    (tmp_path / "points.py").write_text("raise SystemExit('points.py was run')")
    found = sws.diagnose(folder)
    assert found["snapping"] is found["calibration"] is found["leave_one_out"] is None
    assert "--recipe" in found["without_network"] and whole["without_network"] is None
    for key in ("certainty", "occupancy", "mixture", "placed", "trained_weights"):
        assert found[key] == whole[key], key
    assert not (folder / "diagnostics" / "network.nc").exists()
    assert list(sws.to_arviz(folder)) == ["mixture"]


def test_a_recipe_of_other_groups_is_refused(delta, tmp_path):
    other = write_recipe(tmp_path, prior=[{**MIXTURE, "group": "other"}])
    with pytest.raises(ValueError, match="the recipe has the groups other, the run all"):
        sws.diagnose(delta[1], recipe=other)
    other = write_recipe(tmp_path, prior=[{**MIXTURE, "slabs": 3}])
    with pytest.raises(ValueError, match=r"'all.means' has the shape \(3,\) by the recipe, \(2,\)"):
        sws.diagnose(delta[1], recipe=other)


def test_a_folder_of_one_s_own_likelihood_is_diagnosed_as_far_as_it_goes_without(tmp_path):
    class Own(sws.Categorical):
        """No recipe can name it."""

    net, inputs, targets = classifier()
    own = {"prior": sws.SpikeAndSlabs(2, 0.3, start_deviation=0.3), "epochs": 2}
    run = sws.compress(net, [(inputs, targets)], likelihood=Own(), **own)
    run.save(tmp_path / "run")
    found = sws.diagnose(tmp_path / "run")
    assert found["without_network"] is not None and found["calibration"] is None
    assert list(found["mixture"]) == ["mixture"]


def test_a_run_in_place_of_its_folder_is_refused_with_what_to_do(delta):
    with pytest.raises(TypeError, match=r"run.save\('runs/mine'\), then diagnose"):
        sws.diagnose(delta[0])


def test_a_page_of_an_older_version_is_written_anew(fresh):
    (fresh / "report.html").write_text("<html>of an older version</html>")
    diagnose(fresh)
    page = (fresh / "report.html").read_text()
    assert "older version" not in page and "<h2>Diagnostics</h2>" in page
    assert "Compression ratio" in page
