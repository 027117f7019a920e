"""How many components: fixed numbers against what chooses them, over seeds.

    python scripts/priors/components.py run --network digits
    python scripts/priors/components.py collect

A fixed J counts the spike. The Dirichlet process, the sparse Dirichlet and merging by description
set out from more slabs than are needed, three numbers of them each. Bytes are those at one error,
on the seeds' mean path over tau (see study.matched_bytes). Fits are kept in --folder and
not run again; with --part i/n, n processes share them. ``collect`` writes
docs/results/components.json.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.priors.fits import Fit
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json
from scripts.shared.study import NOTE, add_arguments, matched_bytes, run_part

TAUS = {"digits": (0.012, 0.03), "lenet_300_100": (0.1, 0.16)}
TARGETS = {"digits": 3.0, "lenet_300_100": 2.2}  # percent
SEEDS = (0, 1, 2, 3, 4)
FIXED = (3, 5, 9, 17, 33, 65)
TRUNCATIONS = (20, 50, 100)


def ways() -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """Way -> the prior's keys, and changes of the recipe."""
    found: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {}
    for j in FIXED:
        found[f"J = {j}"] = ({"family": "spike_and_slabs", "slabs": j - 1}, ())
    for t in TRUNCATIONS:
        process = {"family": "dirichlet_process", "truncation": t}
        sparse = {"family": "sparse_dirichlet", "slabs": t}
        paper = {"family": "spike_and_slabs", "slabs": t}
        found[f"Dirichlet process, {t}"] = (process, ())
        found[f"sparse Dirichlet, {t}"] = (sparse, ())
        found[f"merged by description, {t}"] = (paper, ('merge_by="description"',))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["run", "collect"])
    parser.add_argument("--network", choices=TAUS, default="digits")
    parser.add_argument("--ways", nargs="+", choices=ways(), default=list(ways()))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    add_arguments(parser, Path("runs/components"), RESULTS / "components.json")
    arguments = parser.parse_args()
    if arguments.stage == "collect":
        write_json(arguments.out, collected(arguments.folder))
        return
    run_part(fits(arguments), arguments)


def fits(arguments: argparse.Namespace) -> Iterator[Fit]:
    for seed in arguments.seeds:
        for tau in TAUS[arguments.network]:
            for way in arguments.ways:
                yield made(arguments.network, way, tau, seed)


def made(network: str, way: str, tau: float, seed: int) -> Fit:
    keys, changes = ways()[way]
    # The recipe's own hyperpriors and starting deviation, under whichever family.
    return Fit(network, {"group": "all", **KEPT_KEYS[network], **keys}, tau, seed, changes=changes)


KEPT_KEYS: dict[str, dict[str, Any]] = {
    "digits": {
        "spike_precision": {"shape": 5000.0, "rate": 0.25},
        "slab_precision": {"shape": 250.0, "rate": 0.025},
        "start_deviation": 0.05,
    },
    "lenet_300_100": {},
}


def collected(folder: Path) -> dict[str, Any]:
    """{network: {way: means over the seeds at the target's error, and a row a fit}}."""
    found: dict[str, Any] = {}
    for network in TAUS:
        for way in ways():
            paths = {seed: path_of(network, way, seed, folder) for seed in SEEDS}
            whole = {seed: path for seed, path in paths.items() if len(path) == len(TAUS[network])}
            if whole:
                found.setdefault(network, {})[way] = summary(network, whole)
    return {**found, "_about": {**provenance(), "note": NOTE}}


def path_of(network: str, way: str, seed: int, folder: Path) -> list[dict[str, Any]]:
    wanted = [made(network, way, tau, seed) for tau in TAUS[network]]
    return [fit.row(folder) for fit in wanted if fit.path(folder).exists()]


def summary(network: str, paths: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """Bytes at the target's error on the mean path; their deviation by leaving out a seed each."""
    target = TARGETS[network]
    size, reached = matched_bytes(mean_path(list(paths.values())), target)
    rows = [row for path in paths.values() for row in path]
    return {
        "target_error_percent": target,
        "seeds": list(paths),
        "bytes": round(size),
        "reached": reached,
        "bytes_without_seed": {
            str(seed): round(
                matched_bytes(mean_path([p for s, p in paths.items() if s != seed]), target)[0]
            )
            for seed in (paths if len(paths) > 1 else ())
        },
        "used_components": mean(rows, "used_components"),
        "effective_components": mean(rows, "effective_components"),
        "cpu_seconds": mean(rows, "cpu_seconds"),
        "path": mean_path(list(paths.values())),
        "rows": rows,
    }


def mean_path(paths: Sequence[Sequence[dict[str, Any]]]) -> list[dict[str, float]]:
    """A row a tau: errors averaged over the paths, bytes by the geometric mean."""
    return [
        {
            "tau": rows[0]["tau"],
            "error_percent": fmean(row["error_percent"] for row in rows),
            "file_bytes": geometric_mean(row["file_bytes"] for row in rows),
        }
        for rows in zip(*paths, strict=True)
    ]


def mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    return round(fmean(row[key] for row in rows), 2)


if __name__ == "__main__":
    main()
