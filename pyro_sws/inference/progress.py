"""Progress: how far a long piece of work has got, as one value, and what is told of it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pyro_sws.inference.plain_numbers import shown


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` steps of a stage, and what the last one gave."""

    stage: str  # "pretrain", "fit", "refine", "trial 3: fit", "all: chain 0", ...
    done: int
    total: int
    row: Mapping[str, Any] = field(default_factory=dict)  # of history, where the stage has one

    def within(self, task: str) -> "Progress":
        """The same, as a part of a larger task: its stage is "task: stage"."""
        return replace(self, stage=f"{task}: {self.stage}")


Callback = Callable[[Progress], None]


def check_callback(callback: object) -> None:
    """Raise TypeError for what cannot be told: now, and not at the end of the first epoch."""
    if callback is None:
        return
    wanted = "callback must be a function of a Progress, or None, got"
    if not callable(callback):
        raise TypeError(f"{wanted} {shown(callback)}")
    try:
        signature = inspect.signature(callback)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"{wanted} {shown(callback)}, which takes something else: {error}"
        ) from None


def ignore(progress: Progress) -> None:
    """What is told where nobody asked."""


def part_of(task: str, callback: Callback | None) -> Callback:
    """A callback for a part of a larger task, of which ``callback``, if any, is told."""
    tell = callback or ignore
    return lambda progress: tell(progress.within(task))
