"""Checked tables: pydantic's verdict on a type and a table, in one line that names the key."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np
from pydantic import Tag, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pyro_sws.suggestions import nearest

T = TypeVar("T")
Kind: TypeAlias = Any  # what an annotation may be
Errors = Sequence[ErrorDetails]
UNKNOWN, MISSING = "unexpected_keyword_argument", "missing"
WORDS = {  # for what pydantic asks for, by the first word of an error's type
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "string": "a string",
    "tuple": "a list",
    "list": "a list",
    "dict": "a table",
}


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Beside an annotation: what its key must be, in a recipe's words, and names in that."""

    words: str
    names: tuple[str, ...] = ()


def check(kind: type[T], table: object, where: str = "") -> T:
    """A table as the value of its type. Raises ValueError: the key's path, what was there."""
    adapter: TypeAdapter[T] = _adapter(kind)  # type: ignore[arg-type]
    try:
        # TOML has types, so "3" and true are no numbers. Only JSON is strict and yet takes tables.
        return adapter.validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        raise ValueError(_complaint(error.errors(), kind, table, where)) from None


@contextmanager
def at_key(where: str) -> Iterator[None]:
    """ValueErrors inside begin with the key where they arose."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def as_table(value: object) -> Any:
    """Dataclasses as tables, without what is None (TOML has no null)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: as_table(v) for name, v in pairs if v is not None}
    if isinstance(value, Mapping):
        return {key: as_table(v) for key, v in value.items()}
    if isinstance(value, tuple | list):
        return [as_table(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def keys_of(cls: type) -> list[str]:
    """The keys of a dataclass's table, sorted; none of what is no dataclass."""
    fields = dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ()
    return sorted(f.name for f in fields if f.init)


@lru_cache
def _adapter(kind: Kind) -> TypeAdapter:
    return TypeAdapter(kind)


def _complaint(errors: Errors, kind: Kind, value: object, path: str) -> str:
    """What is wrong with a value, in one line: errors are followed down to one, key by key.

    The errors' own paths are relative to the value. Of a union's branches the one is followed that
    the value fits best.
    """
    if not all(e["loc"] for e in errors):
        return _value_complaint(errors, kind, value, path)
    branches = _branches(kind)
    if len(branches) > 1:
        label = _best_branch(errors)
        if label not in branches:
            return _value_complaint(errors, kind, value, path)
        return _complaint(_below(errors, label), branches[label], value, path)
    [only] = branches.values()
    for wrong in (UNKNOWN, MISSING):
        for error in errors:
            if len(error["loc"]) == 1 and error["type"] == wrong:
                return _key_complaint(wrong, str(error["loc"][0]), only, path)
    part = errors[0]["loc"][0]
    inside, below = _kind_at(only, part), _below(errors, part)
    if isinstance(value, dict) and part in value:
        return _complaint(below, inside, value[part], f"{path}.{part}".removeprefix("."))
    if isinstance(value, list) and isinstance(part, int):
        return _complaint(below, inside, value[part], f"{path}[{part}]")
    return _value_complaint(errors, kind, value, path)  # of a key that should be no string, say


def _key_complaint(wrong: str, key: str, kind: Kind, path: str) -> str:
    known = [k for k in keys_of(kind) if k != "family"]
    listed = ", ".join(known) or "none"
    start = f"{path}: " if path else ""
    if wrong == UNKNOWN:
        return f"{start}unknown key {key!r}{nearest(key, known)}; known are {listed}"
    has = f"it has {listed}" if path else "a recipe has network and data"
    return f"{start}missing key {key!r}; {has}"


def _value_complaint(errors: Errors, kind: Kind, value: object, path: str) -> str:
    """Of a value that fits no branch, or whose own check says no."""
    error = errors[0]
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return message if message.startswith(f"{path}.") else f"{path}: {message}"
    if error["type"].startswith("union_tag"):
        return _family_complaint(kind, value, path, error["type"] == "union_tag_invalid")
    literals = [get_args(k) for k in _branches(kind).values() if get_origin(k) is Literal]
    wanted = _wanted(kind) or Wanted(
        " or ".join(dict.fromkeys(filter(None, map(_asked, errors)))),
        tuple(name for names in literals for name in names if isinstance(name, str)),
    )
    hint = nearest(value, wanted.names) if isinstance(value, str) else ""
    return f"{path}: must be {wanted.words}, got {value!r}{hint}"


def _family_complaint(kind: Kind, value: object, path: str, unknown: bool) -> str:
    """Of a table that is for none of the families, which are told apart by tags."""
    tags = _branches(kind)
    known = sorted(name for name in tags if name.isidentifier())
    family = value.get("family") if isinstance(value, dict) else value
    if unknown:
        own = [f", or name your own as {name!r}" for name in tags if ":" in name]
        return (
            f"{path}: unknown family {family!r}{nearest(str(family), known)}; "
            f"choose from {', '.join(known)}{''.join(own[:1])}"
        )
    if not isinstance(value, dict):
        return f"{path}: must be a table, got {value!r}"
    if "family" not in value:
        return f"{path}: missing key 'family'; choose from {', '.join(known)}"
    return f"{path}.family: must be a string, got {family!r}"


def _asked(error: ErrorDetails) -> str | None:
    """What a key should hold, in a recipe's own words; None for what nobody writes by hand."""
    if error["type"] == "literal_error":
        return error["ctx"]["expected"]
    if error["type"] == "dataclass_type":
        name = error["ctx"]["class_name"]
        return None if name == "MadeInPython" else f"a {name} table"
    if error["type"] == "string_pattern_mismatch":
        return "'file.py:function'"
    return WORDS.get(error["type"].split("_")[0]) or error["msg"].removeprefix("Input should be ")


def _best_branch(errors: Errors) -> str:
    """The branch of a union whose type the value has, and fewest wrong keys; "" for no branch."""
    wrong_keys: dict[str, int] = {}
    for error in errors:
        label, *inside = error["loc"]
        if inside or error["type"] == "value_error":
            is_key = len(inside) == 1 and error["type"] in (UNKNOWN, MISSING)
            wrong_keys[_name(label)] = wrong_keys.get(_name(label), 0) + is_key
    return min(wrong_keys, key=lambda label: wrong_keys[label], default="")


def _below(errors: Errors, part: str | int) -> list[ErrorDetails]:
    """The errors inside one part, relative to it."""
    inside = [e for e in errors if part in (e["loc"][0], _name(e["loc"][0]))]
    return [{**e, "loc": e["loc"][1:]} for e in inside]


def _name(label: str | int) -> str:
    """A branch's name in pydantic's paths: "tuple" of "tuple[float, ...]"."""
    return str(label).partition("[")[0]


def _branches(kind: Kind) -> dict[str, Kind]:
    """What an annotation may be, but for None, by the name that pydantic's paths have."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *marks = get_args(kind)
        tags = [mark.tag for mark in marks if isinstance(mark, Tag)]
        return {tags[0]: inner} if tags else _branches(inner)
    if origin in (Union, UnionType):
        parts = [_branches(k) for k in get_args(kind) if k is not NoneType]
        return {name: branch for part in parts for name, branch in part.items()}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"dict": kind}
    return {"literal" if origin is Literal else getattr(origin or kind, "__name__", ""): kind}


def _wanted(kind: Kind) -> Wanted | None:
    """What is said beside an annotation, or beside the only one that None is an alternative to."""
    if get_origin(kind) is Annotated:
        return next((mark for mark in get_args(kind) if isinstance(mark, Wanted)), None)
    others = [k for k in get_args(kind) if k is not NoneType]
    return _wanted(others[0]) if len(others) == 1 else None


def _kind_at(kind: Kind, part: str | int) -> Kind:
    """The annotation of one key of a table, or of what a list holds."""
    if dataclasses.is_dataclass(kind):
        return get_type_hints(kind, include_extras=True).get(str(part), Any)
    args = get_args(kind) or (Any,)
    if isinstance(part, int):
        return args[0 if Ellipsis in args else min(part, len(args) - 1)]
    return args[-1]
