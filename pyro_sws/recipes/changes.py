"""A recipe's table as it stands in the file, and single keys of it changed. Nothing is checked."""

import copy
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pyro_sws.inference.likelihoods import LIKELIHOODS
from pyro_sws.inference.priors import PRIORS
from pyro_sws.recipes.tables import SHORT, RuleKeys, Table
from pyro_sws.recipes.validation import keys_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Change: TypeAlias = tuple[str, object, str]  # path, value, and how the error begins that names both
TOML = "recipe.toml"  # in a run folder


def read_table(path: str | os.PathLike, changes: Sequence[str] = ()) -> Table:
    """A recipe's table as it stands in the file, with the changes made in it, not yet checked."""
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
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    put_all(table, map(_parsed, changes))
    return table


def _parsed(change: str) -> Change:
    """The change that "a.0.b=value" means; the value is TOML, or a string where it is not."""
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"--set {change!r}: write key=value, such as prior.0.slabs=32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    return path.strip(), value, f"--set {change!r}"


def put_all(table: Table, changes: Iterable[Change]) -> None:
    """Put values into a recipe's table, in order; see ``put``.

    Where one of them is another ``family`` for a prior or the likelihood, the keys that only the
    family before it had go, but for those that are put here, too.
    """
    changes, before = list(changes), copy.deepcopy(table)
    for path, value, where in changes:
        put(table, path, value, where)
    paths = [path for path, _, _ in changes]
    for path in paths:
        place, _, last = path.rpartition(".")
        if last == "family" and re.fullmatch(r"prior\.\d+|likelihood", place):
            _leave_out(_at(table, place), _at(before, place), place, paths)


def _leave_out(spec: Table, before: Table | str | None, place: str, paths: Sequence[str]) -> None:
    """Of a spec whose family is new, leave out what was there for the old one and is not put."""
    if not isinstance(before, dict) or before.get("family") == spec["family"]:
        return
    put_here = {path[len(place) + 1 :].split(".")[0] for path in paths if path.startswith(place)}
    families, beside = (LIKELIHOODS, ()) if place == "likelihood" else (PRIORS, keys_of(RuleKeys))
    # The keys of a family of one's own are not known before its file is run: all others go.
    new = families.get(spec["family"]) if isinstance(spec["family"], str) else None
    stay = {"family", *beside, *put_here, *(keys_of(new) if new is not None else ())}
    for key in before.keys() - stay:
        del spec[key]


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
