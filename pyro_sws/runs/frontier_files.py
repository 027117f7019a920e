"""A frontier in a run's folder: a table, and each file that the walk met beside it."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from pyro_sws.compression.walk.frontier import Frontier, Point
from pyro_sws.files import read_json, write_whole

FAILED = "failed"  # in a folder where a run was to be
FOLDER, TABLE = "frontier", "frontier.json"
OWN = ("reference", "tolerance", "unit", "judged_on")  # of a frontier, beside its points


def write_frontier(frontier: Frontier, folder: Path) -> None:
    """Write the table last, into a folder of its own inside ``folder``."""
    (folder / FOLDER).mkdir(exist_ok=True)  # as one that was killed leaves it
    names = [field.name for field in fields(Point) if field.name != "data"]
    rows = []
    for point in frontier:
        name = f"{point.step:03d}.sws"
        write_whole(folder / FOLDER / name, point.data)
        rows.append({**{key: getattr(point, key) for key in names}, "file": name})
    table = {**{key: getattr(frontier, key) for key in OWN}, "points": rows}
    if frontier.objective is not None:
        table["objective"] = frontier.objective
    write_whole(folder / FOLDER / TABLE, json.dumps(table, indent=2) + "\n")


def write_failed(frontier: Frontier, given: Mapping[str, Tensor], folder: Path) -> None:
    """What is left where no file was within the tolerance: the nearest, all, and the network."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_frontier(folder)
    write_whole(folder / "trained.safetensors", save(dict(given)))
    write_whole(folder / "nearest.sws", frontier.nearest.data)
    write_frontier(frontier, folder)


def read_frontier(folder: Path) -> Frontier | None:
    """The frontier of a run's folder, or None. Raises ValueError for a damaged table."""
    path = folder / FOLDER / TABLE
    if not path.is_file():
        return None
    table = read_json(path)
    try:
        points = tuple(_point(row, folder / FOLDER) for row in table["points"])
        own = {key: table[key] for key in OWN}
        return Frontier(points, **own, objective=table.get("objective"))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: this is no frontier's table: {error!r}") from None


def _point(row: dict[str, Any], folder: Path) -> Point:
    name = Path(row["file"]).name  # of this folder, whatever the table says
    measured = {key: value for key, value in row.items() if key != "file"}
    return Point(**measured, data=(folder / name).read_bytes())


def frontier_files(own: Path) -> list[Path]:
    """An older run's in a frontier's folder, and nobody else's; the table last."""
    if not (own / TABLE).is_file():
        return []
    return [*own.glob("[0-9][0-9][0-9].sws"), own / TABLE]


def _remove_frontier(folder: Path) -> None:
    for path in frontier_files(folder / FOLDER):
        path.unlink()
