"""The demonstration, as a new user sees it: small file, little lost, on the embedded digits."""

import statistics
from pathlib import Path

import pytest

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.run import Run

RECIPES = Path(__file__).parents[1] / "models"
PARAMETERS = {
    "diabetes": 897,
    "digits": 50_610,
    "lenet_300_100": 266_610,
    "lenet_5_caffe": 431_080,
    "protein": 11_201,
    "resnet_20": 269_722,
    "shakespeare_gru": 72_673,
    "shakespeare_transformer": 112_577,
    "spoken_digits_cnn": 36_186,
    "spoken_digits_gru": 21_002,
    "wide_resnet_16_4": 2_748_890,
}


@pytest.mark.slow
def test_the_digits_file_is_small_and_loses_little(tmp_path):
    reports = []
    for seed in range(3):
        recipe = read_recipe(RECIPES / "digits.toml", [f"seed={seed}"])
        run_recipe(recipe, tmp_path / str(seed))
        reports.append(Run.open(tmp_path / str(seed)).report)
    assert all(report.file_bytes <= 2500 for report in reports)
    lost = [report.score["decoded"] - report.score["before"] for report in reports]
    assert statistics.fmean(lost) <= 1.5


@pytest.mark.integration
def test_a_short_demonstration_writes_a_whole_run(tmp_path):
    short = ["epochs=2", "pretraining.epochs=1", "refinement.epochs=2"]
    recipe = read_recipe(RECIPES / "digits.toml", short)
    result = run_recipe(recipe, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    assert run.report.parameters == 50_610
    assert run.quantized == result.quantized
    assert run.plan.prior == recipe.prior


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda p: p.stem)
def test_a_shipped_recipe_can_be_read_and_names_what_is_there(path):
    recipe = read_recipe(path)
    size = sum(p.numel() for p in recipe.network.source().parameters())
    assert size == PARAMETERS[path.stem]
    assert callable(recipe.data.source.function())
