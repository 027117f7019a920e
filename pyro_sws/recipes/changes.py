"""A recipe's table as it stands in the file, and single keys of it changed. Nothing is checked."""

import copy
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pyro_sws.inference.likelihoods import LIKELIHOODS
from pyro_sws.inference.priors import PRIORS
from pyro_sws.inference.priors.sites import SlabSpec
from pyro_sws.recipes.tables import SHORT, RuleKeys, Table, hints_of
from pyro_sws.recipes.validation import check, keys_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Change: TypeAlias = tuple[str, object, str]  # path, value, and how the error begins that names both
TOML = "recipe.toml"  # in a run folder
MOST_NESTED = 50  # tables and lists in one another; recipes have five or so
TOO_DEEP = f"it is nested too deeply: at most {MOST_NESTED} tables and lists in one another"
LOGGER = logging.getLogger("pyro_sws")
# Keys that mean the same in every family of slabs, whatever their default.
OF_SLABS = {"slabs", *(name for name in vars(SlabSpec) if not name.startswith("_"))}


def read_table(path: str | os.PathLike, changes: Sequence[str] = ()) -> Table:
    """A recipe's table as it stands in the file, with the changes made in it, not yet checked.

    Keys that another family leaves out are logged as a warning.
    """
    if isinstance(changes, str):
        raise TypeError(f"changes must be a list of 'key=value', got the text {changes!r}")
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, not a recipe; name a TOML file, such as its {TOML}"
        )
    if not path.exists():
        raise FileNotFoundError(f"no recipe {path}: there is no such file")
    try:
        table = _parsed_toml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    if dropped := put_all(table, map(_parsed, changes)):
        LOGGER.warning("%s left out: the new family has none of that meaning", ", ".join(dropped))
    return table


def _parsed_toml(text: str) -> Table:
    """Raises ValueError for what is no TOML, or is nested deeper than any recipe."""
    try:
        table = tomllib.loads(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    # Dotted keys nest without brackets: the parser takes any number of them, who walks them not.
    layer: list[object] = [table]
    for _ in range(MOST_NESTED):
        held = (each for each in layer if isinstance(each, dict | list))
        layer = [v for each in held for v in (each.values() if isinstance(each, dict) else each)]
    if layer:
        raise ValueError(TOO_DEEP)
    return table


def _parsed(change: str) -> Change:
    """The change that "a.0.b=value" means; the value is TOML, or a string where it is not."""
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"--set {change!r}: write key=value, such as prior.0.slabs=32")
    try:
        value = _parsed_toml(f"value = {text}")["value"]
    except ValueError:
        value = text
    return path.strip(), value, f"--set {change!r}"


def put_all(table: Table, changes: Iterable[Change]) -> list[str]:
    """Put values into a recipe's table, in order; see ``put``. Returns the keys that went.

    Where one of them is another ``family`` for a prior or the likelihood, keys go that do not mean
    the same in the family before it, but for those that are put here, too.
    """
    changes, before, gone = list(changes), copy.deepcopy(table), list[str]()
    for path, value, where in changes:
        put(table, path, value, where)
    paths = [path for path, _, _ in changes]
    for path in paths:
        place, _, last = path.rpartition(".")
        if last == "family" and re.fullmatch(r"prior\.\d+|likelihood", place):
            gone += _leave_out(_at(table, place), _at(before, place), place, paths)
    return gone


def _leave_out(
    spec: Table, before: Table | str | None, place: str, paths: Sequence[str]
) -> list[str]:
    """Of a spec whose family is new, leave out what was there for the old one and is not put."""
    if not isinstance(before, dict) or before.get("family") == spec["family"]:
        return []
    put_here = {path[len(place) + 1 :].split(".")[0] for path in paths if path.startswith(place)}
    families, beside = (LIKELIHOODS, ()) if place == "likelihood" else (PRIORS, keys_of(RuleKeys))
    # The keys of a family of one's own are not known before its file is run: all others go.
    old, new = (families.get(str(each.get("family"))) for each in (before, spec))
    stay = {"family", *beside, *put_here}
    gone = [
        key
        for key, value in before.items()
        if key not in stay and not _means_the_same(key, value, old, new)
    ]
    for key in gone:
        del spec[key]
    return [f"{place}.{key}" for key in gone]


def _means_the_same(key: str, value: object, old: type | None, new: type | None) -> bool:
    """Whether two families have a key of one meaning: of slabs, or of one type and default."""
    if old is None or new is None or not {key} <= {*keys_of(old)} & {*keys_of(new)}:
        return False
    kinds = [hints_of(family).get(key) for family in (old, new)]
    if kinds[0] == kinds[1]:
        return key in OF_SLABS or getattr(old(), key) == getattr(new(), key)
    if key not in OF_SLABS:
        return False
    try:
        check(kinds[1], value)  # type: ignore[arg-type]  # an annotation
    except ValueError:
        return False
    return True


def _at(table: Table, place: str) -> Any:
    """What is at "prior.0" or "likelihood"; None where there is nothing."""
    key, _, index = place.partition(".")
    found = table.get(key)
    if not index:
        return found
    return found[int(index)] if isinstance(found, list) and int(index) < len(found) else None


def put(table: Table, path: str, value: object, where: str) -> None:
    """Put a value into a recipe's table at the path "a.0.b"; missing tables are made.

    Raises ValueError, beginning with ``where``, for a path through what is no table, or no index.
    """
    *parents, last = path.split(".")
    node: Table | list = table
    if parents[:1] == ["prior"] and "prior" not in table:
        raise ValueError(
            f"{where}: there is no [[prior]] to change, and the run takes its default; write a "
            "[[prior]] with its family into the recipe, such as family = 'spike_and_slabs'"
        )
    if parents and isinstance(table.get(parents[0]), str):  # the short form of a table
        if parents[0] in SHORT:
            table[parents[0]] = {SHORT[parents[0]]: table[parents[0]]}
    for key in parents:
        node = _step(node, key, where)
    if isinstance(node, list):
        node[_index(node, last, where)] = value
    else:
        node[last] = value


def _step(node: Table | list, key: str, where: str) -> Table | list:
    if isinstance(node, list):
        return node[_index(node, key, where)]
    inner = node.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise ValueError(f"{where}: {key!r} is {inner!r}, not a table")
    return inner


def _index(node: list, key: str, where: str) -> int:
    if not key.isdecimal() or int(key) >= len(node):
        raise ValueError(f"{where}: {key!r} is no index; use 0..{len(node) - 1}")
    return int(key)
