"""Likelihoods that have functions, in a recipe: named as "file.py:function" or by a module."""

from dataclasses import replace

import pytest
import torch
from small_recipe import table, write_recipe
from torch.nn.functional import cross_entropy

from pyro_sws.inference.likelihoods import FromDistribution, Loss
from pyro_sws.recipes.recipe import parse, read_named, read_recipe, to_toml
from pyro_sws.recipes.sources import Source

OWN = """
import pyro.distributions as dist

def squared(outputs, targets):
    return (outputs - targets).square()

def off(outputs, targets):
    return (outputs - targets).abs().reshape(len(targets), -1).amax(1)

def poisson(outputs):
    return dist.Poisson(outputs.exp())
"""
LOSS = {"family": "loss", "function": "losses.py:squared", "weight": 0.5}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "losses.py").write_text(OWN)
    return tmp_path


def refusal(folder, likelihood):
    path = write_recipe(folder, likelihood=likelihood)
    with pytest.raises(ValueError) as caught:
        read_recipe(path)
    return str(caught.value).removeprefix(f"{path}: ")


def test_a_loss_is_named_by_its_files_functions(folder):
    likelihood = {**LOSS, "score_function": "losses.py:off"}
    spec = parse(table(likelihood=likelihood), folder).likelihood
    assert isinstance(spec, Loss) and (spec.weight, spec.score_name) == (0.5, "off")
    outputs, targets = torch.ones(3, 2), torch.zeros(3, 2)
    assert spec(outputs).log_prob(targets).tolist() == [-1.0] * 3
    assert spec.losses(outputs, targets).tolist() == [1.0] * 3


@pytest.mark.parametrize(
    "likelihood",
    [
        LOSS,
        {**LOSS, "score_function": "losses.py:off", "within_example": "mean"},
        {"family": "from_distribution", "function": "losses.py:poisson"},
        {"family": "loss", "function": "torch.nn.functional:cross_entropy", "reduction": "mean"},
    ],
)
def test_what_is_written_is_read_as_the_same(folder, likelihood):
    path = write_recipe(folder, likelihood=likelihood)
    plan = read_recipe(path)
    elsewhere = folder / "below"
    elsewhere.mkdir()
    (elsewhere / "again.toml").write_text(to_toml(plan, elsewhere))
    assert read_recipe(elsewhere / "again.toml").likelihood == plan.likelihood
    assert to_toml(read_named(path), elsewhere) == to_toml(plan, elsewhere)


def test_nothing_is_run_to_read_what_a_recipe_names(folder):
    (folder / "losses.py").write_text("raise RuntimeError")
    spec = read_named(write_recipe(folder, likelihood=LOSS), trusted=False).likelihood
    assert spec == Loss(Source("losses.py:squared", {}, folder), 0.5)


def test_a_function_of_a_module_has_a_name_and_a_lambda_has_none(folder):
    plan = parse(table(likelihood=LOSS), folder)
    text = to_toml(replace(plan, likelihood=Loss(cross_entropy)), folder)
    assert 'function = "torch.nn.functional:cross_entropy"' in text
    for spec in (Loss(lambda o, t: o - t), FromDistribution(lambda o: o)):
        (folder / "made.toml").write_text(to_toml(replace(plan, likelihood=spec), folder))
        with pytest.raises(ValueError, match="<lambda>.* was given in Python .*; put it in a file"):
            read_recipe(folder / "made.toml")


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        ("loss", "likelihood: must be a loss_likelihood table, got 'loss'"),
        ({"family": "loss"}, "likelihood: missing key 'function'"),
        ({**LOSS, "function": "squared"}, "likelihood.function: must be 'file.py:function' or"),
        ({**LOSS, "function": "losses.py:cubed"}, "likelihood.function: losses.py has no function"),
        ({**LOSS, "weight": -1.0}, "likelihood: loss: weight must be positive"),
    ],
)
def test_what_names_no_function_is_refused(folder, likelihood, words):
    assert refusal(folder, likelihood).startswith(words)
