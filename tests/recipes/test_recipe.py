"""Recipes: what is written is what is meant, and what cannot be meant is named in one line."""

import dataclasses
import sys
import types

import pytest
import torch
from small_recipe import EVERYTHING, table, write_recipe
from torch import nn

from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import NamedData, NamedNetwork, Plan
from pyro_sws.compression.post_training.settings import PostTraining
from pyro_sws.compression.pretrain import Pretraining
from pyro_sws.compression.walk.settings import Walk, WalkRates
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.inference.annealing import Annealing, Ramp
from pyro_sws.inference.density import Density
from pyro_sws.inference.fitting import Fitting, Rates
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Categorical, Gaussian
from pyro_sws.inference.priors import Grid, Scaled, SparseDirichlet, SpikeAndSlabs
from pyro_sws.inference.priors.custom import Custom
from pyro_sws.inference.priors.rules import Rule, apply_rules
from pyro_sws.recipes.recipe import parse, read_recipe, to_toml, tomllib
from pyro_sws.recipes.sources import Source


def prior(**fields):
    return {"prior": [{"family": "spike_and_slabs", **fields}]}


def outer(**fields):
    """A family with tables in its tables."""
    return {"prior": [{"family": "own.py:Outer", **fields}]}


def refusal(tmp_path, changes=(), **keys):
    """The one line with which a recipe is refused, without the path that it starts with."""
    path = write_recipe(tmp_path, **keys)
    with pytest.raises(ValueError) as caught:
        read_recipe(path, changes)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def meaning(recipe):
    """The recipe, with its path to trained weights as it is from any folder."""
    network = recipe.network
    at = network.start and str((network.source.folder / network.start).resolve())
    return dataclasses.replace(recipe, network=dataclasses.replace(network, start=at))


# What is written is what is meant.


def test_labels_may_be_ignored(tmp_path):
    recipe = parse(table(likelihood={"family": "categorical", "ignore_index": -100}), tmp_path)
    assert recipe.likelihood == Categorical(ignore_index=-100)
    assert "ignore_index = -100" in to_toml(recipe, tmp_path)
    refused = refusal(tmp_path, likelihood={"family": "categorical", "ignore_index": "pad"})
    assert refused == "likelihood.ignore_index: must be a whole number, got 'pad'"


@pytest.mark.parametrize("family", ["categorical", "distilled"])
def test_labels_may_be_scored_in_bits(tmp_path, family):
    recipe = parse(table(likelihood={"family": family, "score": "bits"}), tmp_path)
    assert recipe.likelihood.score_unit == "bits"
    assert 'score = "bits"' in to_toml(recipe, tmp_path)
    refused = refusal(tmp_path, likelihood={"family": family, "score": "bit"})
    assert refused.startswith("likelihood.score: must be 'error', 'bits' or 'nll', got 'bit'")


def test_a_recipe_of_three_keys_has_the_defaults_of_the_library(tmp_path):
    write_recipe(tmp_path)
    short = {"network": "networks.py:tiny", "data": "points.py:points"}
    recipe = parse(short | {"prior": [{"family": "spike_and_slabs"}]}, tmp_path)
    assert recipe.prior == (Rule(SpikeAndSlabs(), "*", "all"),)
    assert recipe == Plan(
        NamedNetwork(Source("networks.py:tiny", {}, tmp_path)),
        NamedData(Source("points.py:points", {}, tmp_path)),
        (Rule(SpikeAndSlabs()),),
        Categorical(),
    )
    assert len(recipe.network.source()) == 3


def test_every_key_becomes_the_value_that_it_names(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path, **EVERYTHING))
    assert recipe.prior[0] == Rule(
        SpikeAndSlabs(
            slabs=2,
            zero_proportion=Beta(20.0, 5.0),
            spike_precision=Gamma(50.0, 0.5),
            slab_precision=9.0,
            slab_shares=Dirichlet(2.0),
            slab_means=Normal(0.3),
            initialization=(-0.1, 0.1),
        ),
        "0.*",
        "first",
    )
    assert recipe.prior[1] == Rule(SpikeAndSlabs(slab_precision="free"), "*", "rest")
    assert recipe.likelihood == Gaussian(Gamma(2.0, 1.0))
    assert recipe.network.source()[0].out_features == 5
    augment = recipe.data.augmentation.bound()
    assert torch.equal(augment(torch.ones(3)), torch.full((3,), 2.0))
    assert recipe.network == NamedNetwork(
        Source("networks.py:tiny", {"hidden": 5}, tmp_path),
        start="weights/start.safetensors",
        pretraining=Pretraining(epochs=2, batch_size=20),
    )
    assert (recipe.data.batch_size, recipe.tau, recipe.seed) == (20, 0.5, 7)
    assert recipe.fit == Fitting(
        epochs=2,
        rates=Rates(weights=0.01, means=0.0),
        schedule="constant",
        annealing=Annealing(tau=Ramp(0.1), hyperpriors=Ramp(9.0, until=1.0)),
    )
    assert recipe.packing == Packing(codebook_dtype="float32")
    assert (recipe.device, recipe.dtype) == ("cpu", torch.float64)


@pytest.mark.parametrize("keys", [{}, EVERYTHING], ids=["short", "everything"])
@pytest.mark.parametrize("place", ["../beside", "below/deep", "."])
def test_written_in_another_folder_it_means_the_same(tmp_path, keys, place):
    recipe = read_recipe(write_recipe(tmp_path / "here", **keys))
    other = tmp_path / "here" / place
    other.mkdir(parents=True, exist_ok=True)
    (other / "again.toml").write_text(to_toml(recipe, other))
    assert meaning(read_recipe(other / "again.toml")) == meaning(recipe)


def test_a_recipe_without_annealing_is_written_without(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    assert "annealing" not in to_toml(recipe, tmp_path)
    ramp = dataclasses.replace(recipe.fit, annealing=Annealing(deviations=Ramp(3.0)))
    written = tomllib.loads(to_toml(dataclasses.replace(recipe, fit=ramp), tmp_path))
    assert written["annealing"] == {"deviations": {"first": 3.0, "until": 0.5}}


def test_what_is_written_is_written_again_without_a_change(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path, **EVERYTHING))
    (tmp_path / "again.toml").write_text(to_toml(recipe, tmp_path))
    assert to_toml(read_recipe(tmp_path / "again.toml"), tmp_path) == to_toml(recipe, tmp_path)


def test_a_recipe_keeps_its_meaning_from_another_working_directory(tmp_path, monkeypatch):
    path = write_recipe(tmp_path / "here")
    monkeypatch.chdir(path.parent)
    by_name = read_recipe("small.toml")
    (tmp_path / "again.toml").write_text(to_toml(by_name, tmp_path))
    assert meaning(read_recipe(tmp_path / "again.toml")) == meaning(read_recipe(path))


def test_a_prior_of_the_users_own_is_named_by_file_and_class(tmp_path):
    own = {"family": "own.py:Narrow", "slabs": 3}
    recipe = read_recipe(write_recipe(tmp_path / "here", prior=[own]))
    assert type(recipe.prior[0].prior).__name__ == "Narrow"
    assert recipe.prior[0].prior.inner == SpikeAndSlabs(slabs=3)
    (tmp_path / "again.toml").write_text(to_toml(recipe, tmp_path))
    assert '"here/own.py:Narrow"' in (tmp_path / "again.toml").read_text()
    assert meaning(read_recipe(tmp_path / "again.toml")) == meaning(recipe)


def test_a_default_that_toml_cannot_hold_is_left_out(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path, prior=[{"family": "own.py:Placed", "slabs": 3}]))
    written = tomllib.loads(to_toml(recipe, tmp_path))
    assert written["prior"][0].keys() == {"family", "group", "match", "slabs", "deviation"}
    assert parse(written, tmp_path) == recipe


def test_a_likelihood_of_the_users_own_has_keys_of_any_name(tmp_path):
    own = {"family": "own.py:Noise", "group": 2.0}
    recipe = read_recipe(write_recipe(tmp_path, likelihood=own))
    assert recipe.likelihood.group == 2.0
    assert tomllib.loads(to_toml(recipe, tmp_path))["likelihood"] == own


def test_a_rule_may_ask_for_a_module_and_a_function_of_the_users_own(tmp_path):
    rules = [
        {"group": "large", "module": "Linear", "where": "own.py:large", "each": True},
        {"group": "biases", "where": "own.py:biases"},
    ]
    family = {"family": "spike_and_slabs"}
    recipe = read_recipe(write_recipe(tmp_path / "here", prior=[r | family for r in rules]))
    groups, _, uncovered = apply_rules(recipe.network.source(), recipe.prior)
    assert {name: list(group.shapes) for name, group in groups.items()} == {
        "large-0_weight": ["0.weight"],
        "large-2_weight": ["2.weight"],
        "biases": ["0.bias", "2.bias"],
    }
    (tmp_path / "again.toml").write_text(to_toml(recipe, tmp_path))
    table = tomllib.loads((tmp_path / "again.toml").read_text())["prior"]
    assert [rule["where"] for rule in table] == ["here/own.py:large", "here/own.py:biases"]
    assert table[0]["each"] is True and "each" not in table[1] and "module" not in table[1]
    assert meaning(read_recipe(tmp_path / "again.toml")) == meaning(recipe)


def test_a_prior_may_be_a_function_of_the_users_own(tmp_path):
    own = {
        "family": "own.py:by_hand",
        "slabs": 3,
        "precision": {"shape": 2.0, "rate": 1.0},
        "names": ["a", "b"],
        "starts": "own.py:starts",
    }
    recipe = read_recipe(write_recipe(tmp_path / "here", prior=[own]))
    found = recipe.prior[0].prior
    assert found == Custom(
        found.function,
        {"slabs": 3, "precision": Gamma(2.0, 1.0), "names": ["a", "b"]},
        found.starts,
    )
    model = joint(recipe.network.source(), recipe.prior, "categorical", 60)
    assert model.start()["all.slab_precisions"].tolist() == [2.0] * 3
    (tmp_path / "again.toml").write_text(to_toml(recipe, tmp_path))
    assert '"here/own.py:by_hand"' in (tmp_path / "again.toml").read_text()
    assert meaning(read_recipe(tmp_path / "again.toml")) == meaning(recipe)


def test_a_function_that_takes_any_argument_has_any_key(tmp_path):
    own = {"family": "own.py:anything", "slabs": 3, "more": {"a": 1}}
    recipe = read_recipe(write_recipe(tmp_path, prior=[own]))
    assert recipe.prior[0].prior.arguments == {"slabs": 3, "more": {"a": 1}}
    (tmp_path / "again.toml").write_text(to_toml(recipe, tmp_path))
    assert meaning(read_recipe(tmp_path / "again.toml")) == meaning(recipe)


def test_a_module_given_as_a_class_is_written_by_its_name(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    rule = dataclasses.replace(recipe.prior[0], module=torch.nn.Linear)
    written = to_toml(dataclasses.replace(recipe, prior=(rule,)), tmp_path)
    assert parse(tomllib.loads(written), tmp_path).prior[0].module == "Linear"


def top_level(name, parameter):
    return True


def annotated(group, precision: Gamma | float = 1.0, sizes=None):
    return SpikeAndSlabs(slab_precision=precision)(group)


def test_a_function_of_a_program_is_named_by_its_module_or_file(tmp_path, monkeypatch):
    recipe = read_recipe(write_recipe(tmp_path))

    def written():
        rule = Rule(Custom(annotated, {"precision": Gamma(2.0, 1.0)}), where=top_level)
        text = to_toml(dataclasses.replace(recipe, prior=(rule,)), tmp_path)
        return tomllib.loads(text)["prior"][0]

    assert written()["where"] == f"{__name__}:top_level"
    assert written()["family"] == f"{__name__}:annotated"
    monkeypatch.setattr(top_level, "__module__", "__main__")
    program = types.ModuleType("__main__")
    program.__file__ = str(tmp_path / "program.py")
    monkeypatch.setitem(sys.modules, "__main__", program)
    assert written()["where"] == "program.py:top_level"


def test_a_class_in_an_importable_module_stays_named_by_that_module(tmp_path):
    own = {"family": "pyro_sws.inference.hyperpriors:Gamma", "shape": 2.0, "rate": 1.0}
    recipe = read_recipe(write_recipe(tmp_path, likelihood=own))
    assert recipe.likelihood == Gamma(2.0, 1.0)
    assert '"pyro_sws.inference.hyperpriors:Gamma"' in to_toml(recipe, tmp_path)


def test_files_of_one_stem_in_two_folders_do_not_meet(tmp_path):
    first, second = (write_recipe(tmp_path / name) for name in ("a", "b"))
    (tmp_path / "b" / "networks.py").write_text("def tiny():\n    return 'b'")
    recipe = read_recipe(second)
    assert recipe.network.source() == "b"
    recipe = read_recipe(first)
    assert len(recipe.network.source()) == 3


def test_a_file_that_was_edited_is_read_again(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    recipe.network.source()
    (tmp_path / "networks.py").write_text("def tiny():\n    return 'edited'")
    assert recipe.network.source() == "edited"


# The keys of a section may be a table.


def test_a_section_is_its_keys_at_the_top_or_a_table_of_its_name(tmp_path):
    flat = {"schedule": "constant", "rates": {"means": 0.5}, "fingerprint": True, "density": "auto"}
    nested = {
        "epochs": None,
        "fit": {"epochs": 2, "schedule": "constant", "rates": {"means": 0.5}},
        "packing": {"fingerprint": True},
        "density": {"way": "auto"},
    }
    expected = read_recipe(write_recipe(tmp_path, **flat))
    assert read_recipe(write_recipe(tmp_path, **nested)) == expected
    mixed = {"schedule": "constant", "fit": {"rates": {"means": 0.5}}, "fingerprint": True}
    assert read_recipe(write_recipe(tmp_path, **mixed)) == expected


def test_a_change_reaches_into_a_section(tmp_path):
    path = write_recipe(tmp_path, density="portable")
    plan = read_recipe(path, ["fit.rates.means=0.5", "density.prior_subsample=0.5"])
    assert plan.fit == Fitting(epochs=2, rates=Rates(means=0.5))
    assert plan.density == Density("portable", prior_subsample=0.5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fit": {"epochs": 3}}, "epochs is given at the top and as fit.epochs; give it once"),
        (
            {"autocast": "bfloat16", "density": {"autocast": "bfloat16"}},
            "autocast is given at the top and as density.autocast; give it once",
        ),
        ({"fit": 3}, "fit: must be a Fitting table, got 3"),
        (
            {"density": "fast"},
            "density: must be 'auto', 'portable' or 'compiled' or a Density table, got 'fast'",
        ),
        (
            {"density": {"way": "fast"}},
            "density.way: must be 'auto', 'portable' or 'compiled', got 'fast'",
        ),
        (
            {"packing": {"merge_threshold": -1.0}},
            "packing.merge_threshold: threshold must be at least 0 nats, got -1.0",
        ),
        (
            {"epochs": None, "fit": {"epochs": -1}},
            "fit.epochs: epochs must be a whole number >= 0, got -1",
        ),
        ({"fit": {"rates": {"means": "x"}}}, "fit.rates.means: must be a number, got 'x'"),
    ],
)
def test_what_a_section_cannot_be_is_named_with_its_path(tmp_path, keys, message):
    assert refusal(tmp_path, **keys) == message


@pytest.mark.parametrize(
    ("family", "settings", "value"),
    [
        (
            "walk",
            {"steps": 20, "rates": {"means": 0.5}},
            Walk(steps=20, rates=WalkRates(means=0.5)),
        ),
        ("post_training", {"rate": 1e-7, "files": 3}, PostTraining(rate=1e-7, files=3)),
        ("post_training", {}, PostTraining()),
    ],
)
def test_what_is_in_place_of_a_fit_is_a_table_of_its_name_or_a_fit_s_family(
    tmp_path, family, settings, value
):
    named = read_recipe(write_recipe(tmp_path, fit={"family": family, **settings}))
    assert getattr(named, family) == value
    assert named == read_recipe(write_recipe(tmp_path, **{family: settings}))
    written = to_toml(named, tmp_path)
    assert "family" not in tomllib.loads(written).get("fit", {})
    (tmp_path / "again.toml").write_text(written)
    assert read_recipe(tmp_path / "again.toml") == named


def test_a_fit_may_say_that_it_is_one(tmp_path):
    said = {"epochs": None, "fit": {"family": "fit", "epochs": 2}}
    assert read_recipe(write_recipe(tmp_path, **said)) == read_recipe(write_recipe(tmp_path))


def test_a_change_reaches_into_what_is_in_place_of_a_fit(tmp_path):
    path = write_recipe(tmp_path, fit={"family": "post_training"})
    assert read_recipe(path, ["fit.files=5"]).post_training == PostTraining(files=5)
    assert read_recipe(write_recipe(tmp_path), ["fit.family=walk"]).walk == Walk()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"fit": {"family": "wlak"}},
            "fit: unknown family 'wlak', did you mean 'walk'?; choose from fit, post_training, "
            "walk",
        ),
        ({"fit": {"family": 3}}, "fit.family: must be a string, got 3"),
        (
            {"fit": {"family": "post_training", "rate": -1.0}},
            "fit.rate: post_training.rate must be positive, got -1.0",
        ),
        (
            {"fit": {"family": "post_training", "files": 2.5}},
            "fit.files: must be a whole number, got 2.5",
        ),
        (
            {"fit": {"family": "walk", "rates": {"means": "x"}}},
            "fit.rates.means: must be a number, got 'x'",
        ),
        (
            {"fit": {"family": "post_training", "file": 2}},
            "fit: unknown key 'file', did you mean 'files'?; known are correct_bias, damping, "
            "descents, examples, files, rate",
        ),
        (
            {"fit": {"family": "walk"}, "walk": {}},
            "walk is given as a table of its own and as fit.family; give it once",
        ),
    ],
)
def test_what_is_in_place_of_a_fit_is_refused_by_its_key(tmp_path, keys, message):
    assert refusal(tmp_path, **keys) == message


def test_an_unknown_key_of_a_section_is_named_with_the_known(tmp_path):
    message = refusal(tmp_path, packing={"rewrit": True})
    assert message.startswith("packing: unknown key 'rewrit', did you mean 'rewrite'?; known are c")


# --set


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("tau=0.5", lambda r: r.tau == 0.5),
        ("tau = 1", lambda r: r.tau == 1.0),
        ("prior.0.slabs=32", lambda r: r.prior[0].prior.slabs == 32),
        ("rates.means=1e-2", lambda r: r.fit.rates == Rates(means=0.01)),
        (
            "annealing.tau.first=0.1",
            lambda r: r.fit.annealing == Annealing(tau=Ramp(0.1, until=0.5)),
        ),
        ("schedule=constant", lambda r: r.fit.schedule == "constant"),
        ('schedule="constant"', lambda r: r.fit.schedule == "constant"),
        ("data=other/points.py:points", lambda r: r.data.source.path == "other/points.py:points"),
        ("network.hidden=5", lambda r: r.network.source.arguments == {"hidden": 5}),
        ("prior.0.slab_precision=free", lambda r: r.prior[0].prior.slab_precision == "free"),
        (
            "prior.0.spike_precision={shape=2.0, rate=1.0}",
            lambda r: r.prior[0].prior.spike_precision == Gamma(2.0, 1.0),
        ),
        ("prior.0.initialization.1=0.5", lambda r: r.prior[0].prior.initialization == (0.0, 0.5)),
        ("likelihood.noise_precision=4.0", lambda r: r.likelihood == Gaussian(4.0)),
    ],
)
def test_set_overwrites_one_key(tmp_path, change, found):
    keys = prior(slabs=2, initialization=[0.0, 0.1])
    if "slabs" in change:
        keys = prior(slabs=2)
    path = write_recipe(tmp_path, likelihood="gaussian", **keys)
    assert found(read_recipe(path, [change]))


def test_the_last_of_two_changes_to_a_key_holds(tmp_path):
    assert read_recipe(write_recipe(tmp_path), ["tau=1.0", "tau=2.0"]).tau == 2.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("tau", ["--set 'tau'", "key=value"]),
        ("=3", ["--set '=3'", "key=value"]),
        ("prior.1.slabs=3", ["prior.1.slabs=3", "'1' is no index", "0..0"]),
        ("prior.slabs=3", ["'slabs' is no index", "0..0"]),
        ("prior.-1.slabs=3", ["'-1' is no index"]),
        ("epochs.x=3", ["epochs.x=3", "'epochs' is 2, not a table"]),
        ("schedule.x=3", ["schedule.x=3", "'schedule' is 'cosine', not a table"]),
        ("taw=3", ["unknown key 'taw', did you mean 'tau'?"]),
        ("prior.0=3", ["prior[0]: must be a table, got 3"]),
    ],
)
def test_a_change_that_cannot_be_made_is_refused(tmp_path, change, words):
    message = refusal(tmp_path, [change], schedule="cosine")
    assert all(word in message for word in words), message


# What cannot be meant is named: the key's path, what is there, what would be right.

GAMMA = {"shape": 2.0, "rate": 1.0}


@pytest.mark.parametrize(
    ("keys", "start", "near", "known"),
    [
        (
            {"epochz": 3},
            "unknown key 'epochz'",
            "epochs",
            "batch_size, budget, codebook_dtype,",
        ),
        ({"likelyhood": "x"}, "unknown key 'likelyhood'", "likelihood", "network"),
        ({"rates": {"weight": 1.0}}, "rates: unknown key 'weight'", "weights", "means, other"),
        (
            {"pretraining": {"epoch": 3}},
            "pretraining: unknown key 'epoch'",
            "epochs",
            "batch_size, epochs, rate, schedule, weight_decay",
        ),
        ({"annealing": {"taw": {}}}, "annealing: unknown key 'taw'", "tau", "hyperpriors, tau"),
        (
            {"annealing": {"tau": {"first": 0.1, "untill": 0.5}}},
            "annealing.tau: unknown key 'untill'",
            "until",
            "first, until",
        ),
        (prior(slab=3), "prior[0]: unknown key 'slab'", "slabs", "slab_means, slab_precision"),
        (
            prior(spike_precision={**GAMMA, "shap": 1.0}),
            "prior[0].spike_precision: unknown key 'shap'",
            "shape",
            "rate, shape",
        ),
        (
            prior(slab_precision={"shape": 1.0, "rat": 1.0}),
            "prior[0].slab_precision: unknown key 'rat'",
            "rate",
            "rate, shape",
        ),
        (
            prior(zero_proportion={"zeros": 1.0, "nonzero": 1.0}),
            "prior[0].zero_proportion: unknown key 'nonzero'",
            "nonzeros",
            "nonzeros, zeros",
        ),
        (
            {"likelihood": {"family": "gaussian", "noise_precisio": 1.0}},
            "likelihood: unknown key 'noise_precisio'",
            "noise_precision",
            "noise_precision",
        ),
        (
            {"likelihood": {"family": "gaussian", "noise_precision": {**GAMMA, "rat": 1.0}}},
            "likelihood.noise_precision: unknown key 'rat'",
            "rate",
            "rate, shape",
        ),
        (
            {"prior": [{"family": "own.py:Narrow", "slab": 3}]},
            "prior[0]: unknown key 'slab'",
            "slabs",
            "deviation, each, group, match, module, slabs, where",
        ),
        (prior(modul="Linear"), "prior[0]: unknown key 'modul'", "module", "match, module, slab_"),
        (
            {"prior": [{"family": "own.py:by_hand", "slabs": 2, "precison": 1.0}]},
            "prior[0]: unknown key 'precison'",
            "precision",
            "deviation, each, group, match, module, names, precision, slabs, starts, where",
        ),
        (
            {"prior": [{"family": "own.py:by_hand", "slabs": 2, "precision": {"shap": 1.0}}]},
            "prior[0].precision: unknown key 'shap'",
            "shape",
            "rate, shape",
        ),
        (
            outer(shape={"slab": 3}),
            "prior[0].shape: unknown key 'slab'",
            "slabs",
            "slab_means, slab_precision",
        ),
        (  # a key of the nearer table, though the other one lacks more
            outer(shape={"slab_precision": {"shape": 1.0, "rat": 1.0}}),
            "prior[0].shape.slab_precision: unknown key 'rat'",
            "rate",
            "rate, shape",
        ),
        (
            outer(shapes=[{}, {"deviatio": 1.0}]),
            "prior[0].shapes[1]: unknown key 'deviatio'",
            "deviation",
            "deviation, slabs",
        ),
        (outer(maybe={"shap": 1.0}), "prior[0].maybe: unknown key 'shap'", "shape", "rate, shape"),
        (
            outer(by_tensor={"0.weight": {"rat": 1.0}}),
            "prior[0].by_tensor.0.weight: unknown key 'rat'",
            "rate",
            "rate, shape",
        ),
        (  # of two tables that it could be, the nearer
            {"prior": [{"family": "own.py:Either", "strength": {"zeros": 1.0, "nonzero": 1.0}}]},
            "prior[0].strength: unknown key 'nonzero'",
            "nonzeros",
            "nonzeros, zeros",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_path_the_nearest_and_the_known(
    tmp_path, keys, start, near, known
):
    message = refusal(tmp_path, **keys)
    assert message.startswith(f"{start}, did you mean {near!r}?; known are ")
    assert known in message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tau": "small"}, "tau: must be a number, got 'small'"),
        ({"tau": "0.5"}, "tau: must be a number, got '0.5'"),
        ({"epochs": 2.5}, "epochs: must be a whole number, got 2.5"),
        ({"epochs": True}, "epochs: must be a whole number, got True"),
        (
            {"guide": "delt"},
            "guide: must be delta, delta_normal, normal, low_rank, laplace, or your own as "
            "'file.py:function', got 'delt', did you mean 'delta'?",
        ),
        (
            {"guide": 3},
            "guide: must be delta, delta_normal, normal, low_rank, laplace, or your own as "
            "'file.py:function', got 3",
        ),
        (
            {"signal_to_noise": -1.0},
            "signal_to_noise must be a number >= 0, or None, got -1.0",
        ),
        ({"device": 3}, "device: must be a string, got 3"),
        ({"dtype": 16}, "dtype: must be 'float32' or 'float64', got 16"),
        (
            {"schedule": "cosin"},
            "schedule: must be 'constant' or 'cosine', got 'cosin', did you mean 'cosine'?",
        ),
        ({"rates": {"weights": "x"}}, "rates.weights: must be a number, got 'x'"),
        ({"rates": 3}, "rates: must be a Rates table, got 3"),
        ({"annealing": {"tau": 0.1}}, "annealing.tau: must be a Ramp table, got 0.1"),
        (
            {"pretraining": {"schedule": "x"}},
            "pretraining.schedule: must be 'constant' or 'cosine', got 'x'",
        ),
        (prior(slabs="many"), "prior[0].slabs: must be a whole number, got 'many'"),
        (prior(slabs=[1]), "prior[0].slabs: must be a whole number, got [1]"),
        (
            prior(spike_precision="fre"),
            "prior[0].spike_precision: must be a number or a Gamma table or 'free', "
            "got 'fre', did you mean 'free'?",
        ),
        (
            prior(spike_precision={"shape": "x", "rate": 1.0}),
            "prior[0].spike_precision.shape: must be a number, got 'x'",
        ),
        (
            prior(initialization=["x"]),
            "prior[0].initialization[0]: must be a number, got 'x'",
        ),
        (
            outer(shape={"slabs": 3, "slab_precision": "fre"}),
            "prior[0].shape.slab_precision: must be a number or a Gamma table or 'free', "
            "got 'fre', did you mean 'free'?",
        ),
        (
            outer(shape={"slab_precision": {"shape": "x", "rate": 1.0}}),
            "prior[0].shape.slab_precision.shape: must be a number, got 'x'",
        ),
        (
            outer(shape=3),
            "prior[0].shape: must be a SpikeAndSlabs table or a Gamma table, got 3",
        ),
        (
            outer(maybe={"shape": "x", "rate": 1.0}),
            "prior[0].maybe.shape: must be a number, got 'x'",
        ),
        (
            outer(by_tensor={"a": {"shape": 1.0, "rate": "x"}}),
            "prior[0].by_tensor.a.rate: must be a number, got 'x'",
        ),
        (
            outer(by_layer={"first": 1.0}),
            "prior[0].by_layer.first: must be a whole number, got 1.0",
        ),
        (
            {"augmentation": 3},
            "augmentation: must be 'file.py:function', or a table with that as 'source' and its "
            "arguments, got 3",
        ),
        (prior(match=3), "prior[0].match: must be a string, got 3"),
        (prior(module=3), "prior[0].module: must be a string, got 3"),
        (prior(where=3), "prior[0].where: must be 'file.py:function', got 3"),
        (prior(each="yes"), "prior[0].each: must be true or false, got 'yes'"),
        (
            {"prior": [{"family": "own.py:by_hand", "slabs": "two"}]},
            "prior[0].slabs: must be a whole number, got 'two'",
        ),
        (
            {"prior": [{"family": "own.py:by_hand", "slabs": 2, "starts": 3}]},
            "prior[0].starts: must be a string, got 3",
        ),
        (prior(group=3), "prior[0].group: must be a string, got 3"),
        ({"prior": ["x"]}, "prior[0]: must be a table, got 'x'"),
        ({"likelihood": 3}, "likelihood: must be a table, got 3"),
        (
            {"prior": [{"family": "own.py:Narrow", "slabs": "x"}]},
            "prior[0].slabs: must be a whole number, got 'x'",
        ),
    ],
)
def test_a_wrong_type_is_named_with_its_path_and_value(tmp_path, keys, message):
    assert refusal(tmp_path, **keys) == message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"tau": -1.0}, "tau must be a positive number, got -1.0; a small one is plain training"),
        (
            {"tau": float("nan")},
            "tau must be a positive number, got nan; a small one is plain training",
        ),
        ({"epochs": -1}, "epochs must be a whole number >= 0, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (
            {"merge_threshold": -1.0},
            "merge_threshold: threshold must be at least 0 nats, got -1.0",
        ),
        ({"seed": -1}, "seed must be in 0..2^63 - 1, got -1"),
        ({"seed": 2**63}, f"seed must be in 0..2^63 - 1, got {2**63}"),
        ({"rates": {"means": -1.0}}, "rates.means must be a number >= 0, got -1.0"),
        (
            {"annealing": {"tau": {"first": 0.0}}},
            "annealing.tau: first must be a positive number, got 0.0",
        ),
        (
            {"annealing": {"deviations": {"until": 0.5}}},
            "annealing.deviations: missing key 'first'; it has first, until",
        ),
        (
            {"pretraining": {"epochs": 0}},
            "pretraining: epochs and batch_size must be at least 1, got 0 and 128",
        ),
        ({"pretraining": {"rate": 0.0}}, "pretraining: rate must be a positive number, got 0.0"),
        (prior(slabs=0), "prior[0]: slabs must be at least 1, got 0"),
        (prior(zero_proportion=1.5), "prior[0]: zero_proportion must be in [0, 1), got 1.5"),
        (
            prior(slabs=2, initialization=[0.1]),
            "prior[0]: initialization gives 1 means for 2 slabs; give as many",
        ),
        (
            prior(spike_precision={"shape": -2.0, "rate": 1.0}),
            "prior[0].spike_precision: Gamma: shape must be a positive number, got -2.0",
        ),
        (
            prior(spike_precision={"shape": 2.0}),
            "prior[0].spike_precision: missing key 'rate'; it has rate, shape",
        ),
        (
            outer(shape={"slabs": 0}),
            "prior[0].shape: slabs must be at least 1, got 0",
        ),
        (
            outer(shape={"slab_precision": {"shape": -1.0, "rate": 1.0}}),
            "prior[0].shape.slab_precision: Gamma: shape must be a positive number, got -1.0",
        ),
        (
            outer(shape={"slab_precision": {"shape": 1.0}}),
            "prior[0].shape.slab_precision: missing key 'rate'; it has rate, shape",
        ),
        (
            {"prior": [{"family": "own.py:by_hand"}]},
            "prior[0]: missing key 'slabs'; it has deviation, each, group, match, module, names, "
            "precision, slabs, starts, where",
        ),
        (
            prior(group="a b"),
            "prior[0]: group must be letters, digits, '_' or '-' (site names follow it after a "
            "dot), got 'a b'",
        ),
        (
            {"likelihood": {"family": "gaussian", "noise_precision": -1.0}},
            "likelihood: gaussian: noise_precision must be positive, got -1.0",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_path(tmp_path, keys, message):
    assert refusal(tmp_path, **keys) == message


@pytest.mark.parametrize("key", ["network", "data"])
def test_a_missing_key_is_named_with_what_a_recipe_has(tmp_path, key):
    message = refusal(tmp_path, **{key: None})
    assert message == f"missing key {key!r}; a recipe has network and data"


def test_a_missing_key_is_found_under_its_misspelt_name(tmp_path):
    message = refusal(tmp_path, network=None, netwrok="networks.py:tiny")
    assert message.startswith("unknown key 'netwrok', did you mean 'network'?; known are anneal")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"prior": []}, ["prior: must be one or more [[prior]] tables, got []"]),
        ({"prior": {"family": "x"}}, ["prior: must be one or more [[prior]] tables, got {"]),
        ({"prior": [{"slabs": 2}]}, ["prior[0]: missing key 'family'; choose", "spike_and"]),
        ({"prior": [{"family": 3}]}, ["prior[0].family: must be a string, got 3"]),
        ({"likelihood": {}}, ["likelihood: missing key 'family'; choose from bernoulli, cat"]),
        (
            {"prior": [{"family": "spike_and_slap"}]},
            ["prior[0]: unknown family 'spike_and_slap', did you mean 'spike_and_slabs'?", ".py:"],
        ),
        (
            {"likelihood": "categorica"},
            ["likelihood: unknown family 'categorica', did you mean 'categorical'?", "poisson"],
        ),
        ({"network": 3}, ["network: must be 'file.py:function'", "got 3"]),
        ({"network": "networks.py"}, ["network: must be 'file.py:function'", "'networks.py'"]),
        ({"data": "points.py:"}, ["data: must be 'file.py:function'"]),
        ({"data": {"count": 3}}, ["data: missing key 'source'"]),
        ({"prior": [{"family": "own.py:Narow"}]}, ["prior[0].family: own.py", "mean 'Narrow'?"]),
        ({"prior": [{"family": "owm.py:Narrow"}]}, ["prior[0].family: no file", "owm.py"]),
        ({"prior": [{"family": "own.py:"}]}, ["prior[0].family: must be 'file.py:function', got"]),
        (
            {"prior": [{"family": "own.py:NoDataclass"}]},
            ["prior[0].family: own.py:NoDataclass is neither a dataclass nor a function"],
        ),
        (
            {"prior": [{"family": "own.py:no_group"}]},
            ["prior[0].family: own.py:no_group takes no group"],
        ),
        (
            {"prior": [{"family": "own.py:clash"}]},
            ["prior[0].family: own.py:clash has 'module' among its own keys", "rename"],
        ),
        (
            {"prior": [{"family": "own.py:Clash"}]},
            ["prior[0].family: own.py:Clash has 'each' among its own keys", "rename"],
        ),
        ({"likelihood": "own.py:by_hand"}, ["own.py:by_hand is no dataclass; its fields are"]),
        (prior(where="own.py"), ["prior[0].where: must be 'file.py:function', got 'own.py'"]),
        (prior(where="own.py:larg"), ["prior[0].where: own.py has no", "did you mean 'large'?"]),
        (
            {"prior": [{"family": "own.py:by_hand", "slabs": 2, "starts": "own.py:start"}]},
            ["prior[0].starts: own.py has no", "did you mean 'starts'?"],
        ),
        ({"prior": [{"family": "no.such:A"}]}, ["prior[0].family: no module 'no.such'"]),
    ],
)
def test_a_missing_or_unknown_part_is_named_with_the_choices(tmp_path, keys, words):
    message = refusal(tmp_path, **keys)
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("networks.py:tinny", ["networks.py", "'tinny'", "did you mean 'tiny'?"]),
        ("networks.py:nn", ["networks.py has no function or class 'nn'"]),
        ("missing.py:tiny", ["no file", "missing.py", "relative to it"]),
        ("no_such_module:tiny", ["no module 'no_such_module'", "file.py:name"]),
        ({"source": "networks.py:tiny", "hiden": 3}, ["'hiden'", "it takes hidden"]),
    ],
)
def test_a_function_that_is_not_there_or_takes_no_such_argument(tmp_path, network, words):
    recipe = read_recipe(write_recipe(tmp_path, network=network))
    with pytest.raises(ValueError) as caught:
        recipe.network.source()
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


def test_an_error_inside_the_users_function_is_not_taken_for_a_wrong_argument(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    (tmp_path / "networks.py").write_text("def tiny():\n    return 1 + 'a'")
    with pytest.raises(TypeError, match="unsupported operand"):
        recipe.network.source()


def test_a_file_that_is_not_toml_is_named_with_the_line(tmp_path):
    (tmp_path / "bad.toml").write_text("tau = 1\nepochs 3\n")
    with pytest.raises(ValueError, match=r"bad.toml: not TOML: .*line 2") as caught:
        read_recipe(tmp_path / "bad.toml")
    assert "\n" not in str(caught.value)
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="bad.toml: not TOML"):
        read_recipe(tmp_path / "bad.toml")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.toml"):
        read_recipe(tmp_path / "none.toml")


def test_two_rules_of_one_group_name_are_read_and_refused_where_groups_are_made(tmp_path):
    rules = [{"family": "spike_and_slabs", "match": match} for match in ("0.*", "*")]
    recipe = parse(table(prior=rules), write_recipe(tmp_path).parent)
    with pytest.raises(ValueError, match=r"prior\[1\]: group 'all' is taken; give each rule its"):
        apply_rules(recipe.network.source(), recipe.prior)


# Another family by one key.


def swapped(tmp_path, *changes, **keys):
    return read_recipe(write_recipe(tmp_path, **keys), changes)


def test_what_another_family_does_not_have_goes_and_the_rest_stays(tmp_path):
    old = prior(slabs=4, start_deviation=0.2, group="own", match="0.*")  # a Grid has no slabs
    rule = swapped(tmp_path, "prior.0.family=grid", **old).prior[0]
    assert (rule.prior, rule.group, rule.match) == (Grid(start_deviation=0.2), "own", "0.*")
    rule = swapped(tmp_path, "prior.0.family=sparse_dirichlet", **prior(slabs=4)).prior[0]
    assert rule.prior == SparseDirichlet(slabs=4)


SHAPE = {"slabs": 4}


@pytest.mark.parametrize(
    ("given", "family", "expected", "dropped"),
    [
        # Of one name and another meaning.
        ({"deviation": 0.5, "shape": SHAPE}, "scaled", Scaled(SpikeAndSlabs(4)), "deviation"),
        ({"by": ["row"], "shape": SHAPE}, "scaled", Scaled(SpikeAndSlabs(4)), "by"),
        ({"initialization": [-0.1, 0.1], "slabs": 2}, "grid", Grid(), "initialization"),
        ({"initialization": "em", "slabs": 2}, "grid", Grid(initialization="em"), "slabs"),
        ({"steps": 3, "precision": 4.0}, "grid", Grid(), "steps"),
    ],
)
def test_a_key_of_another_meaning_goes_and_is_named(
    tmp_path, caplog, given, family, expected, dropped
):
    old = "structured" if "shape" in given else "gaussian" if "steps" in given else None
    table = {"prior": [{"family": old or "spike_and_slabs", **given}]}
    rule = swapped(tmp_path, f"prior.0.family={family}", **table).prior[0]
    assert rule.prior == expected
    assert f"prior.0.{dropped}" in caplog.text


def test_a_swap_that_keeps_every_key_says_nothing(tmp_path, caplog):
    rule = swapped(tmp_path, "prior.0.family=sparse_dirichlet", **prior(slabs=4)).prior[0]
    assert rule.prior == SparseDirichlet(slabs=4) and not caplog.text


@pytest.mark.parametrize("first", [True, False])
def test_keys_that_are_set_beside_a_family_are_its_own(tmp_path, first):
    changes = ["prior.0.family=grid", "prior.0.steps=3"][:: 1 if first else -1]
    assert swapped(tmp_path, *changes, **prior(slabs=4)).prior[0].prior == Grid(steps=3)
    message = refusal(tmp_path, ["prior.0.family=grid", "prior.0.slabs=3"], **prior(slabs=4))
    assert "slabs" in message


def test_the_same_family_keeps_its_keys(tmp_path):
    rule = swapped(tmp_path, "prior.0.family=spike_and_slabs", **prior(slabs=4)).prior[0]
    assert rule.prior == SpikeAndSlabs(slabs=4)


def test_another_likelihood_takes_none_of_the_old_ones_keys(tmp_path):
    distilled = {"likelihood": {"family": "distilled", "share": 0.3}}
    recipe = swapped(tmp_path, "likelihood.family=categorical", **distilled)
    assert recipe.likelihood == Categorical()


def test_a_recipe_that_is_a_folder_or_is_missing_is_named(tmp_path):
    with pytest.raises(OSError, match="is a folder, not a recipe; name a TOML file"):
        read_recipe(tmp_path)
    with pytest.raises(OSError, match=r"no recipe .*none\.toml: there is no such file"):
        read_recipe(tmp_path / "none.toml")


def test_without_a_prior_a_recipe_has_that_of_compress(tmp_path):
    path = write_recipe(tmp_path, prior=None)
    net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    assert read_recipe(path).with_prior(net).prior == (Rule(SpikeAndSlabs()),)
    walks = read_recipe(path, ["tolerance=1.0"]).with_prior(net)
    assert walks.prior == default_rules(net) and len(walks.prior) == 2
    bare = nn.Linear(4, 8, bias=False)
    assert [rule.group for rule in read_recipe(path, ["walk={}"]).with_prior(bare).prior] == [
        "weights"
    ]


def test_a_key_of_a_prior_that_is_not_there_says_so(tmp_path):
    path = write_recipe(tmp_path, prior=None)
    with pytest.raises(ValueError, match=r"prior.0.slabs=8'?: there is no \[\[prior\]\] to change"):
        read_recipe(path, ["prior.0.slabs=8"])
    added = read_recipe(path, ['prior=[{family="spike_and_slabs", slabs=8}]'])
    assert added.prior[0].prior == SpikeAndSlabs(slabs=8)
