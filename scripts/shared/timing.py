"""What the benchmarks share: ways timed in turn, their peak memory, the machine they ran on."""

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS

# Torch's profiler writes two lines of its own to stderr for every record otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

MEGABYTE = 1e6
TURN_SECONDS = 0.1  # a way's turn lasts about this long, or one call where a call takes longer
MOST_CALLS = 20  # in one turn


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given: only then does a clock mean anything."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], Any], device: torch.device) -> float:
    synchronize(device)
    began = time.perf_counter()
    call()
    synchronize(device)
    return time.perf_counter() - began


def interleaved(
    turns: Mapping[str, Callable[[], list[float]]], rounds: int
) -> dict[str, list[float]]:
    """All ways in turn, ``rounds`` times over, from another one first each time: way -> seconds.

    A slow minute of the machine meets every way alike, so that their ratios stand.
    """
    names = list(turns)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.disable()
    try:
        for i in range(rounds):
            first = i % len(names)
            for name in names[first:] + names[:first]:
                seconds[name] += turns[name]()
    finally:
        gc.enable()
    return seconds


def turn(call: Callable[[], Any], device: torch.device, first: float) -> Callable[[], list[float]]:
    """A way's turn: as many calls as fit, after one that brings its inputs back into the caches.

    ``first`` is about how many seconds a call takes.
    """
    calls = max(1, min(MOST_CALLS, int(TURN_SECONDS / max(first, 1e-9))))

    def take() -> list[float]:
        if calls > 1:
            call()
        return [seconds_of(call, device) for _ in range(calls)]

    return take


def median_ms(seconds: list[float]) -> float:
    return significant(1e3 * median(seconds))


def significant(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int:
    """The most that torch holds at once during a call, beyond what it held before.

    On the CPU from the profiler's record of every allocation, on a GPU from its allocator. Both
    count torch's own tensors, those of compiled code too, and not what a library (or the C loop)
    keeps on its stack.
    """
    gc.collect()
    if device.type == "cuda":
        synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        kept = call()  # noqa: F841  (until the record ends: what is freed after it does not count)
    result = record.profiler.kineto_results
    held = peak = 0
    events = [e for e in result.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def check_peak_bytes(device: torch.device) -> None:
    """Three temporaries of a known size, two of them alive at once: refuse a measure that errs."""
    size = 2**20

    def call() -> torch.Tensor:
        first = torch.empty(size, device=device)
        second = first + 1
        del first
        return second * 2

    found = peak_bytes(call, device)
    if not 8 * size <= found <= 8.01 * size:  # the numbers 1 and 2 become tensors, too
        raise RuntimeError(f"peak memory of a known case: {found} bytes, not {8 * size}")


def about(seconds: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Where, when and how this was measured."""
    return {**provenance(arguments.device), "seconds": round(seconds)}


def common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=7, help="turns of every way")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--quick", action="store_true", help="a smoke run: small, few rounds")
    parser.add_argument(
        "--out", type=Path, help="folder for the JSON and the picture (default: docs/results, "
        "whose files are replaced; with --quick nothing is written)"
    )  # fmt: skip


def folder(arguments: argparse.Namespace) -> Path | None:
    """Where the results go, or None."""
    if arguments.out is None and arguments.quick:
        return None
    chosen = arguments.out or RESULTS
    chosen.mkdir(parents=True, exist_ok=True)
    return chosen


def print_rows(case: str, rows: Mapping[str, Mapping[str, float]], base: str) -> None:
    """One line a way: median, that over the median of ``base``, extra memory."""
    print(f"\n{case:22} {'median':>13} {'of ' + base:>22} {'extra memory':>13}")
    one = rows.get(base, {}).get("median_ms")
    for way, row in rows.items():
        times = f"{row['median_ms'] / one:.3f}" if one else "-"
        memory = f"{row['peak_extra_mb']:.2f} MB"
        print(f"{way:22} {row['median_ms']:10.3f} ms {times:>22} {memory:>13}")
    sys.stdout.flush()


def ratios(cases: Mapping[str, Mapping[str, Any]], base: str) -> dict[str, dict[str, float]]:
    """Case -> way -> the way's median over that of ``base``, where the case has it."""
    return {
        case: {
            way: significant(row["median_ms"] / rows[base]["median_ms"], 3)
            for way, row in rows.items()
        }
        for case, rows in cases.items()
        if base in rows
    }
