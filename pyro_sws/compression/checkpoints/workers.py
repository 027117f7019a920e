"""Tasks in fresh processes, a few at a time; or here, where one process is enough."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import TypeVar

import torch

Task = TypeVar("Task")
Answer = TypeVar("Answer")

WORTH_A_PROCESS = 1 << 22  # weights: starting one takes some seconds
AHEAD = 1  # tasks beside those that are worked on: each may have a tensor's bytes with it


def cores() -> int:
    """Those that this process may use, its share where several ranks are on a machine."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, own // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def processes(workers: int | None, weights: int) -> int:
    """How many are to work: by default one a core, and none beside this for few weights.

    Raises ValueError for a number below 1, TypeError for what is no whole number.
    """
    if workers is None:
        return max(1, min(cores(), weights // WORTH_A_PROCESS))
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"workers must be a whole number, or None for one a core, got {workers!r}")
    if workers < 1:
        raise ValueError(f"workers must be at least 1, or None for one a core, got {workers}")
    return workers


def each_done(
    run: Callable[[Task], Answer], tasks: Iterable[Task], workers: int
) -> Iterator[Answer]:
    """What ``run`` gives for each task, in the order in which they end.

    ``run`` is a function of a module, and tasks are taken from their iterator as they are needed.

    Raises whatever ``run`` does, and RuntimeError where a process dies.
    """
    if workers == 1:
        yield from map(run, tasks)
        return
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
        waiting = iter(tasks)
        pending: set[Future[Answer]] = set()
        try:
            while True:
                new = islice(waiting, workers + AHEAD - len(pending))
                pending |= {pool.submit(run, task) for task in new}
                if not pending:
                    return
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a worker's process died: of too little memory, or because a script that starts "
                'workers is not guarded by if __name__ == "__main__"; guard it, or give workers=1'
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
