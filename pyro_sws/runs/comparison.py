"""Runs side by side: what each prior's file costs, in one table and one picture. A driver."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from matplotlib.figure import Figure

from pyro_sws.assess.figures.comparison import FittedWeights, fitted_densities
from pyro_sws.assess.figures.style import as_png
from pyro_sws.assess.report.shapes import Description
from pyro_sws.compression.plan import Plan
from pyro_sws.files import write_whole
from pyro_sws.inference.progress import Callback, part_of
from pyro_sws.recipes.recipe import read_recipe, to_toml
from pyro_sws.runs.differences import differences, prior_texts
from pyro_sws.runs.execute import load_network, run_recipe
from pyro_sws.runs.folder import check_folder, writing
from pyro_sws.runs.run import Run
from pyro_sws.runs.swap import REPORT, whole
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import WeightPrior, unscaled


class ScoreRow(TypedDict):
    """A run's score, before compression and of the decoded file."""

    name: str
    unit: str
    data: str
    examples: int
    before: float
    decoded: float


class Row(TypedDict):
    """What comparison.json has of a run."""

    run: str
    folder: str | None
    prior: str
    file_bytes: int
    ratio: float
    score: ScoreRow
    description: Description
    error_cost_nats: float
    mixture_cross_entropy_bits: float
    symbol_bits: int
    effective_components: dict[str, float]
    fit_seconds: float


class Table(TypedDict):
    """The whole of comparison.json."""

    runs: list[Row]
    notes: list[str]


COLUMNS: dict[str, Callable[[Row], str]] = {  # of the table: heading -> cell
    "prior": lambda row: row["prior"],
    "bytes": lambda row: f"{row['file_bytes']:,}",
    "ratio": lambda row: f"{row['ratio']:.1f}x",
    "score before": lambda row: _score(row["score"], "before"),
    "decoded": lambda row: _score(row["score"], "decoded"),
    "total description: file + labels, bits": lambda row: (
        "{total_bits:,.0f} = {file_bits:,} + {label_bits:,.0f}".format(**row["description"])
    ),
    "error cost as fitted, nats": lambda row: f"{row['error_cost_nats']:,.1f}",
    "fitted mixture as the code, bits": lambda row: f"{row['mixture_cross_entropy_bits']:,.0f}",
    "symbols in the file, bits": lambda row: f"{row['symbol_bits']:,}",
    "effective components": lambda row: _by_group(row["effective_components"]),
    "fit, seconds": lambda row: f"{row['fit_seconds']:,.1f}",
}

FITTING = ("fit", "refine", "walk")  # stages of a run


@dataclass(frozen=True, eq=False)
class Comparison:
    """One row a run, in the order in which they were given.

    Runs are never ranked by -ELBO, which is not even in it: at a point estimate -log p(weights) is
    a density and no length, and its value depends on a prior's units and widths. What can be set
    side by side are the file's bytes, and the total description of the training targets: file and
    labels.
    """

    rows: tuple[Row, ...]
    notes: tuple[str, ...]  # what else differs, so that not all is the prior's doing
    fits: Mapping[str, Mapping[str, FittedWeights]]  # run -> group -> what the picture shows

    def to_dict(self) -> Table:
        """What comparison.json holds."""
        return {"runs": list(self.rows), "notes": list(self.notes)}

    def cells(self) -> dict[str, list[str]]:
        """Heading -> one cell a run, for whoever lays out the table."""
        return {heading: list(map(cell, self.rows)) for heading, cell in COLUMNS.items()}

    def markdown(self) -> str:
        """The table with its notes and the picture, as comparison.md."""
        cells = {"run": [row["run"] for row in self.rows], **self.cells()}
        lines = [list(cells), ["---"] * len(cells), *map(list, zip(*cells.values(), strict=True))]
        table = ["| " + " | ".join(map(_escaped, line)) + " |" for line in lines]
        notes = [f"- {note}" for note in self.notes]
        picture = "![Retrained weights and fitted densities, run by run](comparison.png)"
        parts = ["\n".join(table), *(["\n".join(notes)] if notes else []), picture]
        return "\n\n".join(parts) + "\n"

    def figure(self) -> Figure:
        """The fitted densities over the retrained weights, one panel a run."""
        return fitted_densities(self.fits)

    def save(self, folder: str | os.PathLike) -> None:
        """Write comparison.md, comparison.png and comparison.json, each whole or not at all."""
        folder = Path(folder)
        contents: dict[str, bytes | str] = {
            "comparison.png": as_png(self.figure()),
            "comparison.md": self.markdown(),
            "comparison.json": json.dumps(self.to_dict(), indent=2) + "\n",
        }
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_whole(folder / name, content)


def compare(runs: Sequence[Run | str | os.PathLike]) -> Comparison:
    """Set finished runs, or their folders, side by side.

    Reads the folders, runs nothing that their recipes name, and computes nothing anew but the
    picture. Runs of different networks, data or settings are compared too, and the notes say so.
    A run is called by its folder's name; one in memory "run 1", by its place.

    Args:
        runs: two or more runs, such as ``compress`` returns, or run folders.

    Raises:
        ValueError: for fewer than two runs, the same folder twice, a folder without a finished run,
            and a report from before reports had a total description.
    """
    _check_count(runs)
    named = dict(zip(_names(runs), map(_opened, runs), strict=True))
    priors = prior_texts([run.plan.prior for run in named.values()])
    rows = [_row(name, named[name], prior) for name, prior in zip(named, priors, strict=True)]
    for row, given in zip(rows, runs, strict=True):
        row["folder"] = None if isinstance(given, Run) else str(given)
    fits = {name: _fits(run) for name, run in named.items()}
    return Comparison(tuple(rows), tuple(differences(named)), fits)


def run_all(
    paths: Sequence[Path],
    folder: Path,
    *,
    data_dir: str | None = None,
    callback: Callback | None = None,
) -> list[Path]:
    """A run folder for each path, a run folder or a recipe; recipes run into ``folder``/<stem>.

    A finished run that is there already is kept if its recipe.toml says the same; the files that a
    recipe names are not compared. ``callback`` is told of each epoch, within
    the recipe's stem. Raises, before anything is run, ValueError for fewer than two paths, a folder
    without a run, two recipes of one stem and a place that is taken, OSError where none can be
    written; and whatever ``run_recipe`` raises.
    """
    _check_count(paths)
    check_folder(folder)
    planned: list[tuple[Path, Plan | None]] = []
    for path in paths:
        if path.is_dir():
            _opened(path)
            planned.append((path, None))
            continue
        place, plan = folder / path.stem, read_recipe(path)
        if place in [other for other, _ in planned]:
            raise ValueError(f"two runs would lie in {place}; give the recipes different names")
        planned.append((place, plan if _is_to_be_run(plan, place) else None))
    for place, to_run in planned:
        if to_run is not None:
            told = part_of(place.name, callback)
            run_recipe(to_run, place, data_dir=data_dir, callback=told)
    return [place for place, _ in planned]


def _is_to_be_run(plan: Plan, place: Path) -> bool:
    """Whether there is no run of this recipe in the place. Raises where there is something else."""
    if not (whole(place) / REPORT).is_file():
        with writing(place, overwrite=False):
            return True
    run = _opened(place)
    expected = plan if plan.prior else plan.with_prior(load_network(plan)[0])
    if to_toml(run.plan, place) != to_toml(expected, place):
        raise ValueError(
            f"{place} holds a run of another recipe; compare that folder itself, or choose another "
            "--out"
        )
    return False


def _opened(run: Run | str | os.PathLike) -> Run:
    return run if isinstance(run, Run) else Run.open(run)


def _check_count(runs: Sequence[object]) -> None:
    if not isinstance(runs, Sequence) or isinstance(runs, str):
        raise TypeError(f"compare takes a list of runs and run folders, got {type(runs).__name__}")
    for i, run in enumerate(runs):
        if not isinstance(run, Run | str | os.PathLike):
            raise TypeError(
                f"runs[{i}] must be a Run, such as compress returns, or a run folder, got a "
                f"{type(run).__name__}"
            )
    if len(runs) < 2:
        raise ValueError(f"there must be two or more runs to compare, got {len(runs)}")


def _row(name: str, run: Run, prior: str) -> Row:
    report, score = run.report, run.report.score
    return {
        "run": name,
        "folder": None,
        "prior": prior,
        "file_bytes": report.file_bytes,
        "ratio": report.ratio,
        "score": {
            "name": score["name"],
            "unit": score["unit"],
            "data": score["data"],
            "examples": score["examples"],
            "before": score["before"],
            "decoded": score["decoded"],
        },
        "description": report.description,
        "error_cost_nats": report.error_cost_nats,
        "mixture_cross_entropy_bits": report.bounds["mixture_cross_entropy_bits"],
        "symbol_bits": report.bits["symbols"],
        "effective_components": {
            group: row["effective_components"] for group, row in report.groups.items()
        },
        "fit_seconds": sum(report.seconds.get(stage, 0.0) for stage in FITTING),
    }


def _fits(run: Run) -> dict[str, FittedWeights]:
    """By group the retrained weights, and the mixture that they were snapped by."""
    fits = {}
    for name, group in run.packed.groups.items():
        prior, weights = run.packed.priors[name], run.packed.point[weights_site(name)]
        unit = _one_scale(prior, group)
        if unit is None:
            weights = unscaled(prior, group, weights)
            fits[name] = FittedWeights(weights, prior.mixture, scaled=True)
            continue
        mixture = prior.mixture
        scaled = Mixture(unit * mixture.means, mixture.precisions / unit**2, mixture.proportions)
        fits[name] = FittedWeights(weights, scaled)
    return fits


def _one_scale(prior: WeightPrior, group: Group) -> float | None:
    """The one scale of all weights of a group, a mere unit then; None where they differ."""
    scales: set[float] = set()
    for part in group.slices.values():
        scale = prior.scale(part)
        scales |= {1.0} if scale is None else set(scale.unique().tolist())
    return scales.pop() if len(scales) == 1 else None


def _names(runs: Sequence[Run | str | os.PathLike]) -> list[str]:
    """The folders' own names, or their paths where two are the same."""
    folders = [None if isinstance(run, Run) else Path(run) for run in runs]
    numbered = [f"run {i + 1}" for i in range(len(runs))]
    short = [n if p is None else p.resolve().name for p, n in zip(folders, numbered, strict=True)]
    if len(set(short)) == len(short):
        return short
    paths = [n if p is None else str(p) for p, n in zip(folders, numbered, strict=True)]
    if len(set(paths)) < len(paths):
        raise ValueError(f"there must be different runs to compare, got {', '.join(paths)}")
    return paths


# The table's cells.


def _score(score: ScoreRow, key: Literal["before", "decoded"]) -> str:
    if score["unit"] == "percent":
        return f"{score[key]:.2f} % {score['name']}"
    named = dict.fromkeys([score["unit"], score["name"]])  # the bits of bits are said once
    return f"{score[key]:.4g} {' '.join(named)}"


def _by_group(values: Mapping[str, float]) -> str:
    if len(values) == 1:
        return "".join(f"{value:.1f}" for value in values.values())
    return ", ".join(f"{group} {value:.1f}" for group, value in values.items())


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
