"""A search's plan: from points of its space to recipes, and how two searches' recipes differ."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pyro_sws.compression.plan import Plan
from pyro_sws.recipes.recipe import parse, put_all, read_search, read_table, to_toml, tomllib
from pyro_sws.recipes.search_table import SearchSettings
from pyro_sws.recipes.tables import Table
from pyro_sws.recipes.validation import as_table, at_key
from pyro_sws.runs.execute import named_parts

Params = Mapping[str, object]  # by path, values as a recipe has them
Meaning = Mapping[str, str | int | float | bool]  # by path, values as JSON has them
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
    table: Table
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

    def meaning(self) -> Meaning:
        """All that trials depend on, with defaults: the same for files that mean the same."""
        whole = tomllib.loads(to_toml(self.base, self.folder))
        return _flat({**whole, "search": as_table(self.settings)})


def read_plan(path: Path, changes: tuple[str, ...] = ()) -> SearchPlan:
    """The plan of a recipe's search, with "key=value" changes as in ``read_recipe``.

    Raises ValueError that names file and key for a recipe without [search], and for a path or a
    value in its space that the recipe does not take.
    """
    table = read_table(path, changes)
    with at_key(str(path)):
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
    return plan


def unlike(here: Meaning, there: Meaning) -> list[str]:
    """What differs between two meanings, one text a key."""
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    return [f"{key} is {_told(here, key)} here and {_told(there, key)} there" for key in keys]


def _check(plan: SearchPlan, key: str, value: object) -> None:
    """Raise where the recipe takes no such value, by itself, at this path."""
    try:
        for named in named_parts(plan.recipe({key: value})):
            named.source.check()
    except ValueError as error:
        message = str(error).removeprefix("search.space: ")
        raise ValueError(f"search.space: {key} = {value!r}: {message}") from None


def _flat(value: object, path: str = "") -> Meaning:
    """Leaves of nested tables and lists by their dotted paths; what is empty is a leaf."""
    if isinstance(value, Mapping) and value:
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list | tuple) and value:
        pairs = [(str(i), inner) for i, inner in enumerate(value)]
    else:
        return {path: value if isinstance(value, str | int | float | bool) else str(value)}
    parts = [_flat(inner, f"{path}.{key}" if path else key) for key, inner in pairs]
    return {key: leaf for part in parts for key, leaf in part.items()}


def _told(meaning: Meaning, key: str) -> str:
    return repr(meaning[key]) if key in meaning else "not given"
