"""A recipe's table as it stands in the file, and single keys of it changed. Nothing is checked."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pyro_sws.recipes.tables import SHORT, Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_table(path: str | os.PathLike, changes: Sequence[str] = ()) -> Table:
    """A recipe's table as it stands in the file, with the changes made in it, not yet checked."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    for change in changes:
        _change(table, change)
    return table


def _change(table: Table, change: str) -> None:
    """Apply "a.0.b=value" to the table; the value is TOML, or a string where it is not."""
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"--set {change!r}: write key=value, such as prior.0.slabs=32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    put(table, path.strip(), value, f"--set {change!r}")


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
