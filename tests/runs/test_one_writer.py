"""One process writes a run folder; wherever it is killed, the old run or the new one is whole."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kills import killed_after
from small_recipe import write_recipe
from typer.testing import CliRunner

import pyro_sws as sws
from pyro_sws.cli import app
from pyro_sws.compression.walk.frontier import Frontier, Point
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs import folder as folders
from pyro_sws.runs import lock as locks
from pyro_sws.runs.comparison import run_all
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.folder import write_folder, writing
from pyro_sws.runs.lock import Holder
from pyro_sws.runs.run import Run

pytestmark = pytest.mark.integration


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def hidden(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


@pytest.fixture
def nobody_lives(monkeypatch):
    """Killed processes have this one's number, which has not ended."""
    monkeypatch.setattr(locks, "process_start", lambda pid: None)


@pytest.fixture
def pair(finished_runs, monkeypatch):
    """Two runs with what not every run has: one with a walk's files, one with refinement."""
    row = Point(0, 3, 0.5, True, 0.1, 1.0, 50.0, 1.0, 1.0, b"abc")
    points = (row, replace(row, step=1, data=b"defg"))
    walked = replace(finished_runs.run("plain"), frontier=Frontier(points, 0.5, 0.1, "nats", "x"))
    refined = replace(finished_runs.run("mixture"), refined=finished_runs.run("refined").refined)
    assert walked.data != refined.data
    monkeypatch.setattr(folders, "_figures", lambda run: {})  # not sooner: others share those runs
    return walked, refined


def made(run, folder):
    """The run in a folder, where somebody has put a picture of theirs among its own."""
    run.save(folder)
    (folder / "figures" / "mine.png").write_bytes(b"mine")
    return folder


# Two at once


def holding(folder, **changes):
    """The folder as another process has it that writes to it."""
    (folder / ".lock").mkdir(parents=True)
    holder = vars(Holder.this()) | changes
    (folder / ".lock" / "a.json").write_text(json.dumps(holder))


def test_a_second_run_into_a_folder_is_refused_and_leaves_the_first_alone(tmp_path):
    recipe, refused = read_recipe(write_recipe(tmp_path)), []

    def again(told):
        if told.stage == "fit":
            with pytest.raises(BlockingIOError, match="out is being written by this process"):
                run_recipe(recipe, tmp_path / "out", overwrite=True)
            refused.append(told)

    run = run_recipe(recipe, tmp_path / "out", callback=again)
    assert refused and Run.open(tmp_path / "out").data == run.data
    assert not hidden(tmp_path / "out")


def test_the_command_says_who_has_the_folder(tmp_path, finished_runs):
    parent = os.getppid()  # it lives, and is another
    holding(tmp_path / "out", pid=parent, start=locks.process_start(parent), command="sws run x")
    recipe = finished_runs.folder("plain") / "small.toml"
    done = CliRunner().invoke(app, ["run", str(recipe), "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, BlockingIOError)
    assert f"is being written by process {parent} on " in str(done.exception)
    assert "(sws run x); wait until it ends, or choose another --out" in str(done.exception)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]


def test_saving_diagnosing_and_comparing_are_refused_alike(finished_runs, tmp_path):
    folder = finished_runs.copy("plain", tmp_path)
    holding(folder)
    holding(tmp_path / "small")
    for use in (
        lambda: finished_runs.run("plain").save(folder),
        lambda: sws.diagnose(folder),
        lambda: run_all([folder, tmp_path / "small.toml"], tmp_path),
    ):
        with pytest.raises(BlockingIOError, match="is being written by this process"):
            use()
    assert Run.open(folder).data == finished_runs.run("plain").data  # whoever reads may


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_takes_no_lock_is_refused_before_training(tmp_path, monkeypatch, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    recipe, told = read_recipe(write_recipe(tmp_path)), []
    monkeypatch.setattr(os, "rename", fail)
    message = rf"cannot write to .*out: {os.strerror(number)}; choose another --out"
    with pytest.raises(OSError, match=message):
        run_recipe(recipe, tmp_path / "out", callback=told.append)
    assert not told and not (tmp_path / "out").exists()


def test_nothing_of_a_killed_process_gets_into_another_s_run(pair, tmp_path):
    folder = made(pair[0], tmp_path / "out")
    names = [f".staged.{'a' * 32}", f".{os.getpid()}"]  # the latter by a version before the lock
    for name in names:
        (folder / name / "figures").mkdir(parents=True)
        (folder / name / "figures" / "theirs.png").touch()
    (folder / "figures" / f".captions.json.{'b' * 32}").touch()
    pair[1].save(folder)
    assert not (folder / "figures" / "theirs.png").exists()
    assert hidden(folder) == [folder / names[1]]  # no lock says that its process has ended


def test_no_two_are_hidden_under_one_name(pair, tmp_path, monkeypatch):
    folder, names = made(pair[0], tmp_path / "out"), []

    def fail(run, toml, new):
        names.append(new.name)
        raise OSError

    monkeypatch.setattr(folders, "_write_files", fail)
    for _ in range(2):
        with pytest.raises(OSError):
            pair[1].save(folder)
    assert len({*names}) == 2 and not hidden(folder)


# Killed


@pytest.mark.parametrize("order", [1, -1])
def test_wherever_a_run_is_killed_the_old_one_or_the_new_one_is_whole(
    pair, tmp_path, nobody_lives, order
):
    older, newer = pair[::order]
    before = contents(made(older, tmp_path / "older"))
    newer.save(shutil.copytree(tmp_path / "older", tmp_path / "newer"))
    after = contents(tmp_path / "newer")
    found, steps, ended = [], 0, [True]
    while ended:
        folder = shutil.copytree(tmp_path / "older", tmp_path / "out")
        with killed_after(steps) as ended:
            newer.save(folder)
        found.append(Run.open(folder).data)
        with writing(folder, overwrite=True):  # as the next command does
            assert Run.open(folder).data == found[-1]
        assert contents(folder) == (after if found[-1] == newer.data else before), steps
        assert not hidden(folder)
        shutil.rmtree(folder)
        steps += 1
    kept = found.count(older.data)
    assert found == [older.data] * kept + [newer.data] * (steps - kept)
    assert kept > 20 and steps - kept > 20


def test_wherever_a_first_run_is_killed_the_next_one_finds_an_empty_folder_or_it(
    pair, tmp_path, nobody_lives
):
    run, steps, ended = pair[0], 0, [True]
    run.save(tmp_path / "whole")
    while ended:
        with killed_after(steps) as ended:
            run.save(tmp_path / "out")
        try:
            assert Run.open(tmp_path / "out").data == run.data
        except ValueError as error:
            assert "holds no finished run" in str(error)
        run.save(tmp_path / "out")
        assert contents(tmp_path / "out") == contents(tmp_path / "whole"), steps
        shutil.rmtree(tmp_path / "out")
        steps += 7 if steps < 30 else 1  # whatever is written is written before
    assert steps > 60


def test_who_puts_things_right_may_be_killed_too(pair, tmp_path, nobody_lives):
    older, newer = pair
    newer.save(shutil.copytree(made(older, tmp_path / "older"), tmp_path / "newer"))
    steps, ended = 0, [True]
    while ended:
        folder = shutil.copytree(tmp_path / "older", tmp_path / "out")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("pyro_sws.runs.swap._place", interrupt)
            newer.save(folder)
        assert not (folder / "report.json").exists()  # right in the middle
        for more in (0, 5):
            with killed_after(steps + more) as ended, writing(folder, overwrite=True):
                pass
            assert Run.open(folder).data == newer.data
        with writing(folder, overwrite=True):
            pass
        assert contents(folder) == contents(tmp_path / "newer") and not hidden(folder)
        shutil.rmtree(folder)
        steps += 3
    assert steps > 20


def interrupt(*arguments):
    raise KeyboardInterrupt


def left_in_between(finished_runs, kind, to):
    """A recipe's run, killed as it took the place of an older one."""
    folder = finished_runs.copy(kind, to)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("pyro_sws.runs.swap._place", interrupt)
        with writing(folder, overwrite=True):
            write_folder(finished_runs.run(kind), folder)
    return folder


def test_a_run_between_two_is_read_as_any_other(finished_runs, tmp_path):
    folder = left_in_between(finished_runs, "fingerprint", tmp_path)
    run = Run.open(folder)
    assert run.plan.network.source.folder == folder  # what names in its recipe are relative to
    recipe = write_recipe(tmp_path, from_run="out", fingerprint=True)
    assert run_recipe(read_recipe(recipe), tmp_path / "next").report.score
    for command in (["inspect", folder], ["export", folder, tmp_path / "net.safetensors"]):
        assert CliRunner().invoke(app, list(map(str, command))).exit_code == 0
    assert not (folder / "report.json").exists()  # nobody who reads writes
    sws.diagnose(folder)
    assert (folder / "report.json").exists() and not hidden(folder)


@pytest.mark.parametrize("name", ["../kept", "{place}/kept"])
def test_nothing_outside_the_folder_is_removed(finished_runs, tmp_path, name):
    folder = left_in_between(finished_runs, "plain", tmp_path)
    (tmp_path / "kept").touch()
    (folder / ".next" / ".older.json").write_text(json.dumps([name.format(place=tmp_path)]))
    with pytest.raises(ValueError, match="is not in the folder"), writing(folder, overwrite=True):
        pass
    assert (tmp_path / "kept").exists()


def test_a_full_disk_while_files_are_placed_loses_no_run(pair, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = made(pair[0], tmp_path / "out")
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr("pyro_sws.runs.swap._place", full)
        pair[1].save(folder)
    assert Run.open(folder).data == pair[1].data
    pair[0].save(folder)
    assert Run.open(folder).data == pair[0].data and not hidden(folder)


def test_files_are_placed_where_there_are_no_links(pair, tmp_path, monkeypatch):
    def none(*arguments):
        raise OSError(errno.EPERM, "Operation not permitted")

    pair[0].save(tmp_path / "linked")
    monkeypatch.setattr(os, "link", none)
    pair[0].save(tmp_path / "copied")
    assert contents(tmp_path / "copied") == contents(tmp_path / "linked")


SAVING = """
import sys
from pyro_sws.runs import folder
from pyro_sws.runs.run import Run
folder._figures = lambda run: {}
runs = [Run.open(path) for path in sys.argv[2:]]
print("ready", flush=True)
while True:
    for run in runs:
        run.save(sys.argv[1])
"""


@pytest.mark.slow
def test_a_process_that_is_killed_at_any_time_leaves_a_run(pair, tmp_path):
    for run, name in zip(pair, "ab", strict=True):
        run.save(tmp_path / name)
    folder, chance = made(pair[0], tmp_path / "out"), random.Random(0)
    words = [sys.executable, "-c", SAVING, *(str(tmp_path / name) for name in ("out", "a", "b"))]
    root = str(Path(sws.__file__).parents[1])
    for _ in range(15):
        environment = {**os.environ, "PYTHONPATH": root}
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(chance.uniform(0, 0.3))
            assert process.poll() is None, "it would save for ever"
            process.send_signal(signal.SIGKILL)
        assert Run.open(folder).data in {run.data for run in pair}
    pair[1].save(folder)
    assert Run.open(folder).data == pair[1].data and not hidden(folder)
    assert (folder / "figures" / "mine.png").read_bytes() == b"mine"
