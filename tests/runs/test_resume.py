"""A run that was ended goes on from its checkpoint, and ends as an undisturbed one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_recipe import write_recipe
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.checkpoint import Stage, StageState
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.checkpoint import FOLDER, Interrupted, check_room, described, read_state
from pyro_sws.runs.execute import run_recipe

pytestmark = pytest.mark.integration
SAME = ("model.sws", "posterior.safetensors", "packed.safetensors", "trained.safetensors")
FIT = {"epochs": 3, "refinement": {"epochs": 3}}
WALK = {"budget": {"passes": 12}, "epochs": None}
SCALED = {"family": "scaled", "deviation": 1.0}
SCALED |= {"shape": {"slabs": 4, "initialization": "multiples"}}
TWO = [{"group": "weights", "match": "*.weight", **SCALED}, {"group": "vectors", **SCALED}]
RECIPES = {
    "fit": FIT,
    "refined": FIT | {"prior": [{"family": "spike_and_slabs", "slabs": 2}], "tau": 0.1},
    "normal": {"epochs": 3, "guide": "normal", "tau": 1.0},
    "walk": WALK,
    "walk of two groups, with scales": WALK | {"prior": TWO},
}


class Ended(Exception):
    """What ends a run here."""


class Counted:
    """A stage's steps, over all stages; at a given one the run is ended."""

    def __init__(self, monkeypatch, at=None):
        self.steps, self.at = 0, at
        from pyro_sws.runs import checkpoint

        taken = checkpoint.FolderCheckpoint._take

        def counted(keeper, path, state, ended):
            taken(keeper, path, state, ended)
            self.steps += 1
            if self.steps == self.at:
                raise Ended

        monkeypatch.setattr(checkpoint.FolderCheckpoint, "_take", counted)


def run_in(folder, recipe, **more):
    return run_recipe(read_recipe(recipe), folder, **more)


@pytest.fixture(params=RECIPES)
def whole(request, tmp_path, monkeypatch):
    """A recipe, the folder of its undisturbed run, and how many steps its stages had."""
    recipe = write_recipe(tmp_path / "recipe", **RECIPES[request.param])
    with monkeypatch.context() as patched:
        counted = Counted(patched)
        run_in(tmp_path / "whole", recipe)
    return recipe, tmp_path / "whole", counted.steps


def same(one, other):
    for name in SAME:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    rows = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in text]
        for text in ((folder / "history.jsonl").read_text().splitlines() for folder in (one, other))
    ]
    assert rows[0] == rows[1]
    assert (one / "refinement.jsonl").exists() == (other / "refinement.jsonl").exists()


def test_a_run_that_was_ended_ends_as_an_undisturbed_one(whole, tmp_path, monkeypatch):
    recipe, undisturbed, steps = whole
    for at in sorted({2, steps // 3, steps // 2, 3 * steps // 4, steps - 1}):
        folder = tmp_path / f"at {at}"
        with monkeypatch.context() as patched, pytest.raises(Ended):
            Counted(patched, at)
            run_in(folder, recipe, checkpoint_seconds=0.0)
        assert [path.name for path in folder.iterdir()] == [FOLDER]
        run_in(folder, recipe, resume=True)
        same(folder, undisturbed)
        assert not (folder / FOLDER).exists()


def test_states_that_are_old_do_as_well(whole, tmp_path, monkeypatch):
    """As after a kill between two of them: all since the last one is done again."""
    recipe, undisturbed, steps = whole
    folder, clock = tmp_path / "run", iter(range(10**9))
    with monkeypatch.context() as patched, pytest.raises(Ended):
        patched.setattr(time, "monotonic", lambda: next(clock))  # a second each time it is asked
        Counted(patched, 3 * steps // 4)
        run_in(folder, recipe, checkpoint_seconds=7.0)
    run_in(folder, recipe, resume=True)
    same(folder, undisturbed)


def test_a_run_may_be_ended_again_and_again(whole, tmp_path, monkeypatch):
    recipe, undisturbed, steps = whole
    folder, ends = tmp_path / "run", 0
    while not (folder / "report.json").exists():
        ends += 1
        with monkeypatch.context() as patched:
            Counted(patched, max(2, steps // 5))
            try:
                run_in(folder, recipe, checkpoint_seconds=0.0, resume=True)
            except Ended:
                continue
    assert ends > 3
    same(folder, undisturbed)


def ended_at(steps, folder, recipe, monkeypatch, **more):
    with monkeypatch.context() as patched, pytest.raises(Ended):
        Counted(patched, steps)
        run_in(folder, recipe, checkpoint_seconds=0.0, **more)


def test_the_trained_network_is_kept(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    whole = run_in(tmp_path / "whole", recipe)
    ended_at(10, tmp_path / "run", recipe, monkeypatch)
    kept = read_state(tmp_path / "run" / FOLDER / "pretraining.safetensors").part("network")
    assert {name: kept[name].tolist() for name in kept} == {
        name: tensor.tolist() for name, tensor in whole.given.items()
    }


def test_a_checkpoint_is_not_written_over_unasked(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    ended_at(10, tmp_path / "run", recipe, monkeypatch)
    with pytest.raises(ValueError, match="--resume it, or --overwrite"):
        run_in(tmp_path / "run", recipe)
    run_in(tmp_path / "run", recipe, overwrite=True)
    assert not (tmp_path / "run" / FOLDER).exists()


def test_without_a_checkpoint_a_run_begins_and_one_that_has_ended_comes_back(tmp_path):
    recipe, told = write_recipe(tmp_path / "recipe", **FIT), []
    run = run_in(tmp_path / "run", recipe, resume=True)
    assert run_in(tmp_path / "run", recipe, resume=True, callback=told.append).data == run.data
    assert not told
    recipe = write_recipe(tmp_path / "recipe", **{**FIT, "tau": 0.3})
    with pytest.raises(ValueError, match="has no checkpoint to resume from"):
        run_in(tmp_path / "run", recipe, resume=True)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"data": {"source": "points.py:points", "count": 61}}, "data and settings"),
        ({"seed": 1}, "network and pretraining and settings"),
        ({"pretraining": {"epochs": 3, "batch_size": 20}}, "pretraining and settings"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, monkeypatch, change, what):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    ended_at(10, tmp_path / "run", recipe, monkeypatch)
    other = write_recipe(tmp_path / "recipe", **{**FIT, **change})
    with pytest.raises(ValueError, match=f"checkpoint of other {what};"):
        run_in(tmp_path / "run", other, resume=True)
    assert (tmp_path / "run" / FOLDER / "pretraining.safetensors").exists()


def test_of_other_settings_the_trained_network_is_taken(tmp_path, monkeypatch, caplog):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    ended_at(14, tmp_path / "run", recipe, monkeypatch)
    other, told = write_recipe(tmp_path / "recipe", **{**FIT, "tau": 0.2}), []
    run_in(tmp_path / "run", other, resume=True, callback=told.append)
    assert "of it the trained network is taken" in caplog.text
    assert (told[0].stage, told[0].done) == ("fit", 1)
    run_in(tmp_path / "whole", other)
    same(tmp_path / "run", tmp_path / "whole")


def test_an_old_run_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    run_in(tmp_path / "run", recipe)
    old = (tmp_path / "run" / "model.sws").read_bytes()
    other = write_recipe(tmp_path / "recipe", **{**FIT, "seed": 3})
    ended_at(10, tmp_path / "run", other, monkeypatch, overwrite=True)
    assert (tmp_path / "run" / "model.sws").read_bytes() == old
    assert len(sws.Run.open(tmp_path / "run").data) == len(old)
    run_in(tmp_path / "run", other, resume=True)
    run_in(tmp_path / "whole", other)
    same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize("damage", ["truncated", "other", "no json", "shape", "name"])
def test_a_damaged_checkpoint_is_refused_by_name(tmp_path, monkeypatch, damage):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    ended_at(13, tmp_path / "run", recipe, monkeypatch)
    path = max((tmp_path / "run" / FOLDER).glob("*.safetensors"), key=lambda p: p.stat().st_mtime)
    tensors, rest = load_file(path), json.dumps(read_state(path).rest)
    site = next(name for name in tensors if name.startswith("site."))
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    elif damage == "other":
        path.write_bytes(b"\x80\x04K\x01.")
    elif damage == "no json":
        save_file(tensors, path, {"rest": "{"})
    elif damage == "shape":
        save_file({**tensors, site: torch.zeros(2, 3)}, path, {"rest": rest})
    else:
        save_file({**tensors, "site.x": torch.zeros(2)}, path, {"rest": rest})
    with pytest.raises(ValueError, match="checkpoint"):
        run_in(tmp_path / "run", recipe, resume=True)


def test_a_full_disk_costs_no_more_than_a_checkpoint(tmp_path, monkeypatch, caplog):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    full = OSError(28, "No space left on device")

    def fails(*arguments, **more):
        raise full

    with monkeypatch.context() as patched:
        patched.setattr("pyro_sws.runs.checkpoint._write_state", fails)
        run_in(tmp_path / "run", recipe, checkpoint_seconds=0.0)
    assert len([r for r in caplog.records if "could not be written" in r.message]) == 1
    with monkeypatch.context() as patched, pytest.raises(OSError, match="go on by --resume"):
        patched.setattr("pyro_sws.runs.execute.write_folder", fails)
        run_in(tmp_path / "full", recipe)
    run_in(tmp_path / "full", recipe, resume=True)
    same(tmp_path / "full", tmp_path / "run")


def test_a_state_is_not_begun_where_there_is_no_room_for_it(tmp_path, monkeypatch, caplog):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    ended_at(3, tmp_path / "run", recipe, monkeypatch)
    (kept,) = (tmp_path / "run" / FOLDER).glob("*.safetensors")
    before = kept.read_bytes()
    with monkeypatch.context() as patched, pytest.raises(Ended):
        Counted(patched, 3)
        usage = shutil._ntuple_diskusage(9, 8, 1_000)
        patched.setattr(shutil, "disk_usage", lambda path: usage)
        patched.setattr("pyro_sws.runs.execute.check_room", lambda *given: None)
        run_in(tmp_path / "run", recipe, checkpoint_seconds=0.0, resume=True)
    assert "MB to write, and 0 MB free" in caplog.text
    assert kept.read_bytes() == before


def test_too_little_room_is_said_before_the_first_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 1_000))
    with pytest.raises(OSError, match="0 MB free, and checkpoints .* take up to 5 MB"):
        check_room(tmp_path / "not there", 1_000_000)


@pytest.fixture
def points():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    inputs = torch.randn(60, 4)
    return net, sws.Batches(inputs, inputs[:, :3].argmax(1), 20)


def test_compress_goes_on_from_its_folder(points, tmp_path, monkeypatch):
    net, batches = points
    call = {"tau": 0.1, "epochs": 4, "refinement": sws.Refinement(epochs=2)}
    whole = sws.compress(net, batches, **call)
    with monkeypatch.context() as patched, pytest.raises(Ended):
        Counted(patched, 9)
        patched.setattr("pyro_sws.runs.checkpoint.EVERY_SECONDS", 0.0)
        sws.compress(net, batches, **call, checkpoint=tmp_path / "kept")
    with pytest.raises(ValueError, match="checkpoint of other settings;"):
        sws.compress(net, batches, **{**call, "tau": 0.2}, checkpoint=tmp_path / "kept")
    told = []
    run = sws.compress(net, batches, **call, checkpoint=tmp_path / "kept", callback=told.append)
    assert run.data == whole.data
    assert told[0].done == 3  # of the nine each fourth was the end of a pass
    assert not (tmp_path / "kept").exists()


def test_a_folder_of_anything_else_is_refused(points, tmp_path):
    net, batches = points
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(ValueError, match="is no checkpoint"):
        sws.compress(net, batches, tau=0.1, epochs=1, checkpoint=tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "Dear"


def test_settings_in_words_are_the_same_everywhere():
    plan = [sws.SpikeAndSlabs(), {"a": torch.ones(2), "b": os.path.join}, (nn.Linear(1, 1),)]
    assert described(plan) == described([replace(plan[0]), *plan[1:]])
    assert "0x" not in described([object(), lambda x: x])
    assert described(torch.ones(2)) != described(torch.ones(3)) != described(torch.zeros(3))


def test_a_stage_that_keeps_nothing_has_nothing():
    stage = Stage().along(lambda: StageState({}, {}))
    stage.reached(lambda: pytest.fail("nobody keeps it"), ended=True)
    assert stage.load() is None


PROGRAM = """
import os, signal, sys
from pyro_sws.runs import checkpoint
from pyro_sws.cli import main

take, steps = checkpoint.FolderCheckpoint._take, 0

def counted(*arguments):
    global steps
    steps += 1
    if steps == AT:
        os.kill(os.getpid(), signal.SIGNUM)
    take(*arguments)

checkpoint.FolderCheckpoint._take = counted
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
@pytest.mark.parametrize("at", [3, 11, 16])
def test_a_command_that_is_ended_goes_on(tmp_path, name, code, at):
    recipe = write_recipe(tmp_path / "recipe", **FIT)
    command = ["run", str(recipe), "--out", str(tmp_path / "run"), "--checkpoint-seconds", "0"]
    program = PROGRAM.replace("AT", str(at)).replace("SIGNUM", name)
    ended = subprocess.run(
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=False
    )
    assert ended.returncode == code, ended.stderr
    if code > 0:
        assert f"ended by {name}; kept: pretraining" in ended.stderr
        assert "--resume" in ended.stderr
    run_in(tmp_path / "run", recipe, resume=True)
    run_in(tmp_path / "whole", recipe)
    same(tmp_path / "run", tmp_path / "whole")


def test_signals_are_heard_after_a_step_and_handlers_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    recipe, told = write_recipe(tmp_path / "recipe", **FIT), []

    def heard(progress):
        told.append(progress)
        if len(told) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as ended:
        run_in(tmp_path / "run", recipe, signals=True, callback=heard)
    assert ended.value.signum == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    run_in(tmp_path / "run", recipe, resume=True)
    run_in(tmp_path / "whole", recipe)
    same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_two_ranks_go_on_together(tmp_path):
    recipe = write_recipe(tmp_path / "recipe", **{**FIT, "epochs": 40})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command = [*torchrun, "-m", "pyro_sws", "run", str(recipe), "--checkpoint-seconds", "0"]
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    kept = tmp_path / "run" / FOLDER / "fit.safetensors"
    running = subprocess.Popen([*command, "--out", str(tmp_path / "run")], start_new_session=True)
    while not kept.exists() and running.poll() is None:
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert kept.exists()
    subprocess.run([*command, "--out", str(tmp_path / "run"), "--resume"], check=True)
    same(tmp_path / "run", tmp_path / "whole")
