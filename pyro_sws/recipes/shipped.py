"""Recipes that come with the package, and what they name: listed, and copied to a folder.

In a wheel they are inside the package; in a checkout they are the folder ``models`` beside it.
"""

import ast
import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from pyro_sws.files import write_whole
from pyro_sws.suggestions import nearest

PACKAGE = Path(__file__).parents[1]


def folder() -> Path:
    """Where they are. Raises FileNotFoundError for an installation without them."""
    places = PACKAGE / "models", PACKAGE.parent / "models"
    for place in places:
        if (place / "digits.toml").is_file():
            return place
    raise FileNotFoundError(f"this installation has no recipes: there is no {places[0]}")


def recipes() -> dict[str, str]:
    """What each is, in the first sentence of its file, by its name, such as "paper/lenet_5"."""
    place = folder()
    paths = sorted(place.rglob("*.toml"))
    return {path.relative_to(place).with_suffix("").as_posix(): _sentence(path) for path in paths}


def recipe_path(name: str) -> Path:
    """The file of a recipe that is shipped. Raises ValueError for an unknown name."""
    known = recipes()
    if name not in known:
        hint = nearest(name, [*known]) or f"; there are {', '.join(known)}"
        raise ValueError(f"no recipe is called {name!r}{hint}")
    return folder() / f"{name}.toml"


def files_of(name: str) -> list[Path]:
    """A recipe's file, those that it names, and those that they import from beside them."""
    recipe = recipe_path(name)
    found, left = [recipe], list(_named(recipe))
    while left:
        path = left.pop(0)
        if path not in found:
            found.append(path)
            left += _imported(path)
    return found


def copy(name: str, to: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy a recipe and what it needs to a folder. The new files, the recipe first.

    Raises:
        ValueError: for an unknown name, and a file that is there, unless ``overwrite``.
        OSError: for a folder that cannot be written.
    """
    place, wanted = folder(), files_of(name)
    targets = [to / path.relative_to(place) for path in wanted]
    there = [str(target) for target in targets if target.exists()]
    if there and not overwrite:
        raise ValueError(f"{', '.join(there)} would be lost; choose another --out, or --overwrite")
    for path, target in zip(wanted, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, path.read_bytes())
    return targets


def _sentence(recipe: Path) -> str:
    lines = recipe.read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.lstrip("# ") for line in takewhile(lambda own: own[:1] == "#", lines))
    return re.split(r"(?<=\.)\s", comment, maxsplit=1)[0].rstrip(".")


def _named(recipe: Path) -> Iterator[Path]:
    for name in re.findall(r'"([\w./]+\.py):\w+"', recipe.read_text(encoding="utf-8")):
        yield (recipe.parent / name).resolve()


def _imported(path: Path) -> list[Path]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 1]
    return [path.with_name(f"{name}.py") for name in names if name]
