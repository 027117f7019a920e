"""A search's plan: from points of its space to recipes, and how two searches' recipes differ."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pyro_sws.compression.plan import Plan
from pyro_sws.recipes.recipe import parse, put_all, read_search, read_table, to_toml, tomllib
from pyro_sws.recipes.search_table import SearchSettings
from pyro_sws.recipes.validation import as_table
from pyro_sws.runs.execute import named_parts

Params = Mapping[str, Any]  # by path, values as a recipe has them
# What pre-training depends on: where one of these varies, every trial trains a network of its own.
TRAINED_BY = (
    "network",
    "data",
    "augmentation",
    "likelihood",
    "pretraining",
    "seed",
    "start",
    "from_run",
    "device",
)


@dataclass(frozen=True, eq=False)
class SearchPlan:
    """A recipe with its [search], as read."""

    name: str  # of the recipe's file, without its ending
    table: Mapping[str, Any]
    folder: Path  # where the recipe's relative paths begin
    settings: SearchSettings

    @cached_property
    def base(self) -> Plan:
        """The recipe itself, at none of the space's points."""
        return self.recipe({})

    def recipe(self, params: Params) -> Plan:
        """The recipe at a point of the space. Raises ValueError for what it cannot mean."""
        table = copy.deepcopy({key: v for key, v in self.table.items() if key != "search"})
        put_all(table, [(path, copy.deepcopy(v), "search.space") for path, v in params.items()])
        return parse(table, self.folder)

    def trial(self, params: Params) -> Plan:
        """The same, with the epochs of a trial."""
        recipe, epochs = self.recipe(params), self.settings.epochs
        return recipe if epochs is None else replace(recipe, fit=replace(recipe.fit, epochs=epochs))

    def varies(self, *keys: str) -> bool:
        """Whether the space has any of these keys, or one inside them."""
        return any(path.split(".")[0] in keys for path in self.settings.space)

    def meaning(self) -> dict[str, Any]:
        """All that trials depend on, by path, with defaults: the same for files that mean the same.

        Values are as JSON has them.
        """
        whole = tomllib.loads(to_toml(self.base, self.folder))
        return _flat({**whole, "search": as_table(self.settings)})


def read_plan(path: Path, changes: tuple[str, ...] = ()) -> SearchPlan:
    """The plan of a recipe's search, with "key=value" changes as in ``read_recipe``.

    Raises ValueError that names file and key for a recipe without [search], and for a path or a
    value in its space that the recipe does not take.
    """
    table = read_table(path, changes)
    try:
        parse(table, path.parent)
        settings = read_search(table)
        if settings is None:
            raise ValueError(
                "has no [search.space]; name there the keys that may vary, such as "
                "tau = { low = 0.01, high = 0.3, log = true }"
            )
        plan = SearchPlan(path.stem, table, path.parent, settings)
        for key, bounds in settings.space.items():
            for value in bounds.examples:
                _check(plan, key, value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return plan


def unlike(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """What differs between two meanings, one text a key."""
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    return [f"{key} is {_told(here, key)} here and {_told(there, key)} there" for key in keys]


def _check(plan: SearchPlan, key: str, value: Any) -> None:
    """Raise where the recipe takes no such value, by itself, at this path."""
    try:
        for named in named_parts(plan.recipe({key: value})):
            named.source.check()
    except ValueError as error:
        message = str(error).removeprefix("search.space: ")
        raise ValueError(f"search.space: {key} = {value!r}: {message}") from None


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested tables and lists by their dotted paths; what is empty is a leaf."""
    if isinstance(value, Mapping) and value:
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple) and value:
        pairs = [(str(i), inner) for i, inner in enumerate(value)]
    else:
        return {path: value if isinstance(value, str | int | float | bool) else str(value)}
    leaves: dict[str, Any] = {}
    for key, inner in pairs:
        leaves |= _flat(inner, f"{path}.{key}" if path else key)
    return leaves


def _told(meaning: Mapping[str, Any], key: str) -> str:
    return repr(meaning[key]) if key in meaning else "not given"
