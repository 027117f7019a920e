"""Feed every reader damaged files: each must be read, or refused by a documented error.

    python scripts/fuzz.py                              # writes docs/results/fuzz_readers.json
    python scripts/fuzz.py --inputs 5000 --readers recipe,idx --seed 3 --out found.json

Mutants of valid files of each kind, see fuzzing/readers.py. A child process reads them in turn: a
mutant has a second of the processor, and 512 MB of address space beyond what the process has at
the start. Any answer but a value, a ValueError or an OSError is a find; its file is kept in
--finds. ``--seed`` and a find's number make it again.
"""

import argparse
import contextlib
import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too
from scripts.coders.fuzz import seeds, warm_up
from scripts.fuzzing.readers import DOCUMENTED, READERS, Target, mutant
from scripts.shared.provenance import provenance
from scripts.shared.results import write_json

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 1.0  # of the processor, a mutant
HANGS = 20.0  # seconds until a child that does not even see its alarm is ended
MEMORY = 512 << 20  # bytes of address space
BATCH = 5000  # mutants that a child reads


@dataclass
class Tally:
    """What came of a reader's mutants."""

    outcomes: Counter[str] = field(default_factory=Counter)
    finds: list[dict[str, Any]] = field(default_factory=list)
    slowest_seconds: float = 0.0
    peak_mb: float = 0.0  # of resident memory beyond what the child has at its start

    def merge(self, other: "Tally") -> None:
        self.outcomes += other.outcomes
        self.finds += other.finds
        self.slowest_seconds = max(self.slowest_seconds, other.slowest_seconds)
        self.peak_mb = max(self.peak_mb, other.peak_mb)

    def row(self) -> dict[str, Any]:
        return {
            "outcomes": dict(sorted(self.outcomes.items())),
            "slowest_seconds": round(self.slowest_seconds, 4),
            "peak_mb": round(self.peak_mb, 1),
            "finds": self.finds,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="mutants a reader")
    parser.add_argument("--readers", default=",".join(READERS), help="some of them, by name")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="stop after so many, readers in turn")
    parser.add_argument("--finds", type=Path, help="a folder for what is found")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "fuzz_readers.json")
    arguments = parser.parse_args()
    names = arguments.readers.split(",")
    if unknown := set(names) - set(READERS):
        parser.error(f"no reader {', '.join(sorted(unknown))}; choose from {', '.join(READERS)}")
    start = time.perf_counter()
    found = fuzz(names, arguments.inputs, arguments.seed, arguments.finds, arguments.minutes)
    rows = {name: tally.row() for name, tally in found.items()}
    total = sum(sum(tally.outcomes.values()) for tally in found.values())
    finds = sum(len(tally.finds) for tally in found.values())
    told = {"inputs": total, "finds": finds, "seconds": round(time.perf_counter() - start, 1)}
    told |= {"seed": arguments.seed, "seconds_each": SECONDS, "memory_mb": MEMORY >> 20}
    write_json(arguments.out, {**told, "readers": rows, "_about": provenance()})
    print(told)
    if finds:
        sys.exit(f"{finds} mutants got an answer that is not documented; see {arguments.out}")


def fuzz(
    names: Sequence[str], inputs: int, seed: int, finds: Path | None, minutes: float | None = None
) -> dict[str, Tally]:
    """So many mutants to each reader; the same seed makes the same ones."""
    torch.set_num_threads(1)
    if find_spec("numba"):
        os.environ.setdefault("PYRO_SWS_CODEC", "numba")
    tallies = {name: Tally() for name in names}
    end = time.monotonic() + 60 * (np.inf if minutes is None else minutes)
    with tempfile.TemporaryDirectory() as temporary:
        targets = {}
        for name in names:
            folder = Path(temporary, name)
            folder.mkdir()
            targets[name] = READERS[name](folder)
        _warm_up(targets)
        for first in range(0, inputs, BATCH):
            for name in names:
                if time.monotonic() < end:
                    numbers = range(first, min(first + BATCH, inputs))
                    tallies[name].merge(_in_child(name, targets[name], numbers, seed, finds))
    return tallies


def _warm_up(targets: Mapping[str, list[Target]]) -> None:
    """Load, and compile, what will be needed: the time of that is nobody's."""
    warm_up(seeds())
    for target in (target for each in targets.values() for target in each):
        with contextlib.suppress(*DOCUMENTED):
            target.read(target.file)


def _in_child(
    name: str, targets: list[Target], numbers: range, seed: int, finds: Path | None
) -> Tally:
    """A batch, read by a process of its own. One that dies leaves what it was reading."""
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    arguments = (send, name, targets, numbers, seed, finds)
    child = context.Process(target=_child, args=arguments)
    child.start()
    send.close()
    done, tally = 0, Tally()
    with contextlib.suppress(EOFError):
        while True:
            done, tally = receive.recv()
    child.join()
    if child.exitcode:
        told = f"the process ended with {child.exitcode}"
        tally.outcomes[told] += 1
        tally.finds.append({"number": numbers[min(done, len(numbers) - 1)], "outcome": told})
    return tally


def _child(
    send: Any, name: str, targets: list[Target], numbers: range, seed: int, finds: Path | None
) -> None:
    warnings.simplefilter("ignore")
    memory, tally = _resident(), Tally()
    _limit_memory()
    signal.signal(signal.SIGPROF, _stop)
    for done, i in enumerate(numbers):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), i])
        target, made = mutant(rng, targets)
        target.file.write_bytes(made)
        start = time.process_time()
        outcome, where = answer(target)
        seconds = time.process_time() - start
        if seconds > SECONDS and not where:  # where nobody hears an exception, such as a finaliser
            outcome, where = "over a second", f"it took {seconds:.2f} s"
        tally.outcomes[outcome] += 1
        tally.slowest_seconds = max(tally.slowest_seconds, seconds)
        if where:
            tally.finds.append({"number": i, "outcome": outcome, "where": where})
            _keep(finds, name, i, target, made)
        target.file.write_bytes(target.seed)
        if done % 100 == 0:
            send.send((done + 1, tally))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory
    tally.peak_mb = max(0, peak) / 2**20
    send.send((len(numbers), tally))


def answer(target: Target) -> tuple[str, str]:
    """What a reader made of the file: "read", a documented error, or a find and where it arose."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        target.read(target.file)
    except TooSlow as error:
        return "over a second", _where(error)
    except DOCUMENTED as error:
        kind = next(kind for kind in DOCUMENTED if isinstance(error, kind))
        return kind.__name__, ""
    except Exception as error:
        return type(error).__name__, _where(error)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        faulthandler.cancel_dump_traceback_later()
    return "read", ""


class TooSlow(BaseException):
    """Not an Exception, which a reader may catch."""


def _stop(*_: object) -> None:
    raise TooSlow(f"over {SECONDS} s")


def _where(error: BaseException) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    own = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
    place = (own or [last])[-1]
    told = Path(place.filename)
    return f"{told.name}:{place.lineno}: {str(error)[:200]}"


def _keep(finds: Path | None, name: str, i: int, target: Target, made: bytes) -> None:
    if finds is not None:
        finds.mkdir(parents=True, exist_ok=True)
        (finds / f"{name.replace(' ', '-')}-{i}-{target.file.name}").write_bytes(made)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _resident() -> int:
    """Bytes of memory that the process, a copy of another, has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
