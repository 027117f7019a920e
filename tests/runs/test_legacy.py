"""Run folders that versions before 0.2 wrote: opened, compared and diagnosed like new ones.

tests/golden/runs holds three, with the network and the data that their recipes name.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from few_draws import few_draws
from problems import TWO_GROUPS, classifier

import pyro_sws as sws
from pyro_sws.inference.priors import Structured
from pyro_sws.runs.legacy import with_report_mixtures
from pyro_sws.runs.reading import stored_architecture

SEVERAL = sws.SpikeAndSlabs(slabs=4, zero_proportion=0.3, start_deviation=0.1)
GOLDEN = Path(__file__).parents[1] / "golden" / "runs"
NAMES = "refined", "spread", "scaled"


@pytest.fixture
def folder(tmp_path):
    """Copies: diagnosing writes into a folder."""
    shutil.copytree(GOLDEN, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.mark.parametrize("name", NAMES)
def test_an_old_folder_gives_back_the_network_in_its_file(name):
    run = sws.Run.open(GOLDEN / name)
    report = json.loads((GOLDEN / name / "report.json").read_text())
    assert run.report.file_bytes == len(run.data) == report["file_bytes"]
    assert run.report.score == report["score"]
    snapped = sws.quantize(run.packed, run.plan.packing.codebook_dtype).nonzero
    assert snapped == run.quantized.nonzero  # units may be moved, not made


def test_the_fit_s_parts_are_where_they_were():
    run = sws.Run.open(GOLDEN / "spread")
    assert run.plan.guide == "normal" and run.plan.fit.epochs == 3 and run.plan.tau == 0.001
    assert run.posterior.draws and run.posterior.deviations
    assert len(run.history) == 3 and run.refined is None
    run = sws.Run.open(GOLDEN / "refined")
    assert (len(run.refined.history), run.refined.epoch, run.refined.widening) == (21, 19, 2.0)
    site = "all.weights"
    assert not torch.equal(run.packed.point[site], run.posterior.point[site])


def test_old_folders_are_compared_inspected_and_decoded(folder, tmp_path):
    rows = sws.compare([folder / name for name in NAMES]).rows
    assert [row["run"] for row in rows] == list(NAMES)
    assert [row["file_bytes"] for row in rows] == [50, 43, 80]


@pytest.mark.integration
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_an_old_folder_is_diagnosed_with_its_recipe(folder, name):
    recipe = folder / name / "recipe.toml"
    score = sws.Run.open(folder / name).report.score
    (folder / name / "report.html").write_text("<html>of an older version</html>")
    with few_draws():
        found = sws.diagnose(folder / name, recipe=recipe)
    assert found["snapping"]["unsnapped"]["score"] == pytest.approx(score["posterior"])
    assert found["snapping"]["snapped"]["score"] == pytest.approx(score["quantized"])


def test_an_old_folder_is_saved_as_a_new_one(tmp_path):
    old = sws.Run.open(GOLDEN / "refined")
    old.save(tmp_path / "new")
    new = sws.Run.open(tmp_path / "new")
    assert new.quantized == old.quantized and new.report == old.report
    assert torch.equal(new.packed.point["all.weights"], old.packed.point["all.weights"])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("prior", "more"),
    [
        (SEVERAL, {}),
        (TWO_GROUPS, {}),
        (Structured(SEVERAL, by=("tensor",)), {}),
        (SEVERAL, {"refinement": sws.Refinement(epochs=2)}),
    ],
)
def test_a_fit_and_its_report_give_back_what_was_snapped(prior, more):
    net, inputs, targets = classifier()
    train = sws.Batches(inputs, targets, 20)
    packing = sws.Packing(rewrite=False)
    run = sws.compress(net, train, prior=prior, tau=0.1, epochs=3, packing=packing, **more)
    again = with_report_mixtures(run.posterior, run.packed.point, run.report)
    assert sws.quantize(again) == sws.quantize(run.packed)
    for name, expected in run.packed.priors.items():
        torch.testing.assert_close(vars(again.priors[name].mixture), vars(expected.mixture))


def test_an_old_file_with_a_fingerprint_is_read_by_its_folder_alone():
    folder = GOLDEN / "scaled"
    stored = stored_architecture(folder)
    layout = sws.inspect((folder / "model.sws").read_bytes(), architecture=stored)
    assert {name: tensor.shape for name, tensor in layout.tensors.items()} == stored
