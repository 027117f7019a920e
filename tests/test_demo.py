"""The demonstration, as a new user sees it: small file, little lost, on the embedded digits."""

import statistics
from pathlib import Path

import pytest

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.run import Run

RECIPES = Path(__file__).parents[1] / "models"


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
    assert sum(p.numel() for p in recipe.network.source().parameters()) in {
        50_610,
        266_610,
        431_080,
        2_748_890,
    }
    assert callable(recipe.data.source.function())
