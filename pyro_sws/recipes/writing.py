"""Recipes written: a plan as TOML. Values that have no name in a file are marked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import nn

from pyro_sws.compression.plan import Data, NamedData, NamedNetwork, Plan, Unnamed
from pyro_sws.inference.likelihoods import LIKELIHOODS
from pyro_sws.inference.priors import PRIORS
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.recipes.families import spec_table
from pyro_sws.recipes.sources import Source, path_of, relative
from pyro_sws.recipes.tables import (
    SECTIONS,
    RuleKeys,
    Table,
    init_values,
    plain_keys,
    top_key,
    unnamed_table,
)
from pyro_sws.recipes.validation import as_table

PATHS = ("start", "from_run")  # of a network: files and folders, relative to the recipe's


def to_toml(plan: Plan, folder: Path) -> str:
    """The plan as a recipe that means the same run in ``folder``: paths are relative to it.

    Values given in Python, which have no name there, are marked by a key ``made_in_python``. Such a
    recipe can be read by ``read_named``, but not run.
    """
    base = folder.resolve()
    table = {
        **_network_table(plan.network, base),
        **_data_table(plan.data, base),
        "likelihood": spec_table(plan.likelihood, LIKELIHOODS, base, prior=False),
        **{key: getattr(plan, key) for key in plain_keys(Plan)},
        "guide": plan.guide if isinstance(plan.guide, str) else _path(plan.guide, base),
    }
    for section in SECTIONS:
        values = init_values(getattr(plan, section))
        table |= {top_key(section, key): value for key, value in values.items()}
    table = {key: _written(value) for key, value in table.items() if value is not None}
    if plan.prior:
        table["prior"] = [_rule_table(rule, base) for rule in plan.prior]
    return tomli_w.dumps({key: value for key, value in table.items() if value != {}})


def _network_table(network: nn.Module | NamedNetwork | Unnamed, base: Path) -> Table:
    if not isinstance(network, NamedNetwork):
        named = network if isinstance(network, Unnamed) else Unnamed(type(network).__name__)
        return {"network": unnamed_table(named)}
    table = {key: getattr(network, key) for key in plain_keys(NamedNetwork)}
    for key in PATHS:
        if table[key] is not None:
            table[key] = relative(table[key], network.source.folder, base)
    return {"network": network.source.table(base), **table}


def _data_table(data: Data | NamedData | Unnamed, base: Path) -> Table:
    if not isinstance(data, NamedData):
        named = data if isinstance(data, Unnamed) else Unnamed(type(data.train).__name__)
        return {"data": unnamed_table(named)}
    table = {key: getattr(data, key) for key in plain_keys(NamedData)}
    augmentation = data.augmentation and data.augmentation.table(base)
    return {"data": data.source.table(base), "augmentation": augmentation, **table}


def _rule_table(rule: Rule, base: Path) -> Table:
    keys = RuleKeys(rule.group, rule.match, rule.module_name, each=rule.each)
    where = {} if rule.where is None else {"where": _path(rule.where, base)}
    # A group and a match are always written, the other keys where they ask for something.
    given = {k: v for k, v in as_table(keys).items() if v or k in ("group", "match")}
    return {**given, **where, **spec_table(rule.prior, PRIORS, base, prior=True)}


def _path(function: Callable | Source | Unnamed, base: Path) -> str | Table:
    """What names a function, or says that nothing does."""
    if isinstance(function, Source):
        return function.path_from(base)
    try:
        return unnamed_table(function) if isinstance(function, Unnamed) else path_of(function, base)
    except ValueError:
        return unnamed_table(function)


def _written(value: object) -> Any:
    """A plain value as TOML has it."""
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    return unnamed_table(value) if callable(value) else as_table(value)
