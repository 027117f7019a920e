"""Hashes of files and fits: recipes and changes that are there, and a difference that is seen."""

import dataclasses

import pytest
from problems import classifier

import pyro_sws as sws
from pyro_sws.recipes.recipe import read_recipe


@pytest.fixture
def same_files(script):
    return script("same_files")


def test_every_run_is_of_a_recipe_that_takes_its_changes_and_every_recipe_is_run(same_files):
    for recipe, changes in same_files.RUNS.values():
        read_recipe(same_files.ROOT / "models" / recipe, list(changes))
    models = same_files.ROOT / "models"
    there = {path.relative_to(models).as_posix() for path in models.rglob("*.toml")}
    assert {recipe for recipe, _ in same_files.RUNS.values()} == there


def test_a_file_that_differs_is_named(same_files):
    before = {"a": "1", "b": "2", "gone": "3"}
    assert same_files.differing({"a": "1", "b": "2"}, before) == []
    assert same_files.differing({"a": "1", "b": "3"}, before) == ["b"]
    with pytest.raises(ValueError, match="no run is in both; there were a, b, gone"):
        same_files.differing({"new": "1"}, before)


@pytest.mark.integration
def test_a_fit_that_differs_in_one_draw_has_another_hash(same_files):
    net, inputs, targets = classifier()
    fitted = sws.compress(net, [(inputs, targets)], epochs=1, guide="normal").posterior
    copied = {name: draws.clone() for name, draws in fitted.draws.items()}
    assert same_files.posterior_digest(fitted) == same_files.posterior_digest(
        dataclasses.replace(fitted, draws=copied)
    )
    copied["all.weights"].view(-1)[0] += 1
    assert same_files.posterior_digest(fitted) != same_files.posterior_digest(
        dataclasses.replace(fitted, draws=copied)
    )
