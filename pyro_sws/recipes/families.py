"""Families: the spec that a table of a recipe names by its ``family``, and the table of a spec."""

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w

from pyro_sws.inference.priors.custom import Custom
from pyro_sws.recipes.sources import Source, path_of
from pyro_sws.recipes.validation import as_table, keys_of, validated
from pyro_sws.suggestions import nearest


def spec_of(
    table: Any,
    families: Mapping[str, type],
    where: str,
    folder: Path,
    other_keys: Sequence[str] = (),
    functions: bool = False,
) -> Any:
    """A spec by its ``family``: a name in the table of families, or "file.py:Class".

    With ``functions`` also "file.py:function", which makes a Custom. ``other_keys`` are beside the
    family's own in the recipe, and already taken out of the table.
    """
    if not isinstance(table, dict):
        raise ValueError(f"{where}: must be a table, got {table!r}")
    if "family" not in table:
        raise ValueError(
            f"{where}: missing key 'family'; choose from {', '.join(sorted(families))}"
        )
    rest = dict(table)
    family = rest.pop("family")
    if not isinstance(family, str):
        raise ValueError(f"{where}.family: must be a string, got {family!r}")
    if family in families:
        return validated(families[family], rest, where, other_keys)
    own = "file.py:function" if functions else "file.py:Class"
    if ":" not in family:
        known = sorted(families)
        raise ValueError(
            f"{where}: unknown family {family!r}{nearest(family, known)}; "
            f"choose from {', '.join(known)}, or name your own as {own!r}"
        )
    found = function_at(family, f"{where}.family", folder)
    if isinstance(found, type) and dataclasses.is_dataclass(found):
        _check_keys(family, keys_of(found), ("family", *other_keys), where)
        return validated(found, rest, where, other_keys)
    if not functions:
        raise ValueError(f"{where}.family: {family} is no dataclass; its fields are the keys")
    if isinstance(found, type) or hasattr(found, "start"):
        raise ValueError(
            f"{where}.family: {family} is neither a dataclass nor a function; the fields of one or "
            "the arguments of the other are the keys"
        )
    return _custom(found, family, rest, where, folder, other_keys)


def spec_table(spec: Any, families: Mapping[str, type], folder: Path) -> dict[str, Any]:
    """The table of a spec, for a recipe in ``folder``.

    Raises ValueError for what no recipe can say.
    """
    names = {cls: name for name, cls in families.items()}
    if type(spec) in names:
        return {"family": names[type(spec)], **as_table(spec)}
    if not isinstance(spec, Custom):
        return {"family": path_of(type(spec), folder), **as_table(spec)}
    starts = {} if spec.starts is None else {"starts": path_of(spec.starts, folder)}
    return {"family": path_of(spec.function, folder), **starts, **_argument_table(spec)}


def function_at(path: str, where: str, folder: Path) -> Callable:
    """The function or class that a recipe names at the key ``where``."""
    if not all(path.rpartition(":")):
        raise ValueError(f"{where}: must be 'file.py:function', got {path!r}")
    try:
        return Source(path, {}, folder).function()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _custom(
    function: Callable,
    family: str,
    table: Mapping[str, Any],
    where: str,
    folder: Path,
    other_keys: Sequence[str],
) -> Custom:
    """The prior that a function is, the table's keys its arguments."""
    rest, starts = dict(table), None
    arguments = _arguments(function, rest.keys() - {"starts"})
    if arguments is None:
        raise ValueError(
            f"{where}.family: {family} takes no group; a prior's function takes it first"
        )
    _check_keys(family, keys_of(arguments), ("family", "starts", *other_keys), where)
    if "starts" in rest:
        path = rest.pop("starts")
        if not isinstance(path, str):
            raise ValueError(f"{where}.starts: must be a string, got {path!r}")
        starts = function_at(path, f"{where}.starts", folder)
    given = validated(arguments, rest, where, ("starts", *other_keys))
    return Custom(function, {key: getattr(given, key) for key in rest}, starts)


def _arguments(function: Callable, given: Iterable[str]) -> type | None:
    """A function's arguments after the group, as the fields of a dataclass; None if it takes none.

    So they are checked as the fields of any family are, and what is annotated as a Gamma is one.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind in (
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    ):
        return None
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # what is imported for a type checker only, or no function
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    # Which default it is does not matter: only what the table gives is handed on.
    required, optional = dataclasses.field, partial(dataclasses.field, default=None)
    fields: list[tuple[str, Any, Any]] = [
        (p.name, hints.get(p.name, Any), required() if p.default is p.empty else optional())
        for p in parameters[1:]
        if p.kind in named
    ]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        known = {name for name, _, _ in fields}
        fields += [(key, Any, optional()) for key in given if key not in known]
    config = {"extra": "forbid", "arbitrary_types_allowed": True}
    namespace = {"__pydantic_config__": config}
    name = getattr(function, "__name__", "arguments")
    return dataclasses.make_dataclass(name, fields, kw_only=True, namespace=namespace)


def _argument_table(spec: Custom) -> dict[str, Any]:
    """A Custom's arguments as a table. Raises ValueError for one that would not come back."""
    table = {}
    parameters = inspect.signature(spec.function).parameters
    for key, value in spec.arguments.items():
        if value is None and key in parameters and parameters[key].default is None:
            continue  # TOML has no null
        table[key] = as_table(value)
        try:
            tomli_w.dumps({key: table[key]})
        except TypeError:
            raise ValueError(f"{_what(spec, key)}, which TOML cannot hold") from None
    read = validated(_arguments(spec.function, table), table, spec.name)
    for key in table:
        back = getattr(read, key)
        if back != spec.arguments[key]:
            raise ValueError(
                f"{_what(spec, key)}, and would be read as {back!r}; annotate it in the function"
            )
    return table


def _what(spec: Custom, key: str) -> str:
    return f"argument {key!r} of {spec.name} is {spec.arguments[key]!r}"


def _check_keys(family: str, own: Sequence[str], taken: Sequence[str], where: str) -> None:
    """Raise ValueError where a key would mean two things."""
    both = sorted({*own} & {*taken})
    if both:
        raise ValueError(
            f"{where}.family: {family} has {both[0]!r} among its own keys, which is a recipe's; "
            "rename it"
        )
