"""How far payloads of symbols without structure lie above the best memoryless codes.

    python scripts/coders/memoryless.py        # writes docs/results/memoryless.json

For sizes from 1 to 1,000,000, alphabets of 2 to 257 and several sources, with a zero symbol and
without: the bytes of the payload, and the excess over 1.005 min(KT, NML), two codes that do not
know the source either (Krichevsky & Trofimov 1981; Shtarkov 1987). Each payload is decoded and
compared. PYRO_SWS_CODEC=numba saves much of the time.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pyro_sws.bounds.rates import kt_bits, nml_bits
from pyro_sws.codec.coders import CODERS, Plane

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.results import RESULTS, write_json
from scripts.shared.timing import about, significant

SIZES = (1, 2, 5, 20, 100, 200, 1_000, 10_000, 100_000, 1_000_000)
LEVELS = (2, 3, 16, 17, 64, 255, 256, 257)
SLACK = 1.005
SOURCES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "uniform": lambda rng, k: np.ones(k),
    "geometric": lambda rng, k: 0.7 ** np.arange(k),
    "zipf": lambda rng, k: 1 / np.arange(1, k + 1),
    "mostly one": lambda rng, k: np.where(np.arange(k) == 0, 0.99, 0.01 / k),
    "one alone": lambda rng, k: (np.arange(k) == 0).astype(float),
    "half of them": lambda rng, k: (np.arange(k) < max(1, k // 2)).astype(float),
    "Dirichlet(0.1)": lambda rng, k: rng.gamma(0.1, size=k) + 1e-12,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="of the sizes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the JSON (default: docs/results)")
    arguments = parser.parse_args()
    arguments.device = "cpu"
    began = time.perf_counter()
    found: dict[str, Any] = {}
    for size in (size for size in SIZES if size <= arguments.largest):
        rows = [row for levels in LEVELS for row in measure(size, levels, arguments.seed)]
        worst = max(rows, key=lambda row: row["excess_bytes"])
        found[str(size)] = {"cases": len(rows), "worst": worst}
        print(size, worst, flush=True)
    found["_about"] = about(time.perf_counter() - began, arguments)
    write_json((arguments.out or RESULTS) / "memoryless.json", found)


def measure(size: int, levels: int, seed: int) -> list[dict[str, Any]]:
    """Every source, its symbols in random order, with the most frequent as zero and with none."""
    rng = np.random.default_rng([seed, size, levels])
    rows = []
    for name, source in SOURCES.items():
        odds = rng.permutation(source(rng, levels))
        symbols = rng.choice(levels, size, p=odds / odds.sum()).astype(np.uint16)
        counts = np.bincount(symbols, minlength=levels)
        bound = min(kt_bits(counts), nml_bits(counts)) / 8
        for zero in (None, int(counts.argmax())):
            plane = [Plane((size,), levels, zero)]
            payload = CODERS["context"].encode([symbols], plane)
            if not np.array_equal(CODERS["context"].decode(payload, plane)[0], symbols):
                raise RuntimeError(f"{size} symbols of {levels}, {name}: others come back")
            excess = significant(len(payload) - SLACK * bound, 3)
            row = {"levels": levels, "source": name, "zero": zero is not None}
            rows.append(row | {"bytes": len(payload), "excess_bytes": excess})
    return rows


if __name__ == "__main__":
    main()
