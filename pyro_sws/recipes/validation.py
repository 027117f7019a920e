"""Specs from tables: frozen dataclasses validated by pydantic, with errors that name the key."""

import dataclasses
import difflib
import json
import types
import typing
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pyro_sws.suggestions import nearest


def validated(cls: Any, table: Any, where: str, extra_keys: Sequence[str] = ()) -> Any:
    """``cls`` from its table, by pydantic. Raises ValueError: the key's path, what was there."""
    known = (*keys_of(cls), *extra_keys)
    for key in table:  # before pydantic, which lets them pass in a user's own dataclass
        if key not in known:
            raise ValueError(f"{_join(where, [])}{_unknown(key, known)}")
    try:
        # TOML has types, so "3" and true are no numbers. Only JSON is strict and yet takes tables.
        spec = TypeAdapter(cls).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        raise ValueError(_complaint(error.errors(), cls, table, where)) from None
    _check_keys(spec, table, [], where)
    return spec


def as_table(value: Any) -> Any:
    """Dataclasses as tables, without what is None (TOML has no null)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: as_table(v) for name, v in pairs if v is not None}
    if isinstance(value, Mapping):
        return {key: as_table(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [as_table(v) for v in value]
    return value


def keys_of(cls: Any) -> list[str]:
    return sorted(f.name for f in dataclasses.fields(cls) if f.init)


def _check_keys(spec: Any, given: Any, names: list[str], where: str) -> None:
    """Raise ValueError for a key that a user's own dataclass, inside another, does not have."""
    if isinstance(given, list) and isinstance(spec, tuple | list):
        inner = [(str(i), pair) for i, pair in enumerate(zip(spec, given, strict=False))]
    elif isinstance(given, dict) and isinstance(spec, Mapping):
        inner = [(key, (spec.get(key), value)) for key, value in given.items()]
    elif isinstance(given, dict) and dataclasses.is_dataclass(spec):
        known = keys_of(spec)
        for key in given:
            if key not in known:
                raise ValueError(f"{_join(where, names)}{_unknown(key, known)}")
        inner = [(key, (getattr(spec, key, None), value)) for key, value in given.items()]
    else:
        return
    for key, (part, value) in inner:
        _check_keys(part, value, [*names, key], where)


def _complaint(errors: Sequence[Any], cls: type, table: Any, where: str) -> str:
    """One of pydantic's errors; of a union's, one about the branch that the value fits best."""
    found = {id(e): _locate(cls, table, e["loc"]) for e in errors}
    errors = [e for e in errors if found[id(e)].meant] or errors
    rank = {"unexpected_keyword_argument": 3, "missing": 2, "value_error": 1}
    in_branch = Counter(e["loc"][:-1] for e in errors)

    def fits(e: Any) -> tuple[int, int, int]:
        return rank.get(e["type"], 0), -in_branch[e["loc"][:-1]], len(e["loc"])

    worst = max(errors, key=fits)
    names, owner = found[id(worst)].names, found[id(worst)].owner
    if worst["type"] == "unexpected_keyword_argument":
        return f"{_join(where, names[:-1])}{_unknown(names[-1], keys_of(owner))}"
    if worst["type"] == "missing":
        keys = ", ".join(keys_of(owner))
        return f"{_join(where, names[:-1])}missing key {names[-1]!r}; it has {keys}"
    if worst["type"] == "value_error":
        message = worst["msg"].removeprefix("Value error, ")
        path = _join(where, names)
        return message if message.startswith(path.removesuffix(": ") + ".") else path + message
    alike = [e for e in errors if found[id(e)].names == names]
    wanted = " or ".join(dict.fromkeys(map(_wanted, alike)))
    return f"{_join(where, names)}must be {wanted}, got {worst['input']!r}"


def _wanted(error: Any) -> str:
    """What a key should hold, in a recipe's own words."""
    if error["type"] == "literal_error":
        return error["ctx"]["expected"]
    if error["type"] == "dataclass_type":
        return f"a {error['ctx']['class_name']} table"
    words = {
        "bool": "true or false",
        "float": "a number",
        "int": "a whole number",
        "string": "a string",
        "tuple": "a list",
        "dict": "a table",
    }
    kind = error["type"].split("_")[0]
    return words.get(kind) or error["msg"].removeprefix("Input should be ")


@dataclasses.dataclass(frozen=True)
class _Location:
    """Where an error lies, in a recipe's own terms."""

    names: list[str]  # the key's path, without the names of union branches
    owner: Any  # the dataclass that its end is in
    meant: bool  # whether the value looks as if it were meant for the error's branch


def _locate(cls: Any, table: Any, loc: Sequence[Any]) -> _Location:
    """Follow pydantic's path through the types and, beside them, through what was given."""
    names: list[str] = []
    owner, place, value, meant = cls, cls, table, True
    for part in loc:
        branches = _branches(place)
        if len(branches) > 1:
            place = next((b for b in branches if _label(b) == str(part).partition("[")[0]), None)
            meant = meant and place in _likely(branches, value)
            continue
        place = branches[0] if branches else place
        origin, args = typing.get_origin(place), typing.get_args(place)
        if dataclasses.is_dataclass(place):
            owner, place = place, typing.get_type_hints(place).get(part)
        elif isinstance(part, int):
            each = Ellipsis in args or part >= len(args)
            place = (args or (None,))[0 if each else part]
        elif origin is not None and issubclass(origin, Mapping):
            place = args[-1]
        else:  # nothing that a recipe names
            continue
        names.append(str(part))
        at_hand = isinstance(value, list) if isinstance(part, int) else isinstance(value, dict)
        value = value[part] if at_hand and _has(value, part) else None
    return _Location(names, owner, meant)


def _has(value: Any, part: Any) -> bool:
    return part in value if isinstance(value, dict) else part < len(value)


def _branches(place: Any) -> list[Any]:
    """What a union may be, but for None, which pydantic's paths leave out; else none."""
    if typing.get_origin(place) not in (typing.Union, types.UnionType):
        return []
    return [branch for branch in typing.get_args(place) if branch is not type(None)]


def _label(branch: Any) -> str:
    """How pydantic's paths name a branch, up to its first bracket."""
    origin = typing.get_origin(branch)
    if origin is typing.Literal:
        return "literal"
    if origin is not None and issubclass(origin, Mapping):
        return "dict"
    return getattr(origin or branch, "__name__", "")


def _likely(branches: Sequence[Any], value: Any) -> Sequence[Any]:
    """Those that a value can have been meant for: of the tables the one with the nearest keys."""
    specs = [branch for branch in branches if dataclasses.is_dataclass(branch)]
    if isinstance(value, dict) and specs:
        return [max(specs, key=lambda spec: _nearness(spec, value))]
    lists = [branch for branch in branches if _label(branch) in ("tuple", "list", "Sequence")]
    return lists if isinstance(value, list) and lists else branches


def _nearness(spec: Any, table: Mapping[str, Any]) -> tuple[float, int]:
    """How much of the table's keys a dataclass has, about; then, how few of its own are missing."""
    known = keys_of(spec)
    ratios = [[difflib.SequenceMatcher(None, key, k).ratio() for k in known] for key in table]
    missing = [f for f in dataclasses.fields(spec) if f.name not in table and _required(f)]
    return sum(max(row, default=0.0) for row in ratios), -len(missing)


def _required(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _unknown(key: str, known: Sequence[str]) -> str:
    listed = ", ".join(sorted(known)) or "none"
    return f"unknown key {key!r}{nearest(key, known)}; known are {listed}"


def _join(where: str, names: Sequence[str]) -> str:
    path = ".".join(([where] if where else []) + list(names))
    return f"{path}: " if path else ""
