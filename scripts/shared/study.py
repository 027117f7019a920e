"""What the studies share: runs that are kept and shared among processes, bytes at one error."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

TITLES = {"lenet_300_100": "LeNet-300-100", "lenet_5_caffe": "LeNet-5-Caffe"}
# What LeNet-300-100's recipe said until a search found better: some results are of that.
BEFORE_SEARCH = (
    "rates.weights=8e-3",
    "rates.means=5e-4",
    "rates.precisions=6e-3",
    "rates.proportions=6e-3",
    "refinement.rates.weights=2e-3",
    "refinement.rates.means=1e-3",
    "prior.0.slabs=16",
    "prior.0.zero_proportion=0.999",
    "prior.0.slab_precision={shape=250.0,rate=0.1}",
    "prior.0.start_deviation=0.1",
)
NOTE = "Every fit ran on one thread, two or more side by side on a busy machine: seconds are rough."


class Kept(Protocol):
    """Something to run whose row is kept in a folder, from which a later call takes it."""

    def row(self, folder: Path, data_dir: str | None = None) -> dict[str, Any]: ...


def add_arguments(parser: argparse.ArgumentParser, folder: Path, out: Path) -> None:
    """Those that every study has."""
    parser.add_argument("--part", default="0/1", help="i/n: every n-th run, from the i-th on")
    parser.add_argument("--data-dir", help="folder with the data")
    parser.add_argument("--folder", type=Path, default=folder, help="where runs are kept")
    parser.add_argument("--out", type=Path, default=out)


def run_part(runs: Iterable[Kept], arguments: argparse.Namespace) -> None:
    """A process's share of the runs, on one thread: studies run side by side, one a core."""
    torch.set_num_threads(1)
    first, step = map(int, arguments.part.split("/"))
    for run in list(runs)[first::step]:
        print(json.dumps(run.row(arguments.folder, arguments.data_dir)), flush=True)


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
