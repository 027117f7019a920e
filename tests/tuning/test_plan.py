"""A search's plan: recipes at points of its space, and what tells one search from another."""

import json

import pytest
from small_recipe import write_recipe
from small_search import SPACE, write_search

from pyro_sws.recipes.search_table import Choices
from pyro_sws.tuning.plan import read_plan, unlike


def test_a_point_of_the_space_is_a_recipe(tmp_path):
    plan = read_plan(write_search(tmp_path, search={"epochs": 1}))
    point = {"tau": 0.25, "prior.0.slabs": 3, "rates.weights": 0.5}
    recipe = plan.recipe(point)
    assert (recipe.tau, recipe.fit.rates.weights, recipe.fit.epochs) == (0.25, 0.5, 4)
    assert recipe.prior[0].prior.slabs == 3 and plan.trial(point).fit.epochs == 1
    assert plan.base.tau == 0.03 and plan.base.prior[0].prior.slabs == 2


def test_a_ramp_may_vary_where_its_first_factor_is_known(tmp_path):
    path = write_search(tmp_path, {"annealing.tau.first": {"low": 0.01, "high": 1.0}})
    plan = read_plan(path)
    assert plan.recipe({"annealing.tau.first": 0.2}).fit.annealing.tau.first == 0.2
    path = write_search(tmp_path, {"annealing.tau.until": {"low": 0.1, "high": 1.0}})
    with pytest.raises(ValueError, match="annealing.tau.until = 0.1: annealing.tau: missing key"):
        read_plan(path)


def test_a_choice_may_be_a_whole_prior_and_a_later_path_goes_into_it(tmp_path):
    priors = [{"family": "grid", "steps": 4}, {"family": "ternary"}]
    space = {"prior.0": {"choices": priors}, "prior.0.match": {"choices": ["*", "0.*"]}}
    plan = read_plan(write_search(tmp_path, space))
    assert plan.settings.space["prior.0"] == Choices(tuple(priors))
    rule = plan.recipe({"prior.0": priors[0], "prior.0.match": "0.*"}).prior[0]
    assert (rule.match, rule.prior.steps) == ("0.*", 4)
    assert plan.recipe({"prior.0": priors[0]}).prior[0].match == "*"


def test_a_recipe_means_the_same_wherever_it_lies_and_what_differs_is_told(tmp_path):
    one, other = (read_plan(write_search(tmp_path / name)).meaning() for name in "ab")
    assert one == other and json.loads(json.dumps(one)) == one
    spelled = read_plan(write_search(tmp_path / "c", schedule="cosine")).meaning()
    assert spelled == one
    space = {**SPACE, "tau": {"low": 0.001, "high": 2.0, "log": True}}
    changed = read_plan(write_search(tmp_path / "d", space, seed=4, dtype="float64")).meaning()
    assert unlike(changed, one) == [
        "dtype is 'float64' here and not given there",
        "search.space.tau.high is 2.0 here and 0.1 there",
        "seed is 4 here and 0 there",
    ]


@pytest.mark.parametrize(
    ("path", "bounds", "message"),
    [
        ("taw", {"low": 1, "high": 2}, "taw = 1: unknown key 'taw', did you mean 'tau'?"),
        (
            "prior.0.slbs",
            {"low": 1, "high": 2},
            "prior.0.slbs = 1: prior[0]: unknown key 'slbs', did you mean 'slabs'?",
        ),
        ("prior.1.slabs", {"low": 1, "high": 2}, "prior.1.slabs = 1: '1' is no index; use 0..0"),
        ("epochs.x", {"low": 1, "high": 2}, "epochs.x = 1: 'epochs' is 4, not a table"),
        ("batch_size", {"low": 0, "high": 9}, "batch_size = 0: batch_size must be at least 1"),
        (
            "epochs",
            {"low": 1.0, "high": 2},
            "epochs = 1.0: epochs: must be a whole number, got 1.0",
        ),
        (
            "prior.0.family",
            {"choices": ["spike_and_slabs", "gird"]},
            "prior.0.family = 'gird': prior[0]: unknown family 'gird', did you mean 'grid'?",
        ),
        (
            "network.hiden",
            {"low": 1, "high": 2},
            "network.hiden = 1: networks.py:tiny: got an unexpected keyword argument 'hiden'; it "
            "takes hidden",
        ),
        (
            "data.count",
            {"low": 1, "high": 2},
            "data.count = 1: held_out.py:guarded: got an unexpected keyword argument 'count'",
        ),
    ],
)
def test_a_path_that_the_recipe_does_not_take_is_refused(tmp_path, path, bounds, message):
    recipe = write_search(tmp_path, {path: bounds})
    with pytest.raises(ValueError) as caught:
        read_plan(recipe)
    assert str(caught.value).startswith(f"{recipe}: search.space: {message}")


def test_a_recipe_without_a_search_is_told_what_to_add(tmp_path):
    with pytest.raises(ValueError, match=r"small.toml: has no \[search.space\]; name there the k"):
        read_plan(write_recipe(tmp_path))
