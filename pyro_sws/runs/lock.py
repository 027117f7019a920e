"""A lock: one process at a time writes to a place; who is refused is told who does, and since when.

A folder with one file that names its holder. It is made beside the lock and renamed: a lock has its
holder from its first moment on. The file's name is the holder's alone: of several processes that
find a dead one's lock, none can remove what another has put in its place.
"""

import errno
import json
import os
import re
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from pyro_sws.files import parse_json

ATTEMPTS = 50  # each fails only if another process took or gave up the lock in that moment
UNKNOWN = "unknown"  # the start of a process that is there, and of which no more is told


@dataclass(frozen=True)
class Holder:
    """The process that has a lock."""

    pid: int
    start: str  # when it began: another process may have its number later
    host: str
    namespace: str  # of process numbers, which a container has of its own
    since: str  # when it took the lock
    command: str

    @staticmethod
    def this() -> "Holder":
        """This process, now."""
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        start = process_start(os.getpid()) or UNKNOWN
        return Holder(os.getpid(), start, *_here(), since, command)

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is of another machine or container, where nobody here can look for it."""
        return (self.host, self.namespace) != _here()

    @property
    def is_gone(self) -> bool:
        """Whether the process has surely ended."""
        if self.is_elsewhere:
            return False
        now = process_start(self.pid)
        return now is None or (UNKNOWN not in (now, self.start) and now != self.start)


@contextmanager
def locked(lock: Path, place: Path) -> Iterator[None]:
    """No other process is in such a context of the same ``lock``, a path in a folder that is there.

    The lock of a process that has ended is taken over. Raises BlockingIOError, which names
    ``place``, where another process has it, and OSError where none can be made.
    """
    token, process = uuid4().hex, os.getpid()
    try:
        _take(lock, token, place)
        _sweep(lock)
        yield
    finally:
        if os.getpid() == process:  # else of a fork, which ends on its own
            _remove(lock, f"{token}.json")


def process_start(pid: int) -> str | None:
    """When a process began, in its system's words; None where there is no such process."""
    try:
        # The second field is the command in parentheses, which may hold some itself; see proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return UNKNOWN if _exists(pid) else None
    if fields[0] in "ZX":  # it has ended, and nobody has asked how
        return None
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {fields[19]}".strip()


def _exists(pid: int) -> bool:
    if os.name == "nt":  # there os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _here() -> tuple[str, str]:
    namespace = ""
    with suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return socket.gethostname(), namespace


def _take(lock: Path, token: str, place: Path) -> None:
    for _ in range(ATTEMPTS):
        if _put(lock, token):
            return
        held = _held(lock)
        if held is None:
            continue
        name, holder = held
        if holder is None or not holder.is_gone:
            raise BlockingIOError(_refusal(lock, place, holder))
        _remove(lock, name)
    raise BlockingIOError(f"{place}: other processes keep taking {lock}; choose another --out")


def _put(lock: Path, token: str) -> bool:
    """Take the lock, if it is free."""
    beside = lock.with_name(f"{lock.name}.{token}")
    try:
        beside.mkdir(parents=True)
        (beside / f"{token}.json").write_text(json.dumps(asdict(Holder.this())), encoding="utf-8")
        with suppress(OSError):  # empty, it is nobody's, and not every system renames over it
            lock.rmdir()
        os.rename(beside, lock)  # fails where the lock is somebody's: it is not empty
    except FileNotFoundError:  # who has the lock removes what lies about
        return False
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) or lock.exists():
            return False
        raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return True


def _held(lock: Path) -> tuple[str, Holder | None] | None:
    """The holder's file and the holder; None for one that is not told, or no lock."""
    try:
        path = next(lock.iterdir(), None)
        text = None if path is None else path.read_text(encoding="utf-8")
    except FileNotFoundError:  # given up meanwhile
        return None
    if path is None or text is None:
        return None
    try:
        return path.name, Holder(**parse_json(text))
    except (ValueError, TypeError):
        return path.name, None


def _remove(lock: Path, name: str) -> None:
    """The file of one holder, and the lock if it has no other."""
    with suppress(FileNotFoundError, NotADirectoryError):
        (lock / name).unlink()
    with suppress(OSError):
        lock.rmdir()


def _sweep(lock: Path) -> None:
    """Remove what processes left that were killed as they put the lock in its place."""
    for path in lock.parent.iterdir():
        name, _, token = path.name.rpartition(".")
        if name == lock.name and re.fullmatch(r"[0-9a-f]{32}", token):
            shutil.rmtree(path, ignore_errors=True)


def _refusal(lock: Path, place: Path, holder: Holder | None) -> str:
    by_hand = f"if that process has ended, delete {lock} and try again"
    if holder is None:
        return f"{place} is being written by a process that {lock} does not name; {by_hand}"
    own = holder.pid == os.getpid() and not holder.is_elsewhere
    who = "this process" if own else f"process {holder.pid}"
    told = (
        f"{place} is being written by {who} on {holder.host} since {holder.since} "
        f"({holder.command}); wait until it ends, or choose another --out"
    )
    if not holder.is_elsewhere:
        return told
    return f"{told}. It is of another machine or container, and cannot be seen here: {by_hand}"
