"""Recipes: a plan read from TOML, with errors that name the key. Code that it names may be run."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from pyro_sws.compression.plan import NamedData, NamedNetwork, Plan, Unnamed
from pyro_sws.inference.guides import GUIDES
from pyro_sws.inference.likelihoods import LIKELIHOODS, Categorical
from pyro_sws.inference.priors import PRIORS
from pyro_sws.inference.priors.rules import Rule, Where
from pyro_sws.recipes.changes import put, put_all, read_table, tomllib
from pyro_sws.recipes.families import NamedBy, Spec, make_spec, named_spec, with_functions
from pyro_sws.recipes.search_table import SearchSettings, search_settings
from pyro_sws.recipes.sources import Source
from pyro_sws.recipes.tables import (
    FITS,
    SECTIONS,
    SHORT,
    MadeInPython,
    Read,
    Table,
    plain_keys,
    recipe_type,
    top_key,
)
from pyro_sws.recipes.validation import at_key, check, keys_of
from pyro_sws.recipes.writing import to_toml

__all__ = [
    "SECTIONS",
    "named_plan",
    "parse",
    "put",
    "put_all",
    "read_named",
    "read_recipe",
    "read_search",
    "read_table",
    "resolved",
    "to_toml",
    "tomllib",
]


def read_recipe(path: str | os.PathLike, changes: Sequence[str] = ()) -> Plan:
    """Read a recipe; ``changes`` such as "prior.0.slabs=32" overwrite single keys first.

    Python files that it names for families and conditions are run. Raises ValueError, in one line
    that names file and key, for a recipe that has no meaning.
    """
    table = read_table(path, changes)
    with at_key(str(path)):
        return parse(table, Path(path).parent)


def read_named(path: str | os.PathLike, trusted: bool = True, folder: Path | None = None) -> Plan:
    """A recipe as ``read_recipe`` has it, but nothing that it names is looked at or run.

    The user's own priors, likelihoods and conditions are Sources. If the file is not ``trusted``,
    none of them can be run later. What was given in Python, and has no name, is Unnamed. Names are
    relative to ``folder``, by default the file's.
    """
    table = read_table(path)
    with at_key(str(path)):
        return named_plan(
            table, partial(Source, folder=folder or Path(path).parent, trusted=trusted)
        )


def parse(table: Table, folder: Path = Path()) -> Plan:
    """A plan from a recipe's table, ready to run. Raises ValueError with the key's path."""
    return resolved(named_plan(table, partial(Source, folder=folder)))


def read_search(table: Table) -> SearchSettings | None:
    """How ``search`` varies a recipe, from its table; None where it does not say."""
    return search_settings(table["search"]) if "search" in table else None


def named_plan(table: Table, named: NamedBy) -> Plan:
    """A plan from a recipe's table, as ``read_named`` has it. Raises ValueError with the key.

    ``named`` makes a Source of a path and arguments: it knows the recipe's folder.
    """
    read_search(table)
    read: Read = check(recipe_type(), table)
    network = _source(read.network, table["network"], named)
    data = _source(read.data, table["data"], named)
    augmentation = read.augmentation and _source(read.augmentation, table["augmentation"], named)
    plain = {key: getattr(read, key) for key in plain_keys(Plan)}
    plain["dtype"] = plain["dtype"] and getattr(torch, plain["dtype"])
    likelihood = Categorical()
    if "likelihood" in table:
        with at_key("likelihood"):
            likelihood = named_spec(
                read.likelihood, table["likelihood"], LIKELIHOODS, named, prior=False
            )
    return Plan(
        _with_keys(NamedNetwork, network, read),
        _with_keys(NamedData, data, read, augmentation=augmentation),
        tuple(_rule(rule, table["prior"][i], named, i) for i, rule in enumerate(read.prior or ())),
        likelihood,
        guide=read.guide if read.guide in GUIDES else _function(read.guide, named),
        **{name: _section(name, read, table) for name in SECTIONS},
        **plain | _in_place_of_a_fit(read, table),
    )


def resolved(plan: Plan) -> Plan:
    """The plan with families and conditions in place of their names.

    Their files are run. Raises ValueError, with the key, for one that is missing, does not take its
    arguments, or has no name.
    """
    parts = {"network": plan.network, "data": plan.data, "guide": plan.guide}
    for key, value in {**parts, "schedule": plan.fit.schedule}.items():
        _check_named(key, value)
    return replace(
        plan,
        prior=tuple(_resolved_rule(rule, f"prior[{i}]") for i, rule in enumerate(plan.prior)),
        likelihood=_resolved_spec(plan.likelihood, "likelihood", prior=False),
    )


def _source(read: Read, table: Table | str, named: NamedBy) -> Source | Unnamed:
    """A function with arguments: a path, or a table with one as "source"."""
    if isinstance(read, MadeInPython | str):
        return _function(read, named)
    assert isinstance(table, dict)
    return named(read.source, {k: v for k, v in table.items() if k != "source"})


def _function(read: MadeInPython | str, named: NamedBy) -> Source | Unnamed:
    if isinstance(read, MadeInPython):
        return Unnamed(read.made_in_python)
    return named(read, {})


def _with_keys(cls: type, source: Source | Unnamed, read: Read, **more: Any) -> Any:
    """What is named, with the keys at the top that are its own; what has no name has none."""
    if isinstance(source, Unnamed):
        return source
    return cls(source, **more, **{key: getattr(read, key) for key in plain_keys(cls)})


def _section(name: str, read: Read, table: Table) -> Any:
    """A section from its keys at the top and those in a table of its name."""
    cls, inside, own = SECTIONS[name], table.get(name, {}), getattr(read, name, None)
    if name == "fit":
        inside = {k: v for k, v in inside.items() if k != "family"} if not _family(table) else {}
    at_top = {key: top_key(name, key) for key in keys_of(cls)}
    given = {key: path for key, path in at_top.items() if path in table and path != name}
    values = {key: getattr(read, key) for key in given}
    if not isinstance(inside, dict):
        inside, own = {SHORT[name]: inside}, {SHORT[name]: own}
    for key in inside:
        if key in given:
            raise ValueError(f"{key} is given at the top and as {name}.{key}; give it once")
        given[key] = f"{name}.{key}"
        values[key] = own[key] if isinstance(own, dict) else getattr(own, key)
    values = {key: _in_python(value) for key, value in values.items()}
    for key, value in values.items():  # one by one first: what is wrong with it then has its path
        _check_key(cls, key, value, given[key])
    return cls(**values)


def _family(table: Table) -> str | None:
    """What ``fit`` is in place of a fit, if its family says so."""
    family = table.get("fit", {}).get("family", "fit")
    return None if family == "fit" else family


def _in_place_of_a_fit(read: Read, table: Table) -> dict[str, Any]:
    """A plan's walk, or post-training, whose settings are those of ``fit`` by its family."""
    family = _family(table)
    if family is None:
        return {}
    if family in table:
        raise ValueError(f"{family} is given as a table of its own and as fit.family; give it once")
    values = {key: getattr(read.fit, key) for key in table["fit"] if key != "family"}
    for key, value in values.items():
        _check_key(FITS[family], key, value, f"fit.{key}")
    return {family: FITS[family](**values)}


def _check_key(cls: type, key: str, value: object, path: str) -> None:
    """Raise ValueError, with the key's path, where a section does not take a value."""
    try:
        cls(**{key: value})
    except ValueError as error:
        message = str(error)
        raise ValueError(message if path in message else f"{path}: {message}") from None


def _rule(read: Read, table: Table, named: NamedBy, i: int) -> Rule:
    with at_key(f"prior[{i}]"):
        prior = named_spec(read, table, PRIORS, named, prior=True)
        where = None if read.where is None else _function(read.where, named)
        return Rule(prior, read.match, read.group, read.module, cast(Where, where), read.each)


def _resolved_rule(rule: Rule, where: str) -> Rule:
    condition: Any = rule.where
    _check_named(f"{where}.where", condition)
    if isinstance(condition, Source):
        with at_key(f"{where}.where"):
            condition = condition.function()
    return replace(rule, prior=_resolved_spec(rule.prior, where, prior=True), where=condition)


def _resolved_spec(spec: Spec, where: str, prior: bool) -> Spec:
    _check_named(where, spec)
    if isinstance(spec, Source):
        return make_spec(spec, where, prior)
    return with_functions(spec, where)


def _check_named(key: str, value: object) -> None:
    if isinstance(value, Unnamed):
        raise ValueError(
            f"{key}: {value.what} was given in Python and cannot be run from a recipe; put it in a "
            "file, and name it as 'file.py:name'"
        )


def _in_python(value: object) -> object:
    return Unnamed(value.made_in_python) if isinstance(value, MadeInPython) else value
