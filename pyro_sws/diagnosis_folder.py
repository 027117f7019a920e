"""What ``pyro-sws diagnose`` adds to a run folder: trees, figures, a part of its page. A driver."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

from pyro_sws.assess.calibration_figure import calibration_figure
from pyro_sws.assess.diagnostics_page import with_diagnostics
from pyro_sws.assess.draws_figures import forest, pairs, ranks, trace
from pyro_sws.assess.figures import as_png
from pyro_sws.assess.inference_data import inference_data, load_netcdf, save_netcdf
from pyro_sws.assess.restarts import Restart, agreement
from pyro_sws.assess.scalar_draws import scalar_draws
from pyro_sws.diagnosis import (
    Nuts,
    Progress,
    calibrations,
    described,
    examined,
    left_out_one,
    mixtures,
    network,
    point_diagnostics,
    stages,
)
from pyro_sws.files import write_whole
from pyro_sws.run_folder import DIAGNOSTICS
from pyro_sws.runs import Run, open_run

Drawn = dict[str, tuple[Figure, str]]  # by name: a figure and its caption
SHOWN = 6  # scalars that are drawn one by one: the worst known
PAIRED = 4


def diagnose(
    folder: str | os.PathLike,
    *,
    nuts: Nuts | None = None,
    restarts: Sequence[str | os.PathLike] = (),
    data_dir: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Diagnose the run in ``folder``; return what its diagnostics/diagnostics.json then holds.

    Writes there mixture.nc and network.nc (netCDF, for ArviZ), figures, and diagnostics.json last,
    and gives the run's report.html its part on diagnostics. With ``nuts`` the mixtures are sampled,
    unless the folder has draws of the same settings; without, draws that are there are kept, and
    else Laplace's approximation is made. ``restarts`` are folders of other fits of the same trained
    network. Raises ValueError for a folder without a finished run, and as ``load_data`` does.
    """
    run = open_run(folder)
    subject = examined(run, data_dir)
    target = run.folder / DIAGNOSTICS
    kept = {name: tree for name, tree in _kept(target).items() if _serves(tree, nuts)}
    trees, left_out = mixtures(subject, nuts, kept=kept, progress=progress)
    of_network = network(subject)
    predicted = stages(subject)
    found: dict[str, Any] = {
        "guide": subject.guide,
        **point_diagnostics(subject),
        "mixture": {name: described(tree) for name, tree in trees.items()},
        "left_out": left_out,
        "calibration": None if predicted is None else calibrations(predicted),
        "leave_one_out": left_out_one(subject),
        "restarts": _restarts([run, *map(open_run, restarts)]) if restarts else None,
    }
    figures = _figures(trees, found["mixture"])
    if predicted is not None:
        caption = "Calibration before and after compression, on the same examples."
        figures["calibration"] = calibration_figure(predicted), caption
    page = with_diagnostics((run.folder / "report.html").read_text(), found, figures)
    target.mkdir(exist_ok=True)
    for name, tree in {**trees, "network": of_network}.items():
        save_netcdf(tree, target / f"{name}.nc")
    for old in target.glob("*.png"):
        old.unlink()
    for name, (figure, _) in figures.items():
        write_whole(target / f"{name}.png", as_png(figure))
    write_whole(run.folder / "report.html", page)
    write_whole(target / "diagnostics.json", json.dumps(found, indent=2) + "\n")
    return found


def _kept(target: Path) -> dict[str, xr.DataTree]:
    """The mixtures' draws that are there; a file that cannot be read is as good as none."""
    found = {}
    for path in sorted(target.glob("mixture*.nc")):
        try:
            found[path.stem] = load_netcdf(path)
        except OSError:
            continue
    return found


def _serves(tree: xr.DataTree, nuts: Nuts | None) -> bool:
    """Whether draws by NUTS that are there are the ones that are wanted."""
    if tree.attrs.get("inference_method") != "nuts":
        return False
    if nuts is None:
        return True
    sizes, attrs = tree["posterior"].sizes, tree.attrs
    there = sizes["chain"], sizes["draw"], attrs["warmup"], attrs["seed"]
    return there == (nuts.chains, nuts.draws, nuts.warmup, nuts.seed)


def _restarts(runs: Sequence[Run]) -> dict[str, Any]:
    fits = {str(run.folder): Restart(run.report, examined(run).quantized) for run in runs}
    return agreement(fits).to_dict()


def _figures(trees: Mapping[str, xr.DataTree], found: Mapping[str, Any]) -> Drawn:
    drawn: Drawn = {}
    for name, tree in trees.items():
        rows = found[name]["rows"]
        by_nuts = found[name]["method"] == "nuts"
        for variable in ("means", "deviations"):
            caption = (
                f"The {variable} of the components given the weights ({found[name]['method']})."
            )
            drawn[f"{name}_{variable}"] = forest(tree, [variable]), caption
        drawn[f"{name}_pairs"] = (
            pairs(_scalars(tree, rows, PAIRED)),
            ("Four of the least known hyperparameters against each other."),
        )
        if by_nuts:
            worst = _scalars(tree, rows, SHOWN)
            drawn[f"{name}_trace"] = (
                trace(worst),
                ("The draws of those that the chains agree on least; each chain has a colour."),
            )
            drawn[f"{name}_ranks"] = (
                ranks(worst),
                ("How the ranks of each chain's draws are spread: within the band, if they mix."),
            )
    return drawn


def _scalars(tree: xr.DataTree, rows: Sequence[Mapping[str, Any]], count: int) -> xr.DataTree:
    """The least known scalars, each a variable: the largest R-hat, or else the widest."""
    wide = sorted(rows, key=lambda row: (row["r_hat"] or 0, row["sd"] / abs(row["mean"])))
    names = [row["name"] for row in wide[-count:]]
    found = scalar_draws(tree)
    draws = {name: found.values[..., found.labels.index(name)] for name in names}
    return inference_data({"posterior": draws}, inference_method=tree.attrs["inference_method"])
