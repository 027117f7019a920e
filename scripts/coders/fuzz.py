"""Feed the decoder damaged files: each must be decoded within the limits, or refused as documented.

    python scripts/coders/fuzz.py                  # 200,000; writes docs/results/fuzz.json
    python scripts/coders/fuzz.py --mutants 5000 --seed 3 --out fuzz.json

Mutants of the golden files and of small networks: flipped bits, cuts, two files spliced, edits in
the first 80 bytes, extreme lengths, and noise; every other one with a right checksum. One in a
thousand is a small file that claims as many weights as a decoder allows. A mutant has five seconds,
and 256 MB of address space beyond what the process has at the start: what asks for more fails with
a MemoryError, which is no documented answer. That bounds all memory, touched or not; the peak that
is reported is of resident memory. With numba installed the compiled loops run.
"""

import argparse
import contextlib
import os
import resource
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pyro_sws import decode, encode, inspect
from pyro_sws.codec.codebooks import code_codebook
from pyro_sws.codec.container import WEIGHTS_FREE, WEIGHTS_PER_BYTE, FormatError
from pyro_sws.codec.stream import Stream
from pyro_sws.codec.symbols import Quantized
from pyro_sws.codec.wire import Writer, dtype_code

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from coded_networks import draw_symbols, lenet_like, two_layers
from golden_files import FORMAT1, FORMAT2, expected, golden

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too


SECONDS = 5.0
MEMORY = 256 << 20  # bytes of address space
HEADER = 80  # bytes at the front that are edited most
CLAIMS = 1000  # of so many mutants one claims much
KEPT = 20  # failures that are written down
EXTREMES = (
    bytes([0xFF] * 8 + [0x7F]),  # 2^63 - 1
    bytes([0xFF] * 4 + [0x07]),  # 2^31 - 1
    bytes([0x80, 0x80, 0x40]),  # 2^20
    bytes([0xFF, 0xFF, 0x03]),  # 65,535
    bytes([0x80, 0x00]),  # 0, too long
    bytes([0xFF] * 12),
    bytes([0x00]),
)

Architecture = Mapping[str, tuple[int, ...]] | None


@dataclass(frozen=True)
class Seed:
    """A whole file, and the architecture that it needs."""

    data: bytes
    architecture: Architecture = None


@dataclass
class Tally:
    """What came of the mutants."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, str]] = field(default_factory=list)
    slowest: dict[str, Any] = field(default_factory=lambda: {"seconds": 0.0})
    peak: int = 0  # bytes of resident memory beyond what all the code takes

    def add(self, kind: str, data: bytes, outcome: str, seconds: float) -> None:
        self.outcomes.setdefault(kind, Counter())[outcome] += 1
        if outcome not in DOCUMENTED and len(self.failures) < KEPT:
            self.failures.append({"kind": kind, "outcome": outcome, "file": data.hex()})
        if seconds > self.slowest["seconds"]:
            self.slowest = {"seconds": round(seconds, 4), "kind": kind, "bytes": len(data)}
            self.slowest |= {"outcome": outcome, "file": data.hex()}

    @property
    def failed(self) -> int:
        return sum(n for c in self.outcomes.values() for o, n in c.items() if o not in DOCUMENTED)


DOCUMENTED = ("decoded", "refused", "wrong or no architecture")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "fuzz.json")
    arguments = parser.parse_args()
    from scripts.shared.provenance import provenance
    from scripts.shared.results import write_json

    if find_spec("numba"):
        os.environ.setdefault("PYRO_SWS_CODEC", "numba")
    start = time.perf_counter()
    tally = fuzz(arguments.mutants, arguments.seed)
    results = {
        "mutants": arguments.mutants,
        "seed": arguments.seed,
        "loops": os.environ.get("PYRO_SWS_CODEC", "auto"),
        "outcomes": {kind: dict(counts) for kind, counts in sorted(tally.outcomes.items())},
        "failed": tally.failed,
        "failures": tally.failures,
        "slowest": tally.slowest,
        "peak_resident_mb": round(tally.peak / 2**20, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "_about": provenance(),
    }
    write_json(arguments.out, results)
    total = sum(tally.outcomes.values(), Counter())
    print(
        dict(total), f"slowest {tally.slowest['seconds']} s, peak {results['peak_resident_mb']} MB"
    )
    if tally.failed:
        sys.exit(
            f"{tally.failed} mutants got an answer that is not documented; see {arguments.out}"
        )


def fuzz(mutants: int, seed: int) -> Tally:
    """Decode so many mutants; the same seed makes the same ones."""
    rng, files, tally = np.random.default_rng(seed), seeds(), Tally()
    warm_up(files)
    memory = resident()
    with limited_memory(MEMORY):
        for i in range(mutants):
            kind = list(EDITS)[int(rng.integers(len(EDITS)))]
            file = files[int(rng.integers(len(files)))]
            edited = EDITS[kind](rng, bytearray(file.data), files)
            if i % CLAIMS == CLAIMS - 1:
                kind, edited = "claim", claim(rng)
            data = repaired(edited) if i % 2 else bytes(edited)
            start = time.perf_counter()
            outcome = answer(data, file.architecture)
            tally.add(kind, data, outcome, time.perf_counter() - start)
    tally.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory
    return tally


def warm_up(files: list[Seed]) -> None:
    """Load, and compile, what will be needed."""
    for file in files:
        decode(file.data, architecture=file.architecture)
    for levels in (3, 1000):  # symbols of one byte and of two
        with contextlib.suppress(FormatError):
            decode(repaired(claiming((64, 128), levels, b"")))


def answer(data: bytes, architecture: Architecture) -> str:
    """One of ``DOCUMENTED``, or what else happened."""
    try:
        with limited_time(SECONDS):
            found = decode(data, architecture=architecture)
            layout = inspect(data, architecture=architecture)
    except FormatError as error:
        return "refused" if "\n" not in str(error) else f"message of several lines: {error!r}"
    except ValueError as error:
        known = "architecture" in str(error) and "fingerprint" in str(error)
        return "wrong or no architecture" if known else f"ValueError: {error}"
    except BaseException as error:  # whatever it is, it is what we look for
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {error}"
    if found.size > WEIGHTS_FREE + WEIGHTS_PER_BYTE * len(data):
        return "decoded beyond the limit"
    same = {n: a.shape for n, a in {**found.symbols, **found.raw}.items()}
    if same != {n: t.shape for n, t in layout.tensors.items()}:
        return "inspect and decode disagree"
    return "decoded"


# The files


def seeds() -> list[Seed]:
    """Golden files of both formats, and some small networks with and without a fingerprint."""
    files = [Seed(golden(n), expected(n)[1].get("architecture")) for n in [*FORMAT1, *FORMAT2]]
    for quantized in (two_layers(), lenet_like(), *(small(i) for i in range(12))):
        shapes = {n: a.shape for n, a in {**quantized.symbols, **quantized.raw}.items()}
        files += [Seed(encode(quantized)), Seed(encode(quantized, architecture=shapes), shapes)]
        files.append(Seed(encode(quantized, coder="order0")))
    return files


def small(seed: int) -> Quantized:
    """A few tensors of a few weights."""
    rng = np.random.default_rng(seed)
    levels = int(rng.integers(1, 12))
    shapes = {"0.weight": (4, int(rng.integers(1, 20))), "0.bias": (4,), "1.weight": (3, 4)}
    symbols = {n: draw_symbols(shape, levels, 2.0, seed) for n, shape in shapes.items()}
    book = (np.arange(levels) - seed % 3).astype(("float16", "float32", "float64")[seed % 3])
    raw = {"1.running_mean": rng.normal(size=3).astype(np.float32)} if seed % 2 else {}
    scales = {"0.weight": np.full((4, 1), 0.5, np.float16)} if seed % 4 > 1 else {}
    return Quantized(symbols, {"all": book}, dict.fromkeys(symbols, "all"), raw, scales)


# The edits: each takes a generator, the file's bytes, and all files, and gives bytes

Edit = Callable[[np.random.Generator, bytearray, list[Seed]], bytearray]


def flip(rng: np.random.Generator, data: bytearray, files: list[Seed]) -> bytearray:
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(8 * len(data)))
        data[at // 8] ^= 1 << at % 8
    return data


def cut(rng: np.random.Generator, data: bytearray, files: list[Seed]) -> bytearray:
    return data[: int(rng.integers(len(data)))]


def splice(rng: np.random.Generator, data: bytearray, files: list[Seed]) -> bytearray:
    other = files[int(rng.integers(len(files)))].data
    return data[: int(rng.integers(len(data)))] + other[int(rng.integers(len(other))) :]


def edit_header(rng: np.random.Generator, data: bytearray, files: list[Seed]) -> bytearray:
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(3, min(HEADER, len(data))))
        way = rng.integers(3)
        if way == 0:
            data[at] = int(rng.integers(256))
        elif way == 1:
            data[at:at] = rng.bytes(int(rng.integers(1, 4)))
        else:
            del data[at : at + int(rng.integers(1, 4))]
    return data


def edit_length(rng: np.random.Generator, data: bytearray, files: list[Seed]) -> bytearray:
    at = int(rng.integers(4, min(HEADER, len(data))))
    data[at : at + int(rng.integers(3))] = EXTREMES[int(rng.integers(len(EXTREMES)))]
    return data


def edit_payload(rng: np.random.Generator, data: bytearray, files: list[Seed]) -> bytearray:
    """In the last part, where a change leaves all lengths as they are."""
    at = int(rng.integers(len(data) // 2, len(data)))
    data[at] = int(rng.integers(256))
    return data


def noise(rng: np.random.Generator, data: bytearray, files: list[Seed]) -> bytearray:
    """Random bytes, half of them after a magic and a version that are right."""
    start = data[:4] if rng.integers(2) else b""
    return bytearray(start + rng.bytes(int(rng.integers(200))))


EDITS: dict[str, Edit] = {
    "bits": flip,
    "cut": cut,
    "splice": splice,
    "header": edit_header,
    "length": edit_length,
    "payload": edit_payload,
    "noise": noise,
}


def claim(rng: np.random.Generator) -> bytearray:
    """A whole file: up to 2^20 weights with contexts, and any payload after the codebook."""
    shape = WIDE[int(rng.integers(len(WIDE)))]
    levels = int(rng.choice([1, 2, 3, 17, 256, 1000, 1024, 1025]))
    length = int(rng.integers(300))
    tails = (bytes(length), rng.bytes(length), b"\xff" * length)
    return claiming(shape, levels, tails[int(rng.integers(3))])


def claiming(shape: tuple[int, ...], levels: int, tail: bytes) -> bytearray:
    book = np.arange(levels, dtype=np.float32) - levels // 2
    out = Writer(b"SWS\x02" + bytes([0, 1, len(shape), 1]) + b"w")
    out.dims(shape)
    out.data += bytes([1, 8 + dtype_code(book.dtype)])
    out.varint(levels)
    stream = Stream()
    code_codebook(stream, book.dtype, levels, book)
    stream.coin(1)
    out.blob(stream.finish() + tail)
    return out.data + bytes(4)


WIDE = ((1024, 1024), (16, 65536), (1, 1 << 20), (1 << 20,), (1 << 20, 1), (64, 64, 16, 16))


def repaired(data: bytearray) -> bytes:
    """With the checksum that belongs to it."""
    body = bytes(data[:-4])
    return body + zlib.crc32(body).to_bytes(4, "little")


# The limits


@contextlib.contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """Address space for so many bytes more than now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextlib.contextmanager
def limited_time(seconds: float) -> Iterator[None]:
    """Raises TimeoutError after so many seconds."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"over {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def resident() -> int:
    """Bytes of memory in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    main()
