"""Chains side by side, each in a fresh process: safe beside threads, and with torch's own."""

import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from typing import TypedDict, TypeVar

from pyro_sws.inference.progress import Callback, Progress

Task = TypeVar("Task")
Answer = TypeVar("Answer")

PATIENCE = 0.1  # seconds between looks at what the processes report


class _Connection(TypedDict, total=False):
    reports: "SimpleQueue[Progress]"
    stop: Event  # set where another chain has failed


_connection: _Connection = {}  # a worker's own


def in_processes(
    run: Callable[[Task, Callback], Answer],
    tasks: Sequence[Task],
    processes: int,
    callback: Callback,
) -> list[Answer]:
    """``run(task, callback)`` for every task, ``processes`` at a time; the answers in their order.

    ``callback`` is called in this process. Whatever is raised here or there ends all of them.

    Raises ValueError for tasks that cannot be sent to another process, and RuntimeError where a
    process dies.
    """
    packed = [_pack(run, task) for task in tasks]
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that threads hold
    reports, stop = context.SimpleQueue(), context.Event()
    with ProcessPoolExecutor(processes, context, _connect, (reports, stop)) as pool:
        try:
            futures = [pool.submit(_work, task) for task in packed]
            pending = set(futures)
            while pending:
                done, pending = wait(pending, PATIENCE, FIRST_EXCEPTION)
                while not reports.empty():
                    callback(reports.get())
                for future in done:
                    future.result()
        except BrokenProcessPool:
            raise RuntimeError(
                "a chain's process died; a script that starts chains in processes must be guarded "
                'by if __name__ == "__main__", or else run them with processes=1'
            ) from None
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
        return [pickle.loads(future.result()) for future in futures]


def _pack(run: Callable, task: object) -> bytes:
    # Plain pickle: multiprocessing's own would share torch's memory with a process that ends.
    try:
        return pickle.dumps((run, task))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"a chain cannot be sent to another process: {error}; define the prior's functions at "
            "the top of a module, or use processes=1"
        ) from None


def _connect(reports: "SimpleQueue[Progress]", stop: Event) -> None:
    _connection.update({"reports": reports, "stop": stop})


def _work(packed: bytes) -> bytes:
    run, task = pickle.loads(packed)

    def tell(progress: Progress) -> None:
        if _connection["stop"].is_set():
            raise InterruptedError("another chain has failed")
        _connection["reports"].put(progress)

    return pickle.dumps(run(task, tell))
