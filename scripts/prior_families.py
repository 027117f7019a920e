"""One fit of a study of priors as one row, kept and not run again; bytes at matched error."""

import argparse
import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from study_starts import held_out, start

import pyro_sws as sws
from pyro_sws.files import write_whole
from pyro_sws.inference.batches import Batches
from pyro_sws.recipe import read_recipe
from pyro_sws.runs import HANDED_ON, build_network, load_data, load_start

# A fifth of the recipe's epochs, with rates to match; weights that move fast go along when the
# components narrow, and little is lost at snapping.
LENET = [
    "epochs=12",
    "prior_subsample=0.015625",
    "rates.weights=8e-3",
    "rates.means=5e-4",
    "rates.precisions=6e-3",
    "rates.proportions=6e-3",
]
DIGITS = ["epochs=40", "rates.weights=1e-2", "rates.means=4e-4"]
RECIPES: dict[str, tuple[Path, list[str], int]] = {  # recipe, changes, images held out for choices
    "lenet_300_100": (Path("models/plain/lenet_300_100.toml"), LENET, 5000),
    "digits": (Path("models/plain/digits.toml"), DIGITS, 300),
}


NOTE = "Every fit ran on one thread, two or more side by side on a busy machine: seconds are rough."


@dataclass(frozen=True)
class Fit:
    """One fit of a study: a [[prior]] table, tau, seed, and whether choices hang on it."""

    network: str
    prior: Mapping[str, Any]
    tau: float
    seed: int = 0
    held_out: bool = False  # scored on images held out of the training data, not on the test data
    changes: tuple[str, ...] = ()

    def row(self, folder: Path, data_dir: str | None = None) -> dict[str, Any]:
        """What the fit gave; from ``folder``, where it was fitted before."""
        path = self.path(folder)
        if path.exists():
            return json.loads(path.read_text())
        row = {**vars(self), "changes": list(self.changes), **self._fitted(data_dir)}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(row) + "\n")
        return row

    def path(self, folder: Path) -> Path:
        """Where its row is kept: a name for all that it hangs on."""
        key = json.dumps([vars(self), RECIPES[self.network][1]], sort_keys=True)
        return folder / f"{self.network}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"

    def _fitted(self, data_dir: str | None) -> dict[str, Any]:
        path, changes, validation = RECIPES[self.network]
        validation = validation if self.held_out else 0
        tables = [f"prior.0={_toml(self.prior)}"]
        more = [*changes, *tables, *self.changes, *held_out(validation)]
        recipe = read_recipe(path, [*more, f"tau={self.tau}", f"seed={self.seed}"])
        settings = recipe.settings
        data = load_data(recipe, data_dir)
        net = build_network(recipe)
        load_start(net, start(path, self.seed, validation, data_dir).resolve())
        began = time.process_time()
        result = sws.compress(
            net,
            Batches(*data["train"], settings.batch_size),
            test=Batches(*data["validation" if self.held_out else "test"], 1000, shuffle=False),
            prior=recipe.prior,
            likelihood=recipe.likelihood,
            tau=settings.tau,
            prior_subsample=settings.prior_subsample,
            **{key: getattr(settings, key) for key in HANDED_ON},
        )
        return {**_kept(result), "cpu_seconds": round(time.process_time() - began, 1)}


def _kept(result: sws.Result) -> dict[str, Any]:
    report = result.report.to_dict()
    groups = report["groups"].values()
    return {
        "file_bytes": report["file_bytes"],
        "error_percent": report["score"]["decoded"],
        "error_unsnapped_percent": report["score"]["posterior"],
        "error_before_percent": report["score"]["before"],
        "nonzero_percent": report["nonzero_percent"],
        "description_bits": report["description"]["total_bits"],
        "components": sum(group["components"] for group in groups),
        "used_components": sum(group["used_components"] for group in groups),
        "effective_components": round(sum(g["effective_components"] for g in groups), 2),
        "fit_seconds": round(report["seconds"]["fit"], 1),
    }


def matched_bytes(rows: Sequence[Mapping[str, Any]], error_percent: float) -> tuple[float, bool]:
    """File bytes where a path over tau has this error, and whether the path reaches it.

    Error and log bytes are straight lines in log tau, fitted by least squares: neighbouring points
    of a path differ by less than an error's standard error.
    """
    taus = np.log([row["tau"] for row in rows])
    errors = np.array([row["error_percent"] for row in rows])
    slope, at_zero = np.polyfit(taus, errors, 1)
    tau = (error_percent - at_zero) / slope
    line = np.polyfit(taus, np.log([row["file_bytes"] for row in rows]), 1)
    reached = slope > 0 and errors.min() <= error_percent <= errors.max()
    return float(np.exp(np.polyval(line, tau))), bool(reached)


def _toml(value: Any) -> str:
    """A value as TOML writes it within a line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def add_arguments(parser: argparse.ArgumentParser, folder: Path, out: Path) -> None:
    """Those that every study of priors has."""
    parser.add_argument("--part", default="0/1", help="i/n: every n-th fit, from the i-th on")
    parser.add_argument("--data-dir", help="folder with the data")
    parser.add_argument("--folder", type=Path, default=folder, help="where fits are kept")
    parser.add_argument("--out", type=Path, default=out)


def run_part(fits: Iterable[Fit], arguments: argparse.Namespace) -> None:
    """Run a process's share of the fits, on one thread: studies run side by side, one a core."""
    torch.set_num_threads(1)
    first, step = map(int, arguments.part.split("/"))
    for fit in list(fits)[first::step]:
        print(json.dumps(fit.row(arguments.folder, arguments.data_dir)), flush=True)
