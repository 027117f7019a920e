"""Kill this process at one of its steps on files, as far as its files can tell."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What changes a folder; os.rename is told of os.replace, too, and os.remove of unlink.
STEPS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.copyfile"}


class Killed(BaseException):
    """No ``except`` in the library takes it, and no ``finally`` changes a file after it."""


_allowed: list[int] = []  # steps that are left; empty: nobody is to be killed


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _allowed or not (event in STEPS or (event == "open" and _writes(arguments))):
        return
    if _allowed[0] == 0:  # and again at each further step: what is dead does not clean up
        raise Killed(event)
    _allowed[0] -= 1


def _writes(arguments: tuple[Any, ...]) -> bool:
    return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


sys.addaudithook(_hook)  # nobody can remove it, so it has nothing to do outside the context


@contextmanager
def killed_after(steps: int) -> Iterator[list[bool]]:
    """Steps on files, then none any more. What is yielded holds something if that ended it."""
    ended: list[bool] = []
    _allowed.append(steps)
    try:
        yield ended
    except Killed:
        ended.append(True)
    finally:
        _allowed.clear()
