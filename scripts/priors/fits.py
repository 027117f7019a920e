"""One fit of a study of priors as one row, kept and not run again."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyro_sws as sws
from pyro_sws.compression.execute import execute
from pyro_sws.files import write_whole
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import load_checkpoint, named_parts
from pyro_sws.runs.inputs import build_network, load_data, measured_batches, training_batches
from scripts.shared.starts import held_out, start

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


@dataclass(frozen=True)
class Fit:
    """One fit of a study: a [[prior]] table, tau, seed, and whether choices depend on it."""

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
        """Where its row is kept: a name for all that it depends on."""
        key = json.dumps([vars(self), RECIPES[self.network][1]], sort_keys=True)
        return folder / f"{self.network}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.json"

    def _fitted(self, data_dir: str | None) -> dict[str, Any]:
        path, changes, validation = RECIPES[self.network]
        validation = validation if self.held_out else 0
        tables = [f"prior.0={_toml(self.prior)}"]
        more = [*changes, *tables, *self.changes, *held_out(validation)]
        plan = read_recipe(path, [*more, f"tau={self.tau}", f"seed={self.seed}"])
        network, data = named_parts(plan)
        splits = load_data(data, data_dir)
        net = build_network(network, plan.seed)
        load_checkpoint(net, start(path, self.seed, validation, data_dir).resolve())
        began = time.process_time()
        train = training_batches(data, splits, data.batch_size)
        scored = splits["validation" if self.held_out else "test"]
        given = sws.Data(train, test=measured_batches(scored))
        result = execute(replace(plan, network=net, data=given))
        return {**_kept(result), "cpu_seconds": round(time.process_time() - began, 1)}


def _kept(result: sws.Run) -> dict[str, Any]:
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


def _toml(value: Any) -> str:
    """A value as TOML writes it within a line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
