"""Every family of priors on LeNet-300-100: bytes at matched error, from a path over tau.

    python scripts/priors/families.py trials    # as many a family, on held-out training images
    python scripts/priors/families.py paths     # the chosen trial over tau and seeds, on test data
    python scripts/priors/families.py collect   # writes docs/results/priors.json from what was run

Fits are kept in --folder and not run again; with --part i/n, n processes share them. A family's
trial is the one of the fewest bytes at held-out error 2 %, from one tau: log bytes + 1.2 a point
above it, which is about how the paper's prior trades them. A family none of whose trials is 100
times smaller there has no path: it is listed with its trials.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.priors.fits import Fit
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json
from scripts.shared.study import NOTE, add_arguments, matched_bytes, run_part

NETWORK = "lenet_300_100"
TRIAL_TAU = 0.14
TAUS = (0.08, 0.1, 0.125, 0.16)
# Effects make a nonzero weight cheap where others are: the same error comes at a larger tau.
TAUS_OF = {"structured": (0.14, 0.18, 0.22, 0.28)}
SEEDS = (0, 1, 2)
TARGETS = (1.9, 2.2)  # percent
LOG_BYTES_A_POINT = 1.2
NARROW = {"shape": 250.0, "rate": 0.025}  # of a slab's precision: mode at deviation 0.01

TRIALS: dict[str, tuple[dict[str, Any], ...]] = {
    "spike_and_slabs": ({}, {"slab_precision": NARROW}, {"slabs": 8}),
    "structured": (
        {"deviation": 1.0},
        {"deviation": 0.3, "by": ["row", "column"]},
        {"deviation": 1.0, "shape": {"slabs": 8}},
    ),
    "scaled": ({"deviation": 0.12}, {"deviation": 0.18}, {"deviation": 0.25}),
    "dirichlet_process": (
        {},
        {"slab_precision": NARROW},
        {"concentration": {"shape": 1.0, "rate": 10.0}},
    ),
    "sparse_dirichlet": ({}, {"slab_precision": NARROW}, {"concentration": 0.1}),
    "grid": ({"steps": 8}, {"steps": 5}, {"steps": 4, "kind": "powers_of_two"}),
    "ternary": (
        {"each": True},
        {"each": True, "zero_proportion": 0.99},
        {"each": True, "slab_precision": NARROW},
    ),
    "scale_mixture": (
        {"tail": "laplace"},
        {"tail": "student_t"},
        {"tail": "horseshoe", "floor": 0.1},
    ),
    "gaussian": ({}, {"precision": 100.0}, {"steps": 7}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["trials", "paths", "collect"])
    parser.add_argument("--families", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    add_arguments(parser, Path("runs/priors"), RESULTS / "priors.json")
    arguments = parser.parse_args()
    if arguments.stage == "collect":
        write_json(arguments.out, collected(arguments))
        return
    run_part(fits(arguments), arguments)


def fits(arguments: argparse.Namespace) -> Iterator[Fit]:
    if arguments.stage == "trials":
        for family in arguments.families:
            yield from trials(family)
        return
    for seed in arguments.seeds:
        for step in range(len(TAUS)):
            for family in arguments.families:
                best = chosen(family, arguments)
                if reaches(best):
                    yield Fit(NETWORK, best["prior"], taus(family)[step], seed)


def taus(family: str) -> tuple[float, ...]:
    return TAUS_OF.get(family, TAUS)


def trials(family: str) -> list[Fit]:
    tables = [{"group": "all", "family": family, **keys} for keys in TRIALS[family]]
    return [Fit(NETWORK, table, TRIAL_TAU, held_out=True) for table in tables]


def chosen(family: str, arguments: argparse.Namespace) -> dict[str, Any]:
    rows = [fit.row(arguments.folder, arguments.data_dir) for fit in trials(family)]
    return min(rows, key=at_two_percent)


def at_two_percent(row: Mapping[str, Any]) -> float:
    """About the logarithm of the bytes at an error of 2 %."""
    return math.log(row["file_bytes"]) + LOG_BYTES_A_POINT * (row["error_percent"] - 2)


def reaches(row: Mapping[str, Any]) -> bool:
    """Whether a trial is, about, 100 times smaller than the network at an error of 2 %."""
    return at_two_percent(row) < math.log(4 * 266_610 / 100)


def collected(arguments: argparse.Namespace) -> dict[str, Any]:
    """{family: its trials, its path, bytes and seconds at each target's error, seed by seed}."""
    found: dict[str, Any] = {}
    for family in arguments.families:
        rows = [row for fit in trials(family) if (row := kept(fit, arguments))]
        if len(rows) < len(TRIALS[family]):
            continue
        best = min(rows, key=at_two_percent)
        paths = {
            seed: [
                row
                for tau in taus(family)
                if (row := kept(Fit(NETWORK, best["prior"], tau, seed), arguments))
            ]
            for seed in arguments.seeds
        }
        whole = {seed: path for seed, path in paths.items() if len(path) == len(TAUS)}
        found[family] = {
            "trials": rows,
            "chosen": best["prior"],
            "path": [row for path in whole.values() for row in path],
            "matched": {
                str(target): {
                    seed: dict(zip(("bytes", "reached"), matched_bytes(path, target), strict=True))
                    for seed, path in whole.items()
                }
                for target in TARGETS
            },
        }
    return {**found, "_about": {**provenance(), "note": NOTE}}


def kept(fit: Fit, arguments: argparse.Namespace) -> dict[str, Any] | None:
    return fit.row(arguments.folder) if fit.path(arguments.folder).exists() else None


if __name__ == "__main__":
    main()
