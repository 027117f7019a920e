"""A run in the place of an older one: one rename decides, and a kill leaves either of them whole.

The new run is written to a hidden folder inside. Renamed to ``.next`` it is the folder's run, and
read there until copies of all its files are in their places. In the folder, not beside it: a
mounted folder's parent is another file system, and files of others in it are left where they are.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from uuid import uuid4

from pyro_sws.files import read_json, write_whole

NEXT = ".next"
OLDER = ".older.json"  # in it: the older run's files that the new one has not, in order
STAGED = ".staged"  # and a random suffix: nobody's any more where no process has the folder's lock
REPORT = "report.json"


def whole(folder: Path) -> Path:
    """Where the folder's run is to be read: the folder itself, or what a killed process left."""
    return folder / NEXT if (folder / NEXT / REPORT).is_file() else folder


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A hidden folder, in ``folder``, that is gone after the context unless it was renamed."""
    hidden = _hidden(folder)
    hidden.mkdir()
    try:
        yield hidden
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def swap(folder: Path, new: Path, older: Iterable[Path]) -> None:
    """Make the run in ``new``, a staged folder, that of ``folder``.

    ``older``: files of the run that is there; those that the new one has, too, are written over.
    """
    own = {path.relative_to(new) for path in new.rglob("*")}
    left = [path.relative_to(folder) for path in older]
    names = [path.as_posix() for path in left if path not in own]
    write_whole(new / OLDER, json.dumps(names))
    os.rename(new, folder / NEXT)
    finish(folder)


def finish(folder: Path) -> None:
    """Do what is left of a swap. Whatever was done of it before may be done again.

    Raises ValueError, before anything is touched, where files are outside the folder: an older
    run's that are said to be, and those that a link leads out of it.
    """
    new = folder / NEXT
    if not (new / REPORT).is_file():
        return
    older = [_inside(folder, name) for name in _names(new / OLDER)]
    files = [path for path in new.rglob("*") if path.is_file() and path.name != OLDER]
    for path in files:
        _inside(folder, path.relative_to(new).as_posix())
    # report.json goes first and comes last, for programs that know nothing of a swap.
    (folder / REPORT).unlink(missing_ok=True)
    for path in older:
        _remove(folder, path)
    for path in sorted(files, key=lambda path: path.name == REPORT):
        _place(path, folder / path.relative_to(new), folder)
    done = _hidden(folder)
    os.rename(new, done)
    shutil.rmtree(done)


def _hidden(folder: Path) -> Path:
    return folder / f"{STAGED}.{uuid4().hex}"


def _names(path: Path) -> list[str]:
    names = read_json(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} holds no list of names; delete {NEXT}")
    return names


def _inside(folder: Path, name: str) -> Path:
    """The folder's file of this name. Raises ValueError for one that is elsewhere."""
    relative = PurePosixPath(name)
    path = folder / relative
    outside = relative.is_absolute() or ".." in relative.parts
    if outside or not path.parent.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder / NEXT / OLDER}: {name!r} is not in the folder; delete {NEXT}")
    return path


def _remove(folder: Path, path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent != folder:
        with suppress(OSError):  # it holds more
            path.parent.rmdir()


def _place(path: Path, target: Path, folder: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    beside = _hidden(folder)
    try:
        try:
            os.link(path, beside)
        except OSError:  # a file system without links
            shutil.copyfile(path, beside)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)  # replacing a link by one to the same file leaves both
