"""The recipes that walk: their groups are those of the defaults, and each goes on made data."""

import importlib
import sys
from pathlib import Path

import pytest

from pyro_sws.compression.walk.values import default_rules
from pyro_sws.inference.priors.rules import apply_rules
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import named_parts, run_recipe
from pyro_sws.runs.inputs import build_network

MODELS = Path(__file__).parents[2] / "models"
SMALL, RECURRENT = ["diabetes", "protein", "spoken_digits_cnn"], ["spoken_digits_gru"]
TEXT = ["shakespeare_gru", "shakespeare_transformer"]
CIFAR = ["resnet_20", "wide_resnet_16_4"]
# By the layers: gates, attention, convolutions as other tests count them.
PARAMETERS = {
    "diabetes": 10 * 32 + 32 + 32 * 16 + 16 + 16 + 1,
    "protein": 9 * 100 + 100 + 100 * 100 + 100 + 100 + 1,
    "shakespeare_gru": 72_673,
    "shakespeare_transformer": 112_577,
    "spoken_digits_cnn": 5 * 40 * 48 + 3 * 48 * 64 + 3 * 64 * 84 + 2 * (48 + 64 + 84) + 850,
    "spoken_digits_gru": 21_002,
    "resnet_20": 269_722,
    "wide_resnet_16_4": 2_748_890,
}


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    return importlib.import_module("scripts.shared.made")


def test_each_recipe_that_walks_is_tested_here():
    walking = {p.stem for p in MODELS.glob("*.toml") if read_recipe(p).walk is not None}
    assert walking == PARAMETERS.keys() == {*SMALL, *RECURRENT, *TEXT, *CIFAR}


@pytest.mark.parametrize("name", PARAMETERS)
def test_its_network_has_the_groups_and_priors_of_a_walk_without_a_prior(name):
    plan = read_recipe(MODELS / f"{name}.toml")
    net = build_network(named_parts(plan)[0], 0)
    assert sum(p.numel() for p in net.parameters()) == PARAMETERS[name]
    assert apply_rules(net, plan.prior) == apply_rules(net, default_rules(net))


@pytest.mark.parametrize("name", SMALL + RECURRENT + TEXT + CIFAR)
def test_what_it_is_held_to_is_said(name):
    plan = read_recipe(MODELS / f"{name}.toml")
    assert plan.tolerance is not None and plan.budget is not None
    assert plan.budget.minutes <= (15 if name not in CIFAR else 600)


@pytest.mark.integration
@pytest.mark.parametrize(
    "name",
    [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in (*RECURRENT, *TEXT, *CIFAR))],
)
def test_it_goes_from_made_data_to_a_file(made, name, tmp_path):
    few = ["pretraining.epochs=1", "budget={passes=2,minutes=100}", "tolerance=1000"]
    plan = read_recipe(MODELS / f"{name}.toml", [*few, made.instead(name)])
    report = run_recipe(plan, tmp_path / "run").report.to_dict()
    assert report["score"]["examples"] == 48
    assert report["file_bytes"] < report["parameter_bytes"] / 2
    assert report["uncovered"] == []
