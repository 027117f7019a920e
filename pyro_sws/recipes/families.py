"""Families: from a recipe's table to its prior or likelihood (its spec), and back.

A family of the user's own is a Source: a dataclass, whose fields are its arguments, or a function
that makes a prior.
"""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import tomli_w

from pyro_sws.compression.plan import Unnamed
from pyro_sws.inference.priors.custom import Custom
from pyro_sws.recipes.sources import Source, path_of
from pyro_sws.recipes.tables import (
    FUNCTION,
    MadeInPython,
    Read,
    RuleKeys,
    Table,
    TableField,
    fields_of,
    function_keys,
    hints_of,
    init_values,
    table_type,
    unnamed_table,
)
from pyro_sws.recipes.validation import as_table, at_key, check, keys_of

NamedBy: TypeAlias = Callable[[str, Table], Source]  # from a path in a recipe, and arguments
Spec: TypeAlias = Any  # a Prior or a Likelihood, or what stands for one: a Source, Unnamed

POSITIONAL_OR_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD
KEYWORD_ONLY, VAR_KEYWORD = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD
STARTS = "starts"  # a key of a prior's function, beside its arguments; see Custom


def named_spec(
    read: Read, table: Any, families: Mapping[str, type], named: NamedBy, prior: bool
) -> Spec:
    """The spec that a checked table means. A family of one's own is a Source: nothing is run."""
    if isinstance(read, str):  # the short form: a name alone
        return families[read]() if read in families else named(read, {})
    if hasattr(read, "made_in_python"):
        return Unnamed(read.made_in_python)
    beside = {"family", *(keys_of(RuleKeys) if prior else ())}
    rest = {key: value for key, value in table.items() if key not in beside}
    if read.family in families:
        family = families[read.family]
        own = {k: named(rest[k], {}) for k in function_keys(family) if k in rest}
        return family(**{**{key: getattr(read, key) for key in rest}, **own})
    if getattr(read, STARTS, None) is not None:
        rest[STARTS] = named(rest[STARTS], {})
    return named(read.family, rest)


def make_spec(source: Source, where: str, prior: bool) -> Spec:
    """The spec that a Source is; the code in its file is run. Raises ValueError with the key."""
    arguments = dict(source.arguments)
    with at_key(f"{where}.family"):
        definition = source.function()
        fields = _own_fields(definition, source.path, arguments, prior)
    starts = None
    own_starts = arguments.get(STARTS)
    if not isinstance(definition, type) and isinstance(own_starts, Source):
        del arguments[STARTS]
        with at_key(f"{where}.{STARTS}"):
            starts = own_starts.function()
    kind = table_type(source.name, [*fields, *_beside(definition, prior)])
    read: object = check(kind, arguments, where)
    given = {key: getattr(read, key) for key in arguments}
    with at_key(where):
        if isinstance(definition, type):
            return definition(**given)
        return Custom(definition, given, starts)


def spec_table(spec: Spec, families: Mapping[str, type], folder: Path, prior: bool) -> Table:
    """The table of a spec, for a recipe in ``folder``; a marked one if no table can mean it."""
    if isinstance(spec, Source):
        named = {k: v for k, v in spec.arguments.items() if isinstance(v, Source)}
        paths = {key: source.path_from(folder) for key, source in named.items()}
        return {"family": spec.path_from(folder), **spec.arguments, **paths}
    if isinstance(spec, Unnamed):
        return unnamed_table(spec)
    try:
        return _said(spec, families, folder, prior)
    except Exception:  # comparing its parts may raise anything
        return unnamed_table(spec)


def _said(spec: Spec, families: Mapping[str, type], folder: Path, prior: bool) -> Table:
    """The table of a spec. If it cannot be read back: ValueError, or what its parts raise."""
    custom = isinstance(spec, Custom)
    definition = spec.function if custom else type(spec)
    names = {cls: name for name, cls in families.items()}
    family = names[definition] if definition in names else path_of(definition, folder)
    values = dict(spec.arguments if custom else init_values(spec))
    for key in [] if custom else function_keys(definition):
        if values[key] is not None:
            values[key] = function_path(values[key], folder)
    # What TOML cannot hold, such as None, may be left out where it is a default.
    table = {key: as_table(v) for key, v in values.items() if _in_toml(as_table(v))}
    read: object = check(table_type(family, _own_fields(definition, family, table, prior)), table)
    for key, value in values.items():
        if getattr(read, key, ...) != value:
            raise ValueError(f"{key} = {value!r} would be read as {getattr(read, key, None)!r}")
    starts = {STARTS: path_of(spec.starts, folder)} if custom and spec.starts is not None else {}
    return {"family": family, **starts, **table}


def function_path(function: Callable | Source, folder: Path) -> str:
    """What names it in a recipe in ``folder``. Raises ValueError where nothing does."""
    return function.path_from(folder) if isinstance(function, Source) else path_of(function, folder)


def with_functions(spec: Spec, where: str) -> Spec:
    """A family of the package with its functions in place of their Sources; their files are run."""
    functions = {}
    for key in function_keys(type(spec)) if dataclasses.is_dataclass(spec) else []:
        function = getattr(spec, key)
        if isinstance(function, Source):
            with at_key(f"{where}.{key}"):
                functions[key] = function.function()
    return dataclasses.replace(spec, **functions) if functions else spec


def _in_toml(value: object) -> bool:
    try:
        tomli_w.dumps({"value": value})
    except (TypeError, ValueError):
        return False
    return True


def _own_fields(definition: Callable, path: str, given: Table, prior: bool) -> list[TableField]:
    """The keys of a dataclass or a prior's function. Raises ValueError for what is neither."""
    if isinstance(definition, type) and dataclasses.is_dataclass(definition):
        fields = fields_of(definition, MadeInPython if ":" in path else FUNCTION)
    elif not prior:
        raise ValueError(f"{path} is no dataclass; its fields are the keys")
    elif isinstance(definition, type) or hasattr(definition, "start"):
        raise ValueError(
            f"{path} is neither a dataclass nor a function; the fields of one or the arguments of "
            "the other are the keys"
        )
    else:
        fields = _argument_fields(definition, path, given)
    taken = {"family", *(name for name, _, _ in _beside(definition, prior))}
    both = sorted({name for name, _, _ in fields} & taken)
    if both:
        raise ValueError(
            f"{path} has {both[0]!r} among its own keys, which is a recipe's; rename it"
        )
    return fields


def _beside(definition: Callable, prior: bool) -> list[TableField]:
    """The keys that a recipe has beside a family's own."""
    if not prior:
        return []
    starts = (STARTS, Any, dataclasses.field(default=None))
    return [*fields_of(RuleKeys), *([] if isinstance(definition, type) else [starts])]


def _argument_fields(function: Callable, path: str, given: Table) -> list[TableField]:
    """A function's arguments after the group, as a table's keys; any key for ``**arguments``.

    They are checked as the fields of any family are: a table for a Gamma becomes a Gamma.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind in (KEYWORD_ONLY, VAR_KEYWORD):
        raise ValueError(f"{path} takes no group; a prior's function takes it first")
    hints = hints_of(function)
    fields = [
        (p.name, hints.get(p.name, Any), _default(p))
        for p in parameters[1:]
        if p.kind in (POSITIONAL_OR_KEYWORD, KEYWORD_ONLY)
    ]
    if any(p.kind is VAR_KEYWORD for p in parameters):
        known = {name for name, _, _ in fields} | {STARTS}
        fields += [(key, Any, dataclasses.field()) for key in given if key not in known]
    return fields


def _default(parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return dataclasses.field()
    return dataclasses.field(default_factory=lambda: parameter.default)  # it may be a list
