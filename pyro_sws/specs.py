"""Specs from tables: frozen dataclasses validated by pydantic, with errors that name the key."""

import dataclasses
import difflib
import json
import typing
from collections import Counter
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError


def validated(cls: Any, table: Any, where: str, extra_keys: Sequence[str] = ()) -> Any:
    """``cls`` from its table, by pydantic. Raises ValueError: the key's path, what was there."""
    known = (*keys_of(cls), *extra_keys)
    for key in table:  # before pydantic, which lets them pass in a user's own dataclass
        if key not in known:
            raise ValueError(f"{_join(where, [])}{_unknown(key, known)}")
    try:
        # TOML has types, so "3" and true are no numbers. Only JSON is strict and yet takes tables.
        return TypeAdapter(cls).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        raise ValueError(_complaint(error.errors(), cls, where)) from None


def as_table(value: Any) -> Any:
    """Dataclasses as tables, without what is None (TOML has no null)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: as_table(v) for name, v in pairs if v is not None}
    if isinstance(value, tuple | list):
        return [as_table(v) for v in value]
    return value


def keys_of(cls: Any) -> list[str]:
    return sorted(f.name for f in dataclasses.fields(cls) if f.init)


def nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _complaint(errors: Sequence[Any], cls: type, where: str) -> str:
    """One of pydantic's errors; of a union's the one about the branch that fits best."""
    rank = {"unexpected_keyword_argument": 3, "missing": 2, "value_error": 1}
    in_branch = Counter(e["loc"][:-1] for e in errors)

    def fits(e: Any) -> tuple[int, int, int]:
        return rank.get(e["type"], 0), -in_branch[e["loc"][:-1]], len(e["loc"])

    worst = max(errors, key=fits)
    names, owner = _locate(cls, worst["loc"])
    if worst["type"] == "unexpected_keyword_argument":
        return f"{_join(where, names[:-1])}{_unknown(names[-1], keys_of(owner))}"
    if worst["type"] == "missing":
        keys = ", ".join(keys_of(owner))
        return f"{_join(where, names[:-1])}missing key {names[-1]!r}; it has {keys}"
    if worst["type"] == "value_error":
        message = worst["msg"].removeprefix("Value error, ")
        path = _join(where, names)
        return message if message.startswith(path.removesuffix(": ") + ".") else path + message
    alike = [e for e in errors if _locate(cls, e["loc"])[0] == names]
    wanted = " or ".join(dict.fromkeys(map(_wanted, alike)))
    return f"{_join(where, names)}must be {wanted}, got {worst['input']!r}"


def _wanted(error: Any) -> str:
    """What a key should hold, in a recipe's own words."""
    if error["type"] == "literal_error":
        return error["ctx"]["expected"]
    if error["type"] == "dataclass_type":
        return f"a {error['ctx']['class_name']} table"
    words = {"float": "a number", "int": "a whole number", "string": "a string", "tuple": "a list"}
    kind = error["type"].split("_")[0]
    return words.get(kind) or error["msg"].removeprefix("Input should be ")


def _locate(cls: Any, loc: Sequence[Any]) -> tuple[list[str], Any]:
    """Pydantic's path without the names of union branches, and the dataclass that its end is in."""
    names: list[str] = []
    owner, place = cls, cls
    for part in loc:
        if dataclasses.is_dataclass(place):
            owner, names = place, [*names, str(part)]
            place = typing.get_type_hints(place).get(part)
        elif isinstance(part, int):
            names.append(str(part))
        else:
            branches = typing.get_args(place)
            place = next((b for b in branches if getattr(b, "__name__", None) == part), None)
    return names, owner


def _unknown(key: str, known: Sequence[str]) -> str:
    listed = ", ".join(sorted(known)) or "none"
    return f"unknown key {key!r}{nearest(key, known)}; known are {listed}"


def _join(where: str, names: Sequence[str]) -> str:
    path = ".".join(([where] if where else []) + list(names))
    return f"{path}: " if path else ""
