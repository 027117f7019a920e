"""The [search] of a recipe: what it means, what a run makes of it, and what it is refused for."""

import json

import pytest
from jsonschema import Draft202012Validator
from small_recipe import table, write_recipe
from small_search import SPACE, TRAINED, write_search

from pyro_sws.recipes.recipe import (
    parse,
    read_recipe,
    read_search,
    read_table,
    to_toml,
    tomllib,
)
from pyro_sws.recipes.schema import recipe_schema
from pyro_sws.recipes.search_table import Pruning, Range

VALIDATOR = Draft202012Validator(recipe_schema())


def search_of(path, changes=()):
    return read_search(read_table(path, changes))


def test_numbers_are_whole_where_both_ends_are(tmp_path):
    space = search_of(write_search(tmp_path)).space
    assert space["prior.0.slabs"] == Range(2, 8) and space["prior.0.slabs"].whole
    assert space["tau"] == Range(0.001, 0.1, log=True) and not space["tau"].whole
    assert not Range(1, 2.5).whole
    assert list(space) == list(SPACE)


def test_a_run_takes_no_notice_and_its_recipe_has_no_search(tmp_path):
    recipe = read_recipe(write_search(tmp_path))
    plain = read_recipe(write_recipe(tmp_path / "b", **TRAINED))
    assert recipe.fit == plain.fit and recipe.network.pretraining == plain.network.pretraining
    written = tomllib.loads(to_toml(recipe, tmp_path))
    assert "search" not in written
    assert search_of(write_recipe(tmp_path / "c")) is None
    assert parse(written, tmp_path) == recipe


def test_a_change_reaches_the_search(tmp_path):
    path = write_search(tmp_path)
    found = search_of(path, ["search.epochs=3", "search.space.tau.high=0.5"])
    assert found.epochs == 3 and found.space["tau"].high == 0.5


def test_a_rung_is_reached_at_the_end_of_an_epoch_and_never_at_the_last():
    pruning = Pruning(rungs=(0.25, 0.5))
    reached = [pruning.rung_at(epoch, 8) for epoch in range(1, 9)]
    assert reached == [None, 0.25, None, 0.5, None, None, None, None]
    assert [pruning.rung_at(epoch, 2) for epoch in (1, 2)] == [0.5, None]
    assert pruning.rung_at(1, 1) is None and Pruning(rungs=()).rung_at(1, 2) is None


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (3, "search: must be a SearchSettings table, got 3"),
        (
            {},
            "search: missing key 'space'; it has epochs, pruning, sampler, seed, space, worst",
        ),
        ({"space": {}}, "search.space: must name at least one key, such as tau"),
        ({"spaec": {}}, "search: unknown key 'spaec', did you mean 'space'?; known are epochs"),
        ({"space": SPACE, "sampler": "cma"}, "search.sampler: must be 'tpe' or 'gp', got 'cma'"),
        ({"space": SPACE, "epochs": 0}, "search.epochs must be at least 1, got 0"),
        (
            {"space": {"epochs": {"low": 1, "high": 9}}, "epochs": 3},
            "search.epochs = 3 and a range of epochs in search.space: give one",
        ),
        (
            {"space": {"tau": {"low": 1.0, "high": 0.5}}},
            "search.space.tau: low must be below high, got 1.0 and 0.5",
        ),
        (
            {"space": {"tau": {"low": 0.0, "high": 0.5, "log": True}}},
            "search.space.tau: low must be positive where log = true, got 0.0",
        ),
        ({"space": {"tau": {"low": 1}}}, "search.space.tau: missing key 'high'; it has high, log"),
        (
            {"space": {"tau": {"low": 1, "hihg": 2}}},
            "search.space.tau: unknown key 'hihg', did you mean 'high'?; known are high, log, low",
        ),
        (
            {"space": {"tau": {"low": "a", "high": 2}}},
            "search.space.tau.low: must be a whole number or a number, got 'a'",
        ),
        ({"space": {"tau": {"choices": []}}}, "search.space.tau: choices must not be empty"),
        (
            {"space": {"tau": {"choices": [1, 1.0]}}},
            "search.space.tau: choices must differ, got [1, 1.0]",
        ),
        (
            {"space": {"prior": {"0": {"slabs": {"low": 1, "high": 2}}}}},
            "search.space.prior: the paths of keys stand in quotes there, such as "
            '"prior.0.slabs" = { low = 1, high = 2 }',
        ),
        (
            {"space": {"search.epochs": {"low": 1, "high": 2}}},
            "search.space: 'search.epochs' is the search's own; leave it out",
        ),
        (
            {"space": SPACE, "pruning": {"rungs": [0.5, 1.0]}},
            "search.pruning: rungs must rise between 0 and 1, got [0.5, 1.0]",
        ),
        (
            {"space": SPACE, "pruning": {"shar": 0.5}},
            "search.pruning: unknown key 'shar', did you mean 'share'?; known are after, rungs",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused_by_its_key(tmp_path, search, message):
    path = write_recipe(tmp_path, search=search)
    with pytest.raises(ValueError) as caught:
        read_recipe(path)
    found = str(caught.value)
    assert found.startswith(f"{path}: {message}") and "\n" not in found


# The schema.


def valid(search):
    return VALIDATOR.is_valid(json.loads(json.dumps(table(search=search))))


def test_the_schema_knows_a_search(tmp_path):
    VALIDATOR.validate(tomllib.loads(write_search(tmp_path).read_text()))
    assert valid({"space": {"tau": {"choices": [1, "a", {"b": []}]}}, "sampler": "gp", "epochs": 3})
    assert valid({"space": SPACE, "pruning": {"rungs": [0.5], "share": 0.5, "after": 10}})


@pytest.mark.parametrize(
    "search",
    [
        3,
        {},
        {"space": {"tau": {"low": 1}}},
        {"space": {"tau": {"low": 1, "hihg": 2}}},
        {"space": {"tau": {"low": "1", "high": 2}}},
        {"space": {"prior": {"0": {"slabs": {"low": 1, "high": 2}}}}},
        {"space": SPACE, "sampler": "cma"},
        {"space": SPACE, "epochs": 2.5},
        {"space": SPACE, "pruning": {"shar": 0.5}},
    ],
)
def test_the_schema_refuses_what_does_not_read(search):
    assert not valid(search)
