"""The recipe's JSON schema: what reads is valid under it, what is misspelt is not."""

import dataclasses
import json
from pathlib import Path

import pytest
from every_likelihood import FUNCTIONS
from jsonschema import Draft202012Validator
from small_recipe import EVERYTHING, table, write_recipe

import pyro_sws as sws
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.likelihoods import LIKELIHOODS
from pyro_sws.recipes import recipe, schema
from pyro_sws.recipes.recipe import parse, to_toml, tomllib
from pyro_sws.recipes.schema import recipe_schema
from pyro_sws.recipes.sources import Source
from pyro_sws.recipes.tables import SECTIONS, recipe_type, top_key
from pyro_sws.recipes.validation import as_table, keys_of

MODELS = Path(__file__).parents[2] / "models"
SCHEMA = recipe_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def valid(**changes):
    # As an editor has it: lists are arrays, not tuples.
    return VALIDATOR.is_valid(json.loads(json.dumps(table(**changes))))


def prior(**fields):
    return {"prior": [{"family": "spike_and_slabs", **fields}]}


def test_it_is_a_schema_and_says_no_null():
    Draft202012Validator.check_schema(SCHEMA)
    assert "null" not in json.dumps(SCHEMA)
    assert sorted(SCHEMA["required"]) == ["data", "network"]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_field_of_a_section_is_a_key_at_the_top_and_in_its_table(section):
    keys = keys_of(SECTIONS[section])
    assert {top_key(section, key) for key in keys} <= SCHEMA["properties"].keys()
    inside = SCHEMA["$defs"][SECTIONS[section].__name__]
    beside = {"family"} if section == "fit" else set()
    assert (
        inside["properties"].keys() == {*keys, *beside} and inside["additionalProperties"] is False
    )


@pytest.mark.parametrize("path", sorted(MODELS.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_beside_the_models_is_valid(path):
    VALIDATOR.validate(tomllib.loads(path.read_text()))


@pytest.mark.parametrize("family", sws.PRIORS)
def test_a_family_at_its_defaults_is_valid_and_read(family, tmp_path):
    own = {"family": family, "module": "Linear", "each": True, **as_table(sws.PRIORS[family]())}
    assert valid(prior=[own])
    assert parse(table(prior=[own]), write_recipe(tmp_path).parent).prior[0].each
    assert not valid(prior=[own | {"slobs": 3}]) and not valid(prior=[own | {"each": 1}])


@pytest.mark.parametrize("guide", [*sws.GUIDES, "own.py:guide"])
def test_a_guide_is_a_name_or_a_path(guide, tmp_path):
    assert valid(guide=guide)
    expected = Source(guide, {}, tmp_path) if ":" in guide else guide
    assert parse(table(guide=guide), tmp_path).guide == expected


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_a_likelihood_is_a_name_or_a_table(family):
    needs_function = family in FUNCTIONS
    own = {"function": "own.py:own"} if needs_function else {}
    assert valid(likelihood={"family": family, **own})
    assert not valid(likelihood={"family": family, **own, "noise": 1.0})
    assert valid(likelihood=family) != needs_function
    assert valid(likelihood={"family": family}) != needs_function


def test_what_a_run_writes_back_is_valid(tmp_path):
    folder = write_recipe(tmp_path, **EVERYTHING).parent
    written = tomllib.loads(to_toml(parse(table(**EVERYTHING), folder), tmp_path))
    VALIDATOR.validate(written)


@pytest.mark.parametrize(
    "keys",
    [
        EVERYTHING,
        prior(group="a", match="*.weight", module="Linear", where="own.py:large", each=True),
        prior(zero_proportion={"zeros": 20.0, "nonzeros": 5.0}),
        {"prior": [{"family": "own.py:Narrow", "slabs": 3}]},
        {
            "prior": [
                {"family": "package.module:by_hand", "names": ["a"], "starts": "own.py:starts"}
            ]
        },
        {"likelihood": "own.py:Own"},
        {"likelihood": {"family": "own.py:Own", "x": 1}},
        {"network": {"source": "a.py:f", "hidden": 5}},
        {"tau": 1, "rates": {"means": 0}},  # whole numbers are numbers
        {"fit": {"epochs": 3, "rates": {"means": 0}}, "packing": {"rewrite": False}},
        {"fit": {"family": "fit", "epochs": 3}},
        {"fit": {"family": "post_training", "rate": 1e-7}},
        {"fit": {"family": "walk", "rates": {"means": 0}}},
        {"density": "portable"},
        {"density": {"way": "portable", "prior_subsample": 0.5}},
    ],
)
def test_what_reads_is_valid(keys):
    assert valid(**keys)


@pytest.mark.parametrize(
    "keys",
    [
        {"taw": 0.5},
        {"tau": "0.5"},
        {"epochs": 2.5},
        {"schedule": "cosin"},
        {"guide": "norml"},
        {"fit": {"epoch": 3}},
        {"fit": {"family": "walks"}},
        {"fit": {"family": "walk", "epochs": 3}},
        {"fit": {"family": "post_training", "files": "3"}},
        {"density": {"wey": "auto"}},
        {"density": "fast"},
        {"rates": {"weight": 1.0}},
        {"annealing": {"tau": {"until": 0.5}}},
        {"pretraining": {"epoch": 1}},
        {"prior": []},
        {"prior": [{"slabs": 3}]},
        {"prior": [{"family": "spike_and_slap"}]},
        {"network": "lenet.py"},
        {"network": {"sourse": "a.py:f"}},
        {"data": None},
        {"likelihood": "categorica"},
        {"likelihood": {"family": "gaussian", "noise_precision": {"shape": 1.0}}},
        prior(slab=3),
        prior(slabs="3"),
        prior(slab_precision="fre"),
        prior(spike_precision={"shape": 1.0, "rate": 1.0, "rat": 1.0}),
        prior(each="yes"),
        prior(modul="Linear"),
        {"prior": [{"family": "structured", "shape": {"slab": 3}}]},
        {"prior": [{"family": "structured", "shape": {"slab_precision": {"shap": 1.0}}}]},
        {"prior": [{"family": "own.py:Narrow", "group": 3}]},
    ],
)
def test_what_does_not_read_for_its_keys_or_types_is_not_valid(keys, tmp_path):
    assert not valid(**keys)
    with pytest.raises(ValueError):
        parse(table(**keys), write_recipe(tmp_path).parent)


def test_what_a_run_made_in_python_writes_is_valid():
    told = {"made_in_python": "LeNet"}
    rule = {"group": "all", "where": told, **told}
    assert valid(network=told, data=told, guide=told, schedule=told, likelihood=told, prior=[rule])
    assert not valid(network={"made_in": "LeNet"}) and not valid(guide=told | {"more": 1})


@dataclasses.dataclass(frozen=True)
class Knobbed(Fitting):
    """A fit with one knob more."""

    dummy: int = 3

    def __post_init__(self):
        if self.dummy < 0:
            raise ValueError(f"dummy must be at least 0, got {self.dummy}")


def test_a_field_more_in_a_section_is_a_key_more_wherever_keys_are(monkeypatch, tmp_path):
    monkeypatch.setitem(SECTIONS, "fit", Knobbed)
    # Made anew for this test, and for those after it.
    monkeypatch.setattr(recipe, "recipe_type", recipe_type.__wrapped__)
    monkeypatch.setattr(schema, "recipe_type", recipe_type.__wrapped__)
    assert schema.recipe_schema()["properties"]["dummy"] == {
        "default": 3,
        "title": "Dummy",
        "type": "integer",
    }
    plan = parse(table(dummy=5), tmp_path)
    assert plan.fit == Knobbed(epochs=2, dummy=5)
    written = tomllib.loads(to_toml(plan, tmp_path))
    assert written["dummy"] == 5 and parse(written, tmp_path) == plan
    assert parse(table(epochs=None, fit={"epochs": 2, "dummy": 5}), tmp_path).fit == plan.fit
    for wrong in ("x", -1):
        with pytest.raises(ValueError, match="^dummy"):
            parse(table(dummy=wrong), tmp_path)


def test_descriptions_are_the_first_lines_of_the_docstrings():
    found = SCHEMA["$defs"]["Gamma"]["description"]
    assert found == sws.Gamma.__doc__.splitlines()[0]
