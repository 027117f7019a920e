"""Install and test the package on every Python and with every set of versions that it may meet.

    python scripts/matrix.py                                 # all that is here; needs an index
    python scripts/matrix.py --pythons python3.11 --versions lowest --quick --with torch==2.13.0

A cell is a Python and a set of versions: "lowest", the lower bounds of pyproject.toml; "newest",
what pip finds; "pinned", constraints.txt. Each is a virtual environment of its own, in which the
default tests run, or with --quick those without whole runs. ``--with`` pins more, such as a build
of torch without CUDA. What a cell ran, and with which versions, is in the JSON.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from pyro_sws.recipes.recipe import tomllib
from scripts.shared.provenance import provenance
from scripts.shared.results import ROOT, write_json

PYTHONS = "python3.10", "python3.11", "python3.12", "python3.13"
VERSIONS = "lowest", "newest", "pinned"
TOLD = "torch", "pyro-ppl", "numpy", "scipy", "arviz", "safetensors", "pydantic", "matplotlib"
QUICK = "not slow and not integration"


def lowest() -> list[str]:
    """The lower bounds of what is needed, as pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [each for each in project["dependencies"] if "python_version" not in each]
    return [re.sub(r">=\s*", "==", each) for each in needed]


def pins(versions: str, more: Sequence[str]) -> list[str]:
    """Lines of a constraints file; those of ``more`` have the last word."""
    known = {"lowest": lowest, "newest": list, "pinned": _pinned}[versions]()
    said = {re.split(r"[=<> ]", each)[0] for each in more}
    return [each for each in known if re.split(r"[=<> ]", each)[0] not in said] + list(more)


def _pinned() -> list[str]:
    return (ROOT / "constraints.txt").read_text().splitlines()


def cell(
    python: str, versions: str, more: Sequence[str], quick: bool, made: Path
) -> dict[str, Any]:
    """What became of one: the first step that failed, or the tests' own summary."""
    row: dict[str, Any] = {
        "python": python,
        "versions": versions,
        "tests": "quick" if quick else "all",
    }
    own, constraints = made / "bin" / "python", made / "constraints.txt"
    steps = [[python, "-m", "venv", str(made)]]
    steps += [[str(own), "-m", "pip", "install", "-q", "-c", str(constraints), f"{ROOT}[dev]"]]
    marks = ["-m", QUICK] if quick else []
    # Old libraries beside new ones warn of each other: that is no fault here.
    told = ["-o", "filterwarnings=default"] if versions == "lowest" else []
    pytest = ["-m", "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider"]
    steps += [[str(own), *pytest, *told, *marks]]
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True, check=False)
        if step is steps[0]:
            constraints.write_text("\n".join(pins(versions, more)) + "\n")
        said = done.stdout if step is steps[-1] and done.stdout.strip() else done.stderr
        lines = said.strip().splitlines()
        row["said"] = lines[-1] if lines else ""
        if done.returncode:
            failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
            return row | {"passed": False, "at": step[2], "failed": failed[:20]}
        if step is steps[1]:
            row["installed"] = _installed(own)
    return row | {"passed": True}


def _runs(python: str) -> bool:
    """Whether it is here: a name on the path may be no more than a version manager's."""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "--version"], capture_output=True, check=False).returncode == 0


def _installed(python: Path) -> dict[str, str]:
    listed = subprocess.run(
        [str(python), "-m", "pip", "list", "--format", "json"], capture_output=True, check=True
    )
    return {e["name"]: e["version"] for e in json.loads(listed.stdout) if e["name"].lower() in TOLD}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pythons", nargs="+", default=PYTHONS)
    parser.add_argument("--versions", nargs="+", default=VERSIONS, choices=VERSIONS)
    parser.add_argument("--with", dest="more", nargs="+", default=[], help="more pins")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "matrix.json")
    given = parser.parse_args()
    rows = []
    for python in given.pythons:
        if not _runs(python):
            rows.append({"python": python, "passed": None, "said": "not on this machine"})
            continue
        for versions in given.versions:
            with tempfile.TemporaryDirectory() as made:
                rows.append(cell(python, versions, given.more, given.quick, Path(made)))
            print(rows[-1], flush=True)
    write_json(given.out, {**provenance(), "cells": rows})
    sys.exit(any(row["passed"] is False for row in rows))


if __name__ == "__main__":
    main()
