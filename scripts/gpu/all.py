"""Run on a GPU whatever the tests and benchmarks can run there: one command, one folder of JSON.

    python scripts/gpu/all.py --out docs/results/gpu    # some minutes; needs CUDA

The tests of tests/test_cuda.py against the CPU, the density's benchmark, and the digits' recipe and
a walk on the CPU and on the GPU side by side. Without a GPU it says so, writes nothing, and exits
with 2.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from scripts.shared.provenance import provenance
from scripts.shared.results import ROOT, write_json

SHORT = ["pretraining.epochs=20", "epochs=20", "refinement.epochs=20"]
RECIPES = {"digits": SHORT, "diabetes": ["budget={passes=100,minutes=1000}"]}


def tests() -> dict[str, Any]:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "tests/test_cuda.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {"returncode": done.returncode, "summary": done.stdout.strip().splitlines()[-1]}


def density(out: Path) -> int:
    command = [sys.executable, "scripts/density/benchmark.py", "--out", str(out)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def recipe(name: str, changes: list[str], device: str) -> dict[str, Any]:
    plan = read_recipe(ROOT / "models" / f"{name}.toml", [*changes, f"device={device}"])
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = run_recipe(plan, folder, overwrite=True)
        seconds = time.perf_counter() - began
    score, stages = run.report.score, dict(run.report.seconds)
    row = {"recipe": name, "device": device, "seconds": seconds, "stages": stages}
    return row | {"bytes": len(run.data), "before": score["before"], "decoded": score["decoded"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "gpu")
    given = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing was measured", file=sys.stderr)
        sys.exit(2)
    given.out.mkdir(parents=True, exist_ok=True)
    tested = tests()
    print(tested["summary"], flush=True)
    failed = density(given.out / "density.json")
    rows = []
    for name, changes in RECIPES.items():
        for device in ("cpu", "cuda", "cpu", "cuda"):  # the first of each compiles
            rows.append(recipe(name, changes, device))
            print(rows[-1], flush=True)
    write_json(given.out / "all.json", {**provenance("cuda"), "tests": tested, "recipes": rows})
    sys.exit(bool(tested["returncode"] or failed))


if __name__ == "__main__":
    main()
