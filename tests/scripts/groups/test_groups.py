"""The study of groups: each variant covers every tensor once, and the whole line on made data."""

import sys

import pytest
import torch

from pyro_sws.inference.priors.rules import apply_rules
from pyro_sws.recipes.recipe import read_recipe, to_toml
from pyro_sws.runs.execute import named_parts
from pyro_sws.runs.inputs import build_network, load_data


@pytest.fixture
def groups(script):
    return script("groups.groups")


RECIPES = [
    "shakespeare_gru",
    "shakespeare_transformer",
    "spoken_digits_cnn",
    "spoken_digits_gru",
    "resnet_20",
    "wide_resnet_16_4",
]


def grouped(groups, recipe, variant):
    """Group -> its tensors, in the recipe's network."""
    plan = groups.planned(recipe, variant, 0, [])
    assert to_toml(plan, groups.ROOT / "models")  # it can be said in a recipe
    found, _, left = apply_rules(build_network(named_parts(plan)[0], 0), plan.prior)
    assert not left
    return {name: set(group.shapes) for name, group in found.items()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_kind_is_taken_out_of_the_recipes_own_groups(groups, recipe):
    kinds = groups.KINDS[recipe][0]
    plain = grouped(groups, recipe, "recipe")
    assert grouped(groups, recipe, "one") == {"all": plain["weights"] | plain["vectors"]}
    apart = {kind: grouped(groups, recipe, f"own {kind}")[kind] for kind in kinds}
    assert sum(map(len, apart.values())) == len(set().union(*apart.values()))
    if len(kinds) > 1:
        rest = plain["weights"] - set().union(*apart.values())
        assert grouped(groups, recipe, "own all") == {**plain, "weights": rest, **apart}


def test_a_kind_is_the_tensors_of_such_layers(groups):
    text = grouped(groups, "shakespeare_transformer", "own all")
    assert text["embedding"] == {"embedding.weight"} and text["position"] == {"position"}
    assert {name.rpartition("self_attn.")[2] for name in text["attention"]} == {
        "in_proj_weight",
        "out_proj.weight",
    }
    gru = grouped(groups, "spoken_digits_gru", "own all")
    assert gru["recurrent"] == {"gru.weight_hh_l0"} and gru["gates"] == {"gru.weight_ih_l0"}


@pytest.mark.parametrize("recipe", RECIPES + ["diabetes", "protein"])
def test_made_data_has_the_shapes_of_the_recipes_own(script, groups, recipe):
    made = script("shared.made")
    plan = read_recipe(groups.ROOT / "models" / f"{recipe}.toml", [made.instead(recipe)])
    network, data = named_parts(plan)
    inputs, targets = load_data(data)["train"]
    with torch.no_grad():
        plan.likelihood.check(build_network(network, 0).eval()(inputs[:3]), targets[:3])


@pytest.mark.slow
def test_variants_run_side_by_side_on_made_data(groups, monkeypatch, capsys):
    threads = torch.get_num_threads()
    arguments = ["--smoke", "--recipes", "spoken_digits_gru", "--variants", "one", "own recurrent"]
    monkeypatch.setattr(sys, "argv", ["groups.py", *arguments])
    try:
        groups.main()
    finally:
        torch.set_num_threads(threads)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and all(" bytes  test error " in line for line in told)
