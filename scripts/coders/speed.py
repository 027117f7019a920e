"""Time the coder: weights a second each way, compiled and in plain Python, and memory a weight.

    python scripts/coders/speed.py            # all; writes docs/results/codec.json
    python scripts/coders/speed.py --quick    # a smoke run; writes nothing without --out

Whole files of synthetic networks of up to 17 values, without dead rows that would be quick.
"uneven" has 2 % of its weights not zero, in some columns more than in others, and is coded in
context. "even" has 2 % everywhere, and "dense" no zeros: there the contexts find nothing, and the
encoder, having tried them, falls back on order-0 coding. Both ways are timed in turn, in one run.
The memory is the most that numpy and Python hold at once beyond the network or the file, the
decoded network included.
"""

import argparse
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from pyro_sws.codec.container import decode, encode
from pyro_sws.codec.symbols import Quantized

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.results import write_json
from scripts.shared.timing import (
    about,
    common_arguments,
    folder,
    interleaved,
    seconds_of,
    significant,
)

CPU = torch.device("cpu")
SIZES = {"numba": 10_000_000, "python": 200_000}  # weights
CASES = {"uneven": 0.02, "even": 0.02, "dense": 1.0}  # share of the weights that are not zero
WAYS = ("numba", "python")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    common_arguments(parser)
    parser.set_defaults(rounds=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    began = time.perf_counter()
    found: dict[str, Any] = {}
    for case, share in CASES.items():
        found[case] = measure(case, share, arguments)
        for way, row in found[case].items():
            print(f"{case:8}{way:8}", ", ".join(f"{k} {v:,}" for k, v in row.items()), flush=True)
    found["_about"] = about(time.perf_counter() - began, arguments)
    place = folder(arguments)
    if place is not None:
        write_json(place / "codec.json", found)


def measure(case: str, share: float, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Way -> weights a second, bytes, memory."""
    sizes = {way: 100_000 if arguments.quick else SIZES[way] for way in WAYS}
    networks = {way: synthetic(sizes[way], share, case == "uneven") for way in WAYS}
    encodes = {way: partial(encode, networks[way]) for way in WAYS}
    files = {way: as_way(way, encodes[way]) for way in WAYS}
    turns: dict[str, Callable[[], list[float]]] = {}
    for way in WAYS:
        turns[f"{way} encode"] = turn(way, encodes[way])
        turns[f"{way} decode"] = turn(way, partial(decode, files[way]))
    seconds = interleaved(turns, arguments.rounds)
    rows = {}
    for way in WAYS:
        size, encoding = networks[way].size, median(seconds[f"{way} encode"])
        rows[way] = {
            "weights": size,
            "bytes": len(files[way]),
            "encode_weights_per_second": significant(size / encoding, 3),
            "decode_weights_per_second": significant(size / median(seconds[f"{way} decode"]), 3),
        }
        if way == "numba":  # the record of every small integer would take longer than the work
            for what, call in (
                ("encode", turns["numba encode"]),
                ("decode", turns["numba decode"]),
            ):
                rows[way][f"{what}_bytes_per_weight"] = significant(peak(call) / size, 3)
    return rows


def synthetic(size: int, share: float, uneven: bool) -> Quantized:
    """A matrix of 1,000 columns; uneven ones have shares in proportion to exponential draws."""
    rng = np.random.default_rng(0)
    shares = share * (rng.exponential(size=1000) if uneven else np.ones(1000))
    symbols = rng.integers(0, 16, (size // 1000, 1000), dtype=np.uint8)
    symbols[symbols >= 8] += 1
    symbols[rng.random(symbols.shape, dtype=np.float32) >= shares] = 8
    book = np.arange(-8, 9).astype(np.float16) / 8
    return Quantized({"w": symbols}, {"all": book}, {"w": "all"})


def turn(way: str, call: Callable[[], Any]) -> Callable[[], list[float]]:
    return lambda: as_way(way, lambda: [seconds_of(call, CPU)])


def as_way(way: str, call: Callable[[], Any]) -> Any:
    before = os.environ.get("PYRO_SWS_CODEC")
    os.environ["PYRO_SWS_CODEC"] = way
    try:
        return call()
    finally:
        if before is None:
            del os.environ["PYRO_SWS_CODEC"]
        else:
            os.environ["PYRO_SWS_CODEC"] = before


def peak(call: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


if __name__ == "__main__":
    main()
