"""One process at a time has a lock; one whose process has ended is anyone's."""

import dataclasses
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading

import pytest
from kills import killed_after

from pyro_sws.runs import lock as locks
from pyro_sws.runs.lock import Holder, locked, process_start

HOLDING = """
import sys
from pathlib import Path
from pyro_sws.runs.lock import locked
with locked(Path(sys.argv[1]), Path("place")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def lock(tmp_path):
    return tmp_path / ".lock"


@pytest.fixture
def holding(lock):
    """Another process that has the lock until its input ends."""
    words = [sys.executable, "-c", HOLDING, str(lock)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def written(lock, **changes):
    """A lock as a process would have left it: this one, but for the changes."""
    holder = dataclasses.asdict(Holder.this()) | changes
    lock.mkdir()
    (lock / f"{'0' * 32}.json").write_text(json.dumps(holder))


def assert_free(lock):
    with locked(lock, lock.parent):
        assert len(list(lock.iterdir())) == 1
    assert list(lock.parent.iterdir()) == []


def test_who_is_refused_is_told_who_has_the_lock_and_what_to_do(lock, holding, tmp_path):
    told = rf"{tmp_path} is being written by process {holding.pid} on \S+ since \d{{4}}-.*\(-c "
    with pytest.raises(BlockingIOError, match=told + ".*wait until it ends, or choose another"):
        with locked(lock, tmp_path):
            pass
    holding.communicate("")
    assert_free(lock)


def test_a_killed_process_s_lock_is_taken_over(lock, holding):
    holding.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holding.pid, os.WEXITED | os.WNOWAIT)  # not waited for: a zombie
    assert list(lock.iterdir())
    assert_free(lock)


def test_a_process_that_has_the_number_of_another_is_not_taken_for_it(lock):
    written(lock, start="0 1")
    assert_free(lock)


def test_a_process_of_which_no_start_is_known_is_taken_for_the_one(lock, monkeypatch):
    written(lock, start=locks.UNKNOWN)
    with pytest.raises(BlockingIOError, match="by this process on"), locked(lock, lock.parent):
        pass


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}])
def test_of_another_machine_or_container_nothing_is_known(lock, changes):
    written(lock, start="0 1", **changes)
    by_hand = f"another machine or container.*has ended, delete {re.escape(str(lock))} and try"
    with pytest.raises(BlockingIOError, match=by_hand), locked(lock, lock.parent):
        pass
    assert list(lock.iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"pid": 1, "other": 2}'])
def test_a_lock_that_names_nobody_is_left_for_the_user(lock, text):
    lock.mkdir()
    (lock / "a.json").write_text(text)
    with pytest.raises(BlockingIOError, match="does not name; if that process has ended, delete"):
        with locked(lock, lock.parent):
            pass
    assert (lock / "a.json").read_text() == text


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_frees_the_lock(lock, error):
    with pytest.raises(error), locked(lock, lock.parent):
        raise error
    assert_free(lock)


def test_of_many_that_find_a_dead_lock_one_has_it(lock):
    written(lock, start="0 1")
    inside, most, refused, ready = [], [], [], threading.Barrier(8)

    def take():
        ready.wait()
        try:
            with locked(lock, lock.parent):
                inside.append(1)
                most.append(len(inside))
                both.wait()
                inside.pop()
        except BlockingIOError:
            refused.append(1)
            if len(refused) == 7:
                both.set()

    both = threading.Event()
    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] and len(refused) == 7
    assert_free(lock)


def test_wherever_a_process_is_killed_its_lock_can_be_taken(tmp_path, monkeypatch):
    steps, ended = 0, [True]
    while ended:
        lock = tmp_path / str(steps) / ".lock"
        lock.parent.mkdir()
        with killed_after(steps) as ended, locked(lock, lock.parent):
            pass
        with monkeypatch.context() as patch:  # its number is this one's, which has not ended
            patch.setattr(locks, "process_start", lambda pid: None)
            assert_free(lock)
        steps += 1
    assert steps > 5


def test_a_fork_that_ends_leaves_its_parent_s_lock(lock, monkeypatch):
    context = locked(lock, lock.parent)
    context.__enter__()
    with monkeypatch.context() as fork:
        fork.setattr(os, "getpid", lambda: -1)
        context.__exit__(None, None, None)
    assert list(lock.iterdir())


def test_the_start_of_a_process_tells_it_from_another():
    assert process_start(os.getpid()) == process_start(os.getpid())
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=int)
    other.start()
    assert process_start(other.pid) not in (None, process_start(os.getpid()))
    other.join()
    assert process_start(other.pid) is None
