"""A recipe's run: its folder whole or not at all, the same bytes from the same recipe.

What stops a run is found before training, and leaves the folder as it was.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from messages import assert_says
from pictures import PNG, rendered
from safetensors.torch import save_file
from small_recipe import write_recipe

import pyro_sws as sws
from pyro_sws.compression.pretrain import pretrain
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.inputs import build_network
from pyro_sws.runs.run import Run

pytestmark = pytest.mark.integration

WHOLE = {
    "recipe.toml",
    "trained.safetensors",
    "posterior.safetensors",
    "packed.safetensors",
    "history.jsonl",
    "model.sws",
    "checksums.sha256",
    "report.json",
    "report.html",
    "figures/all_weights.png",
    "figures/all_before_after.png",
    "figures/all_components.png",
    "figures/all_values.png",
    "figures/captions.json",
    "figures/training.png",
}


def files(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def contents(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A recipe, the rows that its run reported, the result and the folder."""
    folder = tmp_path_factory.mktemp("run")
    recipe, rows = read_recipe(write_recipe(folder)), []
    with rendered():
        result = run_recipe(
            recipe,
            folder / "out",
            callback=lambda told: rows.append((told.stage, told.done, told.total)),
        )
    return recipe, rows, result, folder / "out"


def test_the_folder_holds_what_it_should_and_nothing_else(run):
    *_, folder = run
    assert files(folder) == WHOLE
    pictures = [path.read_bytes() for path in (folder / "figures").glob("*.png")]
    assert all(each.startswith(PNG) and len(each) > len(PNG) for each in pictures)
    assert {p.name for p in folder.parent.iterdir() if p.name.startswith(".")} == set()


def test_the_report_names_the_recipes_network_and_the_page_holds_the_recipe(run):
    *_, folder = run
    assert json.loads((folder / "report.json").read_text())["network"] == "tiny"
    assert "spike_and_slabs" in (folder / "report.html").read_text()


def test_progress_is_told_epoch_by_epoch(run):
    assert run[1] == [("pretrain", 1, 2), ("pretrain", 2, 2), ("fit", 1, 2), ("fit", 2, 2)]


def test_a_run_from_the_recipe_in_its_folder_gives_the_same_file(run, tmp_path, monkeypatch):
    *_, result, folder = run
    monkeypatch.chdir(folder)
    again = run_recipe(read_recipe("recipe.toml"), tmp_path / "again")
    assert again.data == result.data


def test_another_seed_gives_another_file(run, tmp_path):
    plan = read_recipe(run[-1].parent / "small.toml", ["seed=1"])
    assert run_recipe(plan, tmp_path / "out").history != run[2].history
    batches = sws.Batches(*plan.data.source()["train"], 20)
    stages = plan.likelihood, plan.network.pretraining
    expected = pretrain(build_network(plan.network, 1), batches, *stages, seed=1).state_dict()
    trained = Run.open(tmp_path / "out").given
    assert all(torch.equal(trained[name], expected[name]) for name in expected)


def test_a_run_starts_from_given_weights_and_its_recipe_finds_them_again(run, tmp_path):
    *_, result, folder = run
    path = write_recipe(tmp_path, start="weights/start.safetensors")
    (tmp_path / "weights").mkdir()
    shutil.copy(folder / "trained.safetensors", tmp_path / "weights/start.safetensors")
    rows = []
    started = run_recipe(
        read_recipe(path), tmp_path / "a/b", callback=lambda told: rows.append(told.stage)
    )
    # Pre-training would have left these weights: from there on the runs are one.
    assert started.data == result.data
    assert set(rows) == {"fit"}
    plan = read_recipe(tmp_path / "a/b/recipe.toml")
    assert plan.network.start == "../../weights/start.safetensors"
    again = run_recipe(plan, tmp_path / "c")
    assert again.data == result.data


STILL = dict.fromkeys(["weights", "means", "precisions", "proportions", "other"], 0.0)
BY_LAYER = [
    {"group": "first", "match": "0.*", "family": "spike_and_slabs", "slabs": 3},
    {"group": "second", "match": "2.weight", "family": "spike_and_slabs", "slabs": 2},
]


@pytest.fixture(scope="module")
def refitted(run, tmp_path_factory):
    """A run in other groups that starts from the first one and does not move; its stages."""
    folder, stages = tmp_path_factory.mktemp("refitted"), []
    path = write_recipe(folder, prior=BY_LAYER, rates=STILL, from_run=str(run[-1]))
    run_recipe(read_recipe(path), folder / "a/b", callback=lambda told: stages.append(told.stage))
    return Run.open(folder / "a/b"), stages, folder / "a/b"


def test_a_run_starts_at_an_earlier_run_s_weights_though_its_groups_are_others(run, refitted):
    (*_, result, folder), (found, stages, _) = run, refitted
    assert set(stages) == {"fit"}
    expected, weights = result.posterior.weights, found.posterior.weights
    assert weights.keys() == {"0.weight", "0.bias", "2.weight"}
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    # What is not covered now, and what "before" is measured on, is of the trained network.
    assert all(torch.equal(found.given[n], t) for n, t in Run.open(folder).given.items())
    bias = sws.load(found.data, into=result.network)[2].bias
    assert torch.equal(bias, result.network[2].bias.half().float())
    assert found.report.score["before"] == result.report.score["before"]


def test_tensors_that_the_earlier_run_did_not_cover_start_as_trained(refitted, tmp_path):
    earlier, _, folder = refitted
    path = write_recipe(tmp_path, from_run=str(folder), rates=STILL)
    weights = run_recipe(read_recipe(path), tmp_path / "out").posterior.weights
    assert torch.equal(weights["2.bias"], earlier.given["2.bias"])
    assert torch.equal(weights["0.bias"], earlier.posterior.weights["0.bias"])
    assert not torch.equal(weights["0.bias"], earlier.given["0.bias"])


def test_the_recipe_of_a_run_from_a_run_gives_the_same_file_again(run, refitted, tmp_path):
    earlier, _, folder = refitted
    written = read_recipe(folder / "recipe.toml")
    assert not os.path.isabs(written.network.from_run)
    assert (folder / written.network.from_run).resolve() == run[-1].resolve()
    assert run_recipe(written, tmp_path / "out").data == earlier.data


def test_bfloat16_weights_are_a_start(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path, start="start.safetensors"))
    state = {n: t.bfloat16() for n, t in build_network(recipe.network, 0).state_dict().items()}
    save_file(state, tmp_path / "start.safetensors")
    run_recipe(recipe, tmp_path / "out")
    trained = Run.open(tmp_path / "out").given
    assert all(torch.equal(trained[name], state[name].float()) for name in state)


def test_overwriting_leaves_nothing_of_the_older_run(run, tmp_path):
    path = write_recipe(tmp_path)
    shutil.copytree(run[-1], tmp_path / "out")
    (tmp_path / "out/figures/older_weights.png").touch()
    captions = tmp_path / "out/figures/captions.json"
    captions.write_text(json.dumps({**json.loads(captions.read_text()), "older_weights": "old"}))
    run_recipe(read_recipe(path, ["seed=1"]), tmp_path / "out", overwrite=True)
    assert files(tmp_path / "out") == WHOLE
    assert Run.open(tmp_path / "out").report.seed == 1


def test_the_folder_may_be_the_working_directory(tmp_path, monkeypatch):
    path = write_recipe(tmp_path / "recipe")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    run_recipe(read_recipe(path), ".")
    assert files(tmp_path / "out") == WHOLE
    assert files(tmp_path) - {f"out/{name}" for name in WHOLE} == {
        f"recipe/{name}" for name in ("small.toml", "networks.py", "points.py", "own.py")
    }


def test_the_caller_s_generator_is_where_it_was(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path))
    before = torch.get_rng_state()
    build_network(recipe.network, 0)
    assert torch.equal(torch.get_rng_state(), before)


# What stops a run is found before training, and leaves the folder as it was.


def refusal(tmp_path, error=ValueError, changes=(), data_dir=None, **keys):
    """What a run says that may not train; neither the folder nor its parents are there then."""
    recipe, out = read_recipe(write_recipe(tmp_path, **keys), changes), tmp_path / "new/deep/out"
    trained = []
    with pytest.raises(error) as caught:
        run_recipe(recipe, out, data_dir=data_dir, callback=trained.append)
    assert not trained and not (tmp_path / "new").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"network": "networks.py:no_module"}, ["network: networks.py:no_module returned str"]),
        ({"data": "points.py:no_mapping"}, ["data: points.py:no_mapping returned list", "'train'"]),
        ({"data": "points.py:no_pair"}, ["for 'train' a Tensor", "pair (inputs, targets)"]),
        ({"data": "points.py:no_tensors"}, ["'train' a list and a list", "must be tensors"]),
        ({"data": "points.py:unequal"}, ["'train' 60 inputs and 5 targets", "as many"]),
        ({"data": "points.py:wide"}, ["the network fails on train inputs (60, 7)"]),
        ({"data": "points.py:four_classes"}, ["data: test: categorical: labels run from 3 to 3"]),
        ({"guide": "points.py:no_mapping"}, ["guide: points.py:no_mapping makes no guide of a"]),
        ({"augmentation": "points.py:shift"}, ["points.py has no function or class 'shift'"]),
        (
            {"augmentation": "points.py:halved"},
            ["augmentation: points.py:halved made (1, 4) torch.float32 of inputs (2, 4)"],
        ),
        (
            {"augmentation": "points.py:of_images"},
            ["augmentation: points.py:of_images fails on inputs (2, 4): Dimension out of range"],
        ),
        (
            {"augmentation": {"source": "points.py:scaled", "factor": 2}},
            ["points.py:scaled fails", "unexpected keyword argument 'factor'"],
        ),
        ({"augmentation": "points.py:no_mapping"}, ["points.py:no_mapping fails on inputs"]),
        ({"likelihood": "gaussian"}, ["data: train: gaussian: targets must be floats"]),
        ({"device": "nowhere"}, ["device: cannot compute on 'nowhere'", "use 'cpu'"]),
        (
            {"prior": [{"family": "spike_and_slabs", "match": "fc*"}]},
            ["prior[0]: match 'fc*' matches no tensor; the network has 0.weight, 0.bias"],
        ),
        (
            {"prior": [{"family": "spike_and_slabs", "match": m} for m in ("0.*", "*")]},
            ["prior[1]: group 'all' is taken"],
        ),
        (
            {"prior": [{"family": "spike_and_slabs", "slab_shares": {"concentration": 0.5}}]},
            ["no point estimate exists", "use a concentration >= 1"],
        ),
    ],
)
def test_what_cannot_be_run_is_refused_before_training(tmp_path, keys, words):
    message = refusal(tmp_path, **keys)
    assert all(word in message for word in words), message


def test_an_augmentation_is_of_training_alone_and_is_in_the_folders_recipe(tmp_path):
    def rows(**keys):
        seen = []
        recipe = read_recipe(write_recipe(tmp_path, **keys))
        result = run_recipe(
            recipe,
            tmp_path / "out",
            overwrite=True,
            callback=lambda told: seen.append((told.stage, {**told.row, "seconds": 0})),
        )
        return seen, result, read_recipe(tmp_path / "out" / "recipe.toml")

    plain, scored, _ = rows()
    same, *_ = rows(augmentation={"source": "points.py:scaled"})
    scaled, _, written = rows(augmentation={"source": "points.py:scaled", "by": 3})
    assert same == plain
    for stage in ("pretrain", "fit"):
        one, other = ([row for kind, row in rows if kind == stage] for rows in (plain, scaled))
        assert one != other
    assert torch.equal(written.data.augmentation.bound()(torch.ones(2)), torch.full((2,), 3.0))
    assert scored.report.score["examples"] == 20


def test_the_data_folder_is_passed_on_and_refused_by_a_function_without_one(tmp_path):
    assert refusal(tmp_path, FileNotFoundError, data_dir="/elsewhere") == "no points in /elsewhere"
    message = refusal(tmp_path, data_dir="/elsewhere", data="points.py:wide")
    assert_says(message, "points.py:wide: ", "'data_dir'", "it takes nothing")


def test_a_start_of_another_network_is_refused(tmp_path):
    save_file({"0.weight": torch.zeros(8, 4)}, tmp_path / "other.safetensors")
    message = refusal(tmp_path, start="other.safetensors")
    assert message.startswith(f"start: {tmp_path / 'other.safetensors'}: the file is of another")
    assert "lacks 0.bias" in message


def test_a_start_of_other_shapes_is_refused(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path), ["network.hidden=5"])
    save_file(build_network(recipe.network, 0).state_dict(), tmp_path / "five.safetensors")
    message = refusal(tmp_path, start="five.safetensors")
    assert "'0.bias' has shape (5,) in the file and (8,) in the network" in message


def test_a_start_that_is_not_there_or_no_safetensors_is_refused(tmp_path):
    assert "none.safetensors" in refusal(tmp_path, FileNotFoundError, start="none.safetensors")
    assert refusal(tmp_path, start="small.toml").startswith(f"start: {tmp_path / 'small.toml'}: ")


def test_a_start_that_is_not_finite_is_refused(tmp_path):
    state = build_network(read_recipe(write_recipe(tmp_path)).network, 0).state_dict()
    state["2.weight"][0, 0] = torch.nan
    save_file(state, tmp_path / "bad.safetensors")
    assert "parameter '2.weight' has 1 weights" in refusal(tmp_path, start="bad.safetensors")


def test_an_earlier_run_that_is_not_finished_or_of_another_network_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    message = refusal(tmp_path, from_run="empty")
    assert_says(message, f"from_run: {tmp_path / 'empty'}", "no finished run", "report.json")
    message = refusal(tmp_path, changes=["network.hidden=5"], from_run=str(run[-1]))
    assert message.startswith(f"from_run: {run[-1] / 'trained.safetensors'}: '0.bias' has shape (8")


def test_a_run_is_not_written_over_the_one_that_it_starts_from(run, tmp_path):
    shutil.copytree(run[-1], tmp_path / "out")
    before = contents(tmp_path / "out")
    recipe = read_recipe(write_recipe(tmp_path, from_run="out"))
    with pytest.raises(ValueError, match="from_run: .*out would be written over; choose another"):
        run_recipe(recipe, tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before


def test_a_recipe_with_a_start_and_a_run_is_refused(tmp_path):
    path = write_recipe(tmp_path, start="a.safetensors", from_run="b")
    with pytest.raises(ValueError, match="start = 'a.safetensors' and from_run = 'b': give one of"):
        read_recipe(path)


def test_a_prior_that_is_none_is_refused_before_anything_is_written(tmp_path):
    path = write_recipe(tmp_path, prior=[{"family": "own.py:Odd"}])
    (tmp_path / "own.py").write_text(
        "import dataclasses, pathlib\n"
        "@dataclasses.dataclass(frozen=True)\n"
        "class Odd:\n"
        "    place: pathlib.Path = pathlib.Path('a')\n"
    )
    with pytest.raises(ValueError, match="prior: must be a spec such as .*, got Odd"):
        run_recipe(read_recipe(path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_anything_is_left_alone(run, tmp_path):
    folder = run[-1]
    before = contents(folder)
    with pytest.raises(ValueError, match="is not empty; choose another --out, or --overwrite"):
        run_recipe(run[0], folder)
    assert contents(folder) == before


@pytest.mark.parametrize("out", ["small.toml", "small.toml/below", "small.toml/far/below"])
def test_a_folder_that_cannot_be_is_refused(tmp_path, out):
    recipe = read_recipe(write_recipe(tmp_path))
    before = contents(tmp_path)
    with pytest.raises(OSError, match=rf"cannot write to .*{out}: .*; choose another --out"):
        run_recipe(recipe, tmp_path / out)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("stage", ["pretrain", "fit"])
def test_an_interrupted_run_leaves_nothing_but_its_checkpoint(tmp_path, stage):
    recipe = read_recipe(write_recipe(tmp_path))
    before = contents(tmp_path)

    def interrupt(told):
        if told.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "new/out", callback=interrupt)
    left = [path for path in contents(tmp_path) if path not in before]
    assert {path.parent for path in left} <= {tmp_path / "new/out/.checkpoint"}
    assert (tmp_path / "new").exists() == bool(left) == (stage == "fit")  # the trained network


@pytest.mark.parametrize("older", [False, True])
def test_a_run_that_fails_while_writing_leaves_the_old_one_and_a_checkpoint(
    run, tmp_path, monkeypatch, older
):
    def fail(*args):
        raise OSError("no space left")

    if older:
        shutil.copytree(run[-1], tmp_path / "out")
    before = contents(tmp_path)
    monkeypatch.setattr("pyro_sws.runs.folder.write_page", fail)
    with pytest.raises(OSError, match="no space left"):
        run_recipe(run[0], tmp_path / "out", overwrite=True)
    assert [path.name for path in (tmp_path / "out" / ".checkpoint").iterdir()]
    shutil.rmtree(tmp_path / "out" / ".checkpoint")
    assert contents(tmp_path) == before and any((tmp_path / "out").iterdir()) == older


def test_a_folder_without_a_report_is_no_run(tmp_path):
    with pytest.raises(ValueError, match="holds no finished run: it has no report.json"):
        Run.open(tmp_path)


def test_settings_that_cannot_be_are_refused_before_training(tmp_path):
    path = write_recipe(tmp_path, autocast="bfloat16", dtype="float64")
    stages = []
    with pytest.raises(ValueError, match="autocast is for a float32 network"):
        run_recipe(
            read_recipe(path), tmp_path / "run", callback=lambda told: stages.append(told.stage)
        )
    assert not stages and not (tmp_path / "run").exists()


def test_a_family_from_outside_with_a_scale_a_row_runs_from_its_path(tmp_path):
    outside = Path(__file__).parents[1] / "helpers" / "every_prior.py"
    path = write_recipe(tmp_path, prior=[{"family": f"{outside}:RowScaled", "slabs": 4}])
    result = run_recipe(read_recipe(path), tmp_path / "out")
    assert result.quantized.scales["0.weight"].shape == (8, 1)
    again = Run.open(tmp_path / "out")
    assert again.plan.prior[0].prior.arguments["slabs"] == 4
    assert again.quantized == result.quantized
