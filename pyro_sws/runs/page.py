"""The page of a run folder, written anew from what is in the folder and nothing else. A driver."""

import json
from collections.abc import Mapping
from pathlib import Path

from pyro_sws.assess.report.page import Picture, page
from pyro_sws.assess.report.shapes import check_format
from pyro_sws.files import read_json, write_whole

FIGURES = "figures"  # folders in the run's
DIAGNOSTICS = "diagnostics"  # what ``diagnose`` adds
CAPTIONS = "captions.json"  # beside pictures: name -> caption, in the order of the page


def write_page(folder: Path) -> None:
    """Write report.html, of report.json and what else there is: recipe, figures, diagnostics.

    Raises ValueError for a report of a newer format, OSError where there is none.
    """
    report = read_json(folder / "report.json")
    check_format(report)
    recipe, diagnostics = folder / "recipe.toml", folder / DIAGNOSTICS / "diagnostics.json"
    html = page(
        report,
        read_pictures(folder / FIGURES),
        recipe.read_text(encoding="utf-8") if recipe.is_file() else None,
        read_json(diagnostics) if diagnostics.is_file() else None,
        read_pictures(folder / DIAGNOSTICS),
    )
    write_whole(folder / "report.html", html)


def write_pictures(folder: Path, pictures: Mapping[str, Picture]) -> None:
    """PNG files by name into a folder that is there, and their captions beside them."""
    for name, (png, _) in pictures.items():
        write_whole(folder / f"{name}.png", png)
    captions = {name: caption for name, (_, caption) in pictures.items()}
    write_whole(folder / CAPTIONS, json.dumps(captions, indent=2, ensure_ascii=False) + "\n")


def read_pictures(folder: Path) -> dict[str, Picture]:
    """The pictures of a folder, with captions, in the order of ``write_pictures``.

    A picture without a caption, as folders of older versions have them, goes by its name, last.
    """
    captions = read_json(folder / CAPTIONS) if (folder / CAPTIONS).is_file() else {}
    there = {path.stem: path for path in sorted(folder.glob("*.png"))}
    order = [name for name in captions if name in there]
    order += [name for name in there if name not in captions]
    return {
        name: (there[name].read_bytes(), captions.get(name, name.replace("_", " ")))
        for name in order
    }
