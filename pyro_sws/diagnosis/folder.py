"""What ``pyro-sws diagnose`` adds to a run folder: trees, figures, a part of its page. A driver."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr
from matplotlib.figure import Figure

from pyro_sws.assess.diagnostics import FORMAT, Diagnostics, MixtureDiagnostics, MixtureRow
from pyro_sws.assess.draws.inference_data import inference_data, load_netcdf, save_netcdf
from pyro_sws.assess.draws.scalar_draws import scalar_draws
from pyro_sws.assess.figures.calibration import calibration_figure
from pyro_sws.assess.figures.draws import forest, pairs, ranks, trace
from pyro_sws.assess.figures.style import as_png
from pyro_sws.assess.point.restarts import AgreementSummary, Restart, agreement
from pyro_sws.assess.report.page import Picture
from pyro_sws.diagnosis.diagnostics import (
    Nuts,
    calibrations,
    describe_mixture,
    leave_one_out_score,
    mixtures,
    network,
    point_diagnostics,
    stages,
    without_network,
)
from pyro_sws.diagnosis.subject import quantized_of, subject_of
from pyro_sws.files import write_whole
from pyro_sws.inference.progress import Callback
from pyro_sws.runs.folder import writing
from pyro_sws.runs.page import DIAGNOSTICS, write_page, write_pictures
from pyro_sws.runs.reading import check_finished
from pyro_sws.runs.run import Run

Drawn = dict[str, tuple[Figure, str]]  # by name: a figure and its caption
SHOWN = 6  # scalars that are drawn one by one: the worst known
PAIRED = 4
MOST_ROWS = 60  # of one picture


def diagnose(
    folder: str | os.PathLike,
    *,
    recipe: str | os.PathLike | None = None,
    nuts: Nuts | None = None,
    restarts: Sequence[str | os.PathLike] = (),
    data_dir: str | None = None,
    progress: Callback | None = None,
) -> Diagnostics:
    """Diagnose the run in ``folder``; return what its diagnostics/diagnostics.json then holds.

    Writes there mixture.nc and network.nc (netCDF, for ArviZ), figures, and diagnostics.json last,
    and the run's report.html anew. Draws by NUTS that are there already are kept.

    Args:
        folder: of a finished run.
        recipe: the recipe whose network and data may be run, such as the one in the folder. Without
            it nothing is run, and what needs the network is left out: the costs of snapping,
            calibration, the network's tree.
        nuts: sample the mixtures, unless the folder has draws of the same settings; by default
            Laplace's approximation is made.
        restarts: folders of other fits of the same trained network.
        data_dir: for the recipe's data function.
        progress: is told of each chain's draws.

    Raises:
        TypeError: for a Run in place of its folder.
        ValueError: for a folder without a finished run, a recipe of another network or prior, and
            as ``load_data`` does.
        OSError: for a folder that cannot be written; as BlockingIOError, which says who, for one
            that another process is writing.
    """
    if isinstance(folder, Run):
        raise TypeError(
            "diagnose writes into a run folder: run.save('runs/mine'), then diagnose('runs/mine'); "
            "to_arviz takes the run itself"
        )
    check_finished(Path(folder))
    with writing(Path(folder), overwrite=True):
        return _diagnose(Path(folder), recipe, nuts, restarts, data_dir, progress)


def _diagnose(
    place: Path,
    recipe: str | os.PathLike | None,
    nuts: Nuts | None,
    restarts: Sequence[str | os.PathLike],
    data_dir: str | None,
    progress: Callback | None,
) -> Diagnostics:
    others = [Path(other) for other in restarts]
    run, again = Run.open(place), [Run.open(other) for other in others]
    if len({each.resolve() for each in (place, *others)}) <= len(others):
        raise ValueError("restarts must be other folders than the run's own, each given once")
    subject = subject_of(run, None if recipe is None else Path(recipe), data_dir)
    target = place / DIAGNOSTICS

    def keep(name: str, tree: xr.DataTree) -> None:
        if nuts is not None:  # minutes of sampling, that nothing which fails later may lose
            target.mkdir(exist_ok=True)
            save_netcdf(tree, target / f"{name}.nc")

    kept = {name: tree for name, tree in _kept(target).items() if _serves(tree, nuts)}
    trees, without = mixtures(subject, nuts, kept=kept, progress=progress, made=keep)
    trees_all = trees if without_network(subject) else {**trees, "network": network(subject)}
    predicted = stages(subject)
    fits = dict(zip(map(str, (place, *others)), (run, *again), strict=True))
    diagnostics: Diagnostics = {
        "format": FORMAT,
        "guide": subject.guide,
        **point_diagnostics(subject),
        "mixture": {name: describe_mixture(tree) for name, tree in trees.items()},
        "without_mixture": without,
        "without_network": without_network(subject),
        "calibration": None if predicted is None else calibrations(predicted),
        "leave_one_out": leave_one_out_score(subject),
        "restarts": _restarts(fits) if others else None,
    }
    figures = _figures(trees, diagnostics["mixture"])
    if predicted is not None:
        caption = "Calibration before and after compression, on the same examples."
        figures["calibration"] = calibration_figure(predicted), caption
    drawn = {name: (as_png(figure), caption) for name, (figure, caption) in figures.items()}
    _write(place, diagnostics, trees_all, drawn)
    return diagnostics


def _write(
    folder: Path,
    diagnostics: Diagnostics,
    trees: Mapping[str, xr.DataTree],
    drawn: Mapping[str, Picture],
) -> None:
    """Remove an older diagnostics.json first and write the new one last: no mixture of two is left.

    The page is made from these files, so it is written after them.
    """
    target = folder / DIAGNOSTICS
    target.mkdir(exist_ok=True)
    (target / "diagnostics.json").unlink(missing_ok=True)
    for name, tree in trees.items():
        save_netcdf(tree, target / f"{name}.nc")
    write_pictures(target, drawn)
    for old in [*target.glob("*.nc"), *target.glob("*.png")]:
        if old.stem not in {**trees, **drawn}:
            old.unlink()
    write_whole(target / "diagnostics.json", json.dumps(diagnostics, indent=2) + "\n")
    write_page(folder)


def _kept(target: Path) -> dict[str, xr.DataTree]:
    """The mixtures' draws in the folder; a file that cannot be read is left out."""
    trees = {}
    for path in sorted(target.glob("mixture*.nc")):
        try:
            trees[path.stem] = load_netcdf(path)
        except OSError:
            continue
    return trees


def _serves(tree: xr.DataTree, nuts: Nuts | None) -> bool:
    """Whether draws by NUTS in the folder are those that ``nuts`` asks for; None takes any."""
    if tree.attrs.get("inference_method") != "nuts":
        return False
    if nuts is None:
        return True
    sizes = tree["posterior"].sizes if "posterior" in tree else {}
    there = (*map(sizes.get, ("chain", "draw")), *map(tree.attrs.get, ("warmup", "seed")))
    return there == (nuts.chains, nuts.draws, nuts.warmup, nuts.seed)


def _restarts(runs: Mapping[str, Run]) -> AgreementSummary:
    fits = {name: Restart(run.report.to_dict(), quantized_of(run)) for name, run in runs.items()}
    return agreement(fits).to_dict()


def _figures(
    trees: Mapping[str, xr.DataTree], summaries: Mapping[str, MixtureDiagnostics]
) -> Drawn:
    drawn: Drawn = {}
    for name, tree in trees.items():
        rows, method = summaries[name]["rows"], summaries[name]["method"]
        for variable in ("means", "deviations"):
            own = [row for row in rows if row["name"].startswith(f"{variable}[")][:MOST_ROWS]
            if own:
                caption = f"The {variable} of the components given the weights ({method})."
                drawn[f"{name}_{variable}"] = forest(_scalars(tree, own)), caption
        caption = "Some of the least known hyperparameters against each other."
        drawn[f"{name}_pairs"] = pairs(_scalars(tree, _least_known(rows, PAIRED))), caption
        if method == "nuts":
            worst = _scalars(tree, _least_known(rows, SHOWN))
            caption = "Draws of those that the chains agree on least; each chain has a colour."
            drawn[f"{name}_trace"] = trace(worst), caption
        if method == "nuts" and summaries[name]["chains"] > 1:
            caption = (
                "How the ranks of each chain's draws are spread: within the band, if they mix."
            )
            drawn[f"{name}_ranks"] = ranks(worst), caption
    return drawn


def _least_known(rows: Sequence[MixtureRow], count: int) -> Sequence[MixtureRow]:
    """Those of the largest R-hat, or else of the largest deviation for their size."""

    def doubt(row: MixtureRow) -> tuple[float, float]:
        mean, deviation = row["mean"], row["sd"]
        relative = deviation / abs(mean) if deviation and mean else math.inf
        return row["r_hat"] or 0, relative

    return sorted(rows, key=doubt)[-count:]


def _scalars(tree: xr.DataTree, rows: Sequence[MixtureRow]) -> xr.DataTree:
    """The rows' scalars alone, each a variable."""
    scalars = scalar_draws(tree)
    draws = {row["name"]: scalars.values[..., scalars.labels.index(row["name"])] for row in rows}
    return inference_data({"posterior": draws}, inference_method=tree.attrs["inference_method"])
