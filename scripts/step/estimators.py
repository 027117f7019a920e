"""What cheaper steps do to the file (benchmark.py has their time): several ways, over seeds.

    python scripts/step/estimators.py models/plain/lenet_300_100.toml --seeds 0 1 2

Writes docs/results/estimators.json: {way: [a row a seed]}. All start from one pre-trained network;
the seeds differ in the order of the batches and in what is sampled. Rows that are there already are
kept unless the same way and seed run again.
``equation_13`` is the estimator as Ullrich et al. 2017 (app. C) write it down, without the slopes
that take its noise away.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pyro_sws import MixturePrior, SpikeAndSlabs
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json

WAYS = {
    "exact": [],
    "prior_subsample 1/16": ["prior_subsample=0.0625"],
    "prior_subsample 1/64": ["prior_subsample=0.015625"],
    "equation_13, 1/16": [
        "prior_subsample=0.0625",
        f'prior.0.family="{Path(__file__).resolve()}:WithoutSlopes"',
    ],
    "hyperparameters_every 4": ["hyperparameters_every=4"],
}


@dataclass(frozen=True)
class Bare(MixturePrior):
    """A density that knows no slopes."""

    approximate_slopes = None  # type: ignore[assignment]


@dataclass(frozen=True)
class WithoutSlopes(SpikeAndSlabs):
    """The same prior; estimates from a sample of the weights are those of equation 13."""

    def __call__(self, group):
        return Bare(super().__call__(group).mixture)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--data-dir", help="folder with the data")
    parser.add_argument("--folder", type=Path, default=Path("runs/estimators"))
    parser.add_argument("--out", type=Path, default=RESULTS / "estimators.json")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for way in arguments.ways:
            row = measured(arguments, way, seed)
            print(json.dumps({"way": way, **row}), flush=True)
            record(arguments.out, way, row)
    summarise(json.loads(arguments.out.read_text()))


def measured(arguments: argparse.Namespace, way: str, seed: int) -> dict:
    """One run; the very first trains the network that all of them start from."""
    start = arguments.folder / "start" / "trained.safetensors"
    if not start.exists():
        first = read_recipe(arguments.recipe, ["epochs=1"])
        run_recipe(first, start.parent, overwrite=True, data_dir=arguments.data_dir)
    changes = [f"seed={seed}", f"start={json.dumps(str(start.resolve()))}", *WAYS[way]]
    folder = arguments.folder / f"{''.join(c if c.isalnum() else '_' for c in way)}-{seed}"
    recipe = read_recipe(arguments.recipe, changes)
    result = run_recipe(recipe, folder, overwrite=True, data_dir=arguments.data_dir)
    report = result.report.to_dict()
    return {
        "seed": seed,
        "file_bytes": report["file_bytes"],
        "error_percent": report["score"]["decoded"],
        "nonzero_percent": report["nonzero_percent"],
    }


def record(path: Path, way: str, row: dict) -> None:
    results = json.loads(path.read_text()) if path.exists() else {}
    rows = [r for r in results.get(way, []) if r["seed"] != row["seed"]] + [row]
    results[way] = sorted(rows, key=lambda r: r["seed"])
    results["_about"] = provenance()
    write_json(path, results)


def summarise(results: dict) -> None:
    """Print each way beside the exact one, over the seeds that both have."""
    exact = {row["seed"]: row for row in results.get("exact", [])}
    for way, rows in results.items():
        if way == "_about":
            continue
        pairs = [(row, exact[row["seed"]]) for row in rows if row["seed"] in exact]
        if pairs:
            ratio = fmean(row["file_bytes"] / base["file_bytes"] for row, base in pairs)
            error = fmean(row["error_percent"] - base["error_percent"] for row, base in pairs)
            print(f"{way:28} bytes x{ratio:.3f}  error {error:+.2f} points")


if __name__ == "__main__":
    main()
