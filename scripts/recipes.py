"""Run recipes over seeds and write what they give to docs/results/recipes.json.

    python scripts/recipes.py models/digits.toml --seeds 0 1 2

Rows of the same recipe, start and seed are replaced, all others stay. Then
``python scripts/update_tables.py`` writes the tables in README.md and docs from that file.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time
from pathlib import Path

import torch

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from scripts.shared.provenance import command

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "recipes.json"
KEPT = ("parameters", "parameter_bytes", "file_bytes", "ratio", "ratio_paper", "nonzero_percent")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--start", help="safetensors to start from, instead of pre-training")
    parser.add_argument("--data-dir", help="folder with the data")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the run folders")
    arguments = parser.parse_args()
    for recipe in arguments.recipes:
        for seed in arguments.seeds:
            row = measure(recipe, seed, arguments)
            record(row)
            print(json.dumps(row))


def measure(path: Path, seed: int, arguments: argparse.Namespace) -> dict:
    """One run, as a row of the results."""
    name = path.resolve().relative_to(ROOT / "models").with_suffix("").as_posix()
    changes = [f"seed={seed}"]
    start = None
    if arguments.start:
        start = Path(arguments.start).name
        changes.append(f"start={json.dumps(str(Path(arguments.start).resolve()))}")
    folder = arguments.out / f"{name.replace('/', '-')}-{seed}"
    began = time.perf_counter()
    recipe = read_recipe(path, changes)
    result = run_recipe(recipe, folder, overwrite=True, data_dir=arguments.data_dir)
    report = result.report.to_dict()
    return {
        "recipe": name,
        "start": start,
        "seed": seed,
        **{key: report[key] for key in KEPT},
        "score": report["score"],
        "certificate": report["certificate"],
        "order0_entropy_bytes": report["bounds"]["order0_entropy_bits"] / 8,
        "seconds": round(time.perf_counter() - began, 1),
        "command": command(),
        "date": datetime.date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{platform.machine()}",
        "versions": report["versions"],
    }


def record(row: dict) -> None:
    rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    keys = ("recipe", "start", "seed")
    rows = [r for r in rows if any(r[key] != row[key] for key in keys)] + [row]
    rows.sort(key=lambda r: tuple(str(r[key]) for key in keys))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
