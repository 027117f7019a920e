"""How many processes work, and in which order tasks are taken."""

import pytest

from pyro_sws.compression.checkpoints import workers
from pyro_sws.compression.checkpoints.workers import WORTH_A_PROCESS, cores, each_done, processes


@pytest.fixture
def four_cores(monkeypatch):
    monkeypatch.setattr(workers, "cores", lambda: 4)


@pytest.mark.parametrize("weights, count", [(0, 1), (1, 1), (2, 2), (3, 3), (100, 4)])
def test_one_process_a_core_where_there_is_enough_to_do(four_cores, weights, count):
    assert processes(None, weights * WORTH_A_PROCESS) == count
    assert processes(7, weights) == 7


def test_ranks_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert cores() == 8
    for ranks, own in ((2, 4), (8, 1), (16, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
        assert cores() == own


def test_tasks_are_taken_one_at_a_time():
    """Each may have the bytes of a tensor with it."""
    taken = []

    def tasks():
        for i in range(5):
            taken.append(i)
            yield i

    for done in each_done(lambda task: task, tasks(), workers=1):
        assert taken == list(range(done + 1))


@pytest.mark.integration
def test_tasks_for_workers_are_taken_as_they_are_needed():
    taken = []

    def tasks():
        for i in range(12):
            taken.append(i)
            yield i

    found = each_done(abs, tasks(), workers=2)
    assert next(found) in (0, 1, 2) and len(taken) <= 6
    assert sorted([*found, 0])[-1] == 11 and len(taken) == 12
