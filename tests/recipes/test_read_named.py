"""A recipe is read without running what it names, and what has no name in it is told as such."""

import dataclasses
import functools
import sys
import types

import numpy as np
import pytest
import torch
from small_recipe import EVERYTHING, write_recipe
from torch import nn

from pyro_sws.compression.plan import Data, NamedData, NamedNetwork, Plan, Unnamed
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.inference.priors.custom import Custom
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.recipes.recipe import parse, read_named, read_recipe, resolved, to_toml, tomllib
from pyro_sws.recipes.sources import Source

OWN = {
    "family": "own.py:by_hand",
    "slabs": 3,
    "precision": {"shape": 2.0, "rate": 1.0},
    "starts": "own.py:starts",
    "where": "own.py:large",
}
FULL = {"family": "own.py:Narrow", "slabs": 3, "deviation": 0.5}  # written with its defaults


def top_level(name, parameter):
    return True


def annotated(group, precision: Gamma | float = 1.0, sizes=None):
    return SpikeAndSlabs(slab_precision=precision)(group)


@dataclasses.dataclass(frozen=True)
class Fixed(SpikeAndSlabs):
    """A family of one's own, with a field that may be left out."""

    most: int | None = 3


def again(plan, folder):
    """The plan as it comes back from a file in the folder, without running anything."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(to_toml(plan, folder))
    return read_named(folder / "recipe.toml")


def made_in_python(folder, **changes):
    """A recipe's plan with objects in the place of names."""
    return dataclasses.replace(read_recipe(write_recipe(folder)), **changes)


# Nothing is run.


def test_nothing_that_a_recipe_names_is_run(tmp_path):
    trap = f"from pathlib import Path\nPath({str(tmp_path / 'marker')!r}).touch()\n"
    (tmp_path / "trap.py").write_text(f"{trap}Trap = where = starts = guide = print")
    path = write_recipe(
        tmp_path,
        network={"source": "os:system", "command": f"touch {tmp_path / 'marker'}"},
        data="trap.py:data",
        augmentation="trap.py:augment",
        likelihood={"family": "trap.py:Trap"},
        guide="trap.py:guide",
        prior=[{"family": "trap.py:Trap", "where": "trap.py:where", "starts": "trap.py:starts"}],
    )
    plan = read_named(path)
    assert plan.network.source == Source("os:system", plan.network.source.arguments)
    assert plan.prior[0].prior.path == "trap.py:Trap"
    assert again(plan, tmp_path / "beside") == plan
    assert not (tmp_path / "marker").exists()
    with pytest.raises(ValueError, match="trap.py:Trap is no dataclass"):
        resolved(plan)
    assert (tmp_path / "marker").exists()


def test_nothing_of_a_file_that_is_not_trusted_can_be_run_later(tmp_path):
    path = write_recipe(
        tmp_path, prior=[OWN], guide="own.py:guide", augmentation="points.py:scaled"
    )
    plan, expected = read_named(path, trusted=False), read_named(path)
    assert plan == expected
    rule = plan.prior[0]
    named = [plan.network.source, plan.data.source, plan.data.augmentation, plan.guide, rule.where]
    for source in [*named, rule.prior, rule.prior.arguments["starts"]]:
        with pytest.raises(ValueError, match="is code that a run folder names"):
            source.function()
    with pytest.raises(ValueError, match=r"prior\[0\].where: own.py:large is code that"):
        resolved(plan)
    resolved(expected)


def test_what_is_named_is_a_source_and_what_the_library_has_is_a_value(tmp_path):
    rules = [OWN, {"family": "spike_and_slabs", "group": "rest", "slabs": 2}]
    plan = read_named(write_recipe(tmp_path, prior=rules, guide="own.py:guide"))
    arguments = {"slabs": 3, "precision": {"shape": 2.0, "rate": 1.0}}
    starts = {"starts": Source("own.py:starts", {}, tmp_path)}
    assert plan.prior == (
        Rule(
            Source("own.py:by_hand", {**arguments, **starts}, tmp_path),
            where=Source("own.py:large", {}, tmp_path),
        ),
        Rule(SpikeAndSlabs(slabs=2), group="rest"),
    )
    assert plan.guide == Source("own.py:guide", {}, tmp_path)


@pytest.mark.parametrize("keys", [{}, EVERYTHING, {"prior": [OWN]}], ids=["short", "all", "own"])
def test_read_and_resolved_it_is_the_recipe(tmp_path, keys):
    path = write_recipe(tmp_path, **keys)
    assert resolved(read_named(path)) == read_recipe(path)


@pytest.mark.parametrize("keys", [{}, {"prior": [OWN]}, {"likelihood": FULL}])
def test_written_in_another_folder_it_names_the_same(tmp_path, keys):
    path = write_recipe(tmp_path / "here", **keys)
    plan = read_named(path)
    assert again(plan, tmp_path / "there" / "deep") == plan
    assert again(read_recipe(path), tmp_path / "there" / "deep") == plan


def test_sources_are_equal_where_they_mean_the_same(tmp_path):
    here = Source("own.py:large", {"a": [1]}, tmp_path)
    there = Source("../own.py:large", {"a": [1]}, tmp_path / "below")
    assert here == there and hash(here) == hash(there)
    assert Source("os:system", {}, tmp_path) == Source("os:system")
    for other in (
        Source("own.py:small", {"a": [1]}, tmp_path),
        Source("own.py:large", {"a": [2]}, tmp_path),
        Source("own.py:large", {"a": [1]}, tmp_path / "below"),
        "own.py:large",
    ):
        assert here != other


# What has no name is told.


def test_a_network_and_data_made_in_python_are_told_by_their_class(tmp_path):
    batches = [(torch.zeros(2, 4), torch.zeros(2).long())]
    plan = made_in_python(tmp_path, network=nn.Linear(4, 3), data=Data(batches))
    back = again(plan, tmp_path)
    assert (back.network, back.data) == (Unnamed("Linear"), Unnamed("list"))
    expected = dataclasses.replace(plan, network=Unnamed("Linear"), data=Unnamed("list"))
    assert back == expected and again(back, tmp_path / "other") == back


@pytest.mark.parametrize(
    ("prior", "what"),
    [
        (Custom(lambda group: None), "Custom(function=<function <lambda>>, arguments={}"),
        (Custom(functools.partial(annotated)), "Custom(function=functools.partial(<function"),
        (Custom(annotated, {"sizes": torch.ones(2)}), "arguments={'sizes': tensor("),
        # It would be read as a table: nothing says that it is a Gamma.
        (Custom(annotated, {"sizes": Gamma(2.0, 1.0)}), "arguments={'sizes': Gamma(shape=2.0"),
        (Custom(annotated, {}, lambda group, weights: {}), "starts=<function <lambda>>"),
        (Fixed(most=None), "Fixed(slabs=16"),  # without the key it would be 3
    ],
)
def test_a_prior_that_no_recipe_can_say_is_told_and_never_a_failure(tmp_path, prior, what):
    back = again(made_in_python(tmp_path, prior=(Rule(prior, "0.*", "first"),)), tmp_path)
    rule = back.prior[0]
    assert (rule.match, rule.group) == ("0.*", "first")
    assert isinstance(rule.prior, Unnamed) and what in rule.prior.what
    assert again(back, tmp_path / "other") == back


@pytest.mark.parametrize("prior", [Fixed(slabs=2, most=4), Custom(annotated, {"precision": 2.0})])
def test_a_prior_of_a_program_is_named_by_its_module(tmp_path, prior):
    plan = made_in_python(tmp_path, prior=(Rule(prior),))
    back = again(plan, tmp_path)
    assert back.prior[0].prior.path.startswith(f"{__name__}:")
    assert resolved(back) == plan


def test_functions_that_have_no_name_are_told(tmp_path):
    plan = made_in_python(
        tmp_path,
        prior=(Rule(SpikeAndSlabs(), where=lambda name, p: True),),
        guide=lambda model: None,
        fit=Fitting(schedule=lambda progress: 1.0),
    )
    back = again(plan, tmp_path)
    for told in (back.prior[0].where, back.guide, back.fit.schedule):
        assert isinstance(told, Unnamed) and "<lambda>" in told.what and " at 0x" not in told.what
    assert again(back, tmp_path / "other") == back


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path):
    prior = SpikeAndSlabs(slabs=np.int64(2), slab_precision=torch.tensor(0.5))
    back = again(made_in_python(tmp_path, tau=np.float32(0.5), prior=(Rule(prior),)), tmp_path)
    assert (back.tau, back.prior) == (0.5, (Rule(SpikeAndSlabs(2, slab_precision=0.5)),))


def test_a_function_in_a_notebook_has_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(top_level, "__module__", "__main__")
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    plan = made_in_python(tmp_path, prior=(Rule(SpikeAndSlabs(), where=top_level),))
    assert again(plan, tmp_path).prior[0].where == Unnamed("<function top_level>")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"network": nn.Linear(4, 3)}, "network"),
        ({"data": Data([])}, "data"),
        ({"guide": lambda model: None}, "guide"),
        ({"prior": (Rule(SpikeAndSlabs(), where=lambda name, p: True),)}, "prior[0].where"),
        ({"prior": (Rule(Custom(lambda group: None)),)}, "prior[0]"),
        ({"fit": Fitting(schedule=lambda progress: 1.0)}, "schedule"),
    ],
)
def test_what_has_no_name_cannot_be_run_again(tmp_path, changes, key):
    again(made_in_python(tmp_path, **changes), tmp_path)
    with pytest.raises(ValueError) as caught:
        read_recipe(tmp_path / "recipe.toml")
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'recipe.toml'}: {key}: ")
    assert "was given in Python" in message and "name it as 'file.py:name'" in message


def test_a_plan_of_names_alone_means_the_same_in_toml(tmp_path):
    plan = Plan(
        NamedNetwork(Source("net.py:f", {"hidden": 3}, tmp_path), from_run="earlier"),
        NamedData(Source("data.py:g", {}, tmp_path), 16, Source("data.py:flip", {}, tmp_path)),
        (Rule(SpikeAndSlabs()),),
        dtype=torch.float64,
        device="cpu",
    )
    assert parse(tomllib.loads(to_toml(plan, tmp_path)), tmp_path) == plan
