"""Recipes: a plan as TOML, read and written, with errors that name the key."""

import difflib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
import torch

from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import NamedData, NamedNetwork, Plan
from pyro_sws.compression.pretrain import Pretraining
from pyro_sws.compression.refine import Refinement
from pyro_sws.inference.density import Density
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import GUIDES
from pyro_sws.inference.likelihoods import LIKELIHOODS
from pyro_sws.inference.priors import PRIORS
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.recipes.families import function_at, spec_of, spec_table
from pyro_sws.recipes.search_table import SearchSettings, search_settings
from pyro_sws.recipes.sources import Source, as_source, path_of, relative
from pyro_sws.recipes.validation import as_table, keys_of, validated
from pyro_sws.suggestions import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REQUIRED = ("network", "data", "prior")
OPTIONAL = ("likelihood", "augmentation", "search")
SHORT = {  # keys whose table may be a string, and which of the table's keys that is
    "network": "source",
    "data": "source",
    "augmentation": "source",
    "likelihood": "family",
    "density": "way",
}
# Values of a plan whose fields are keys at the top of a recipe; they may be tables there, too.
SECTIONS: dict[str, type] = {"fit": Fitting, "packing": Packing, "density": Density}
NETWORK_KEYS, DATA_KEYS = ("start", "from_run", "pretraining"), ("batch_size",)


@dataclass(frozen=True)
class RuleKeys:
    """Which tensors a [[prior]] is for; its other keys are its family's. See ``Rule``."""

    __pydantic_config__ = {"extra": "forbid"}
    group: str = "all"
    match: str = "*"  # glob on a tensor's name
    module: str | None = None  # class of the module that owns the tensor
    where: str | None = None  # "file.py:function" of name and parameter
    each: bool = False  # every tensor a group of its own


@dataclass(frozen=True)
class PlainKeys:
    """The keys at the top of a recipe that are plain values and no section's."""

    __pydantic_config__ = {"extra": "forbid"}
    start: str | None = None
    from_run: str | None = None
    pretraining: Pretraining = Pretraining()
    batch_size: int = 256
    tau: float = 0.03
    guide: str = "delta"  # a name in GUIDES, or "file.py:function" of a joint
    refinement: Refinement | None = None
    seed: int = 0
    device: str | None = None
    dtype: Literal["float32", "float64"] | None = None


def to_toml(plan: Plan, folder: Path) -> str:
    """The plan as a recipe that means the same run in ``folder``: paths are relative to it.

    What has no name there is left out: such a recipe can be looked at, but not run. Raises
    ValueError for a prior or a likelihood that no recipe can say.
    """
    base = folder.resolve()
    table: dict[str, Any] = {}
    if isinstance(plan.network, NamedNetwork):
        table |= {"network": plan.network.source.table(base)}
    if isinstance(plan.data, NamedData):
        table |= {"data": plan.data.source.table(base)}
        if plan.data.augmentation is not None:
            table |= {"augmentation": plan.data.augmentation.table(base)}
        table |= {"batch_size": plan.data.batch_size}
    if isinstance(plan.network, NamedNetwork):
        own = as_table(plan.network)
        table |= {key: own[key] for key in NETWORK_KEYS if key in own}
        for key in {"start", "from_run"} & table.keys():
            table[key] = relative(table[key], plan.network.source.folder, base)
    table |= {"likelihood": spec_table(plan.likelihood, LIKELIHOODS, base)}
    for section in SECTIONS:
        values = as_table(getattr(plan, section))
        table |= {_top_key(section, key): value for key, value in values.items() if value != {}}
    table |= {"tau": plan.tau, "guide": _guide_path(plan, base), "seed": plan.seed}
    if plan.refinement is not None:
        table |= {"refinement": as_table(plan.refinement)}
    if plan.device is not None:
        table |= {"device": str(plan.device)}
    if plan.dtype is not None:
        table |= {"dtype": str(plan.dtype).removeprefix("torch.")}
    table |= {"prior": [_rule_table(rule, i, base) for i, rule in enumerate(plan.prior)]}
    return tomli_w.dumps(table)


def _top_key(section: str, key: str) -> str:
    """A section's key at the top of a recipe: its own name, but for the way of the density."""
    return section if (section, key) == ("density", "way") else key


def _guide_path(plan: Plan, base: Path) -> str:
    if isinstance(plan.guide, Source):
        return plan.guide.path_from(base)
    return plan.guide if isinstance(plan.guide, str) else path_of(plan.guide, base)


def _rule_table(rule: Rule, i: int, base: Path) -> dict[str, Any]:
    try:
        where = None if rule.where is None else path_of(rule.where, base)
        keys = RuleKeys(rule.group, rule.match, rule.module_name, where, rule.each)
        # A group and a match are always written, the other keys where they ask for something.
        given = {k: v for k, v in as_table(keys).items() if v or k in ("group", "match")}
        return {**given, **spec_table(rule.prior, PRIORS, base)}
    except ValueError as error:
        raise ValueError(f"prior[{i}]: {error}") from None


def read_recipe(path: str | os.PathLike, changes: Sequence[str] = ()) -> Plan:
    """Read a recipe; ``changes`` such as "prior.0.slabs=32" overwrite single keys first.

    Raises ValueError, in one line that names file and key, for anything it cannot mean.
    """
    table = read_table(path, changes)
    try:
        return parse(table, Path(path).parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_named(path: str | os.PathLike) -> Plan:
    """A recipe as ``read_recipe`` has it, but nothing that it names is looked at or run.

    Priors, likelihoods and conditions of the user's own are Sources; data, network and guide may
    be left out, and are Unnamed then.
    """
    return read_recipe(path)


def read_table(path: str | os.PathLike, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe's table as it stands in the file, with the changes made in it, not yet checked."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    for change in changes:
        _change(table, change)
    return table


def parse(table: Mapping[str, Any], folder: Path = Path()) -> Plan:
    """A plan from a recipe's table. Raises ValueError with the key's path."""
    rest = {key: value for key, value in table.items() if key != "search"}
    _check_required(rest)
    network = as_source(rest.pop("network"), "network", folder)
    data = as_source(rest.pop("data"), "data", folder)
    augmentation = rest.pop("augmentation", None)
    if augmentation is not None:
        augmentation = as_source(augmentation, "augmentation", folder)
    rules = rest.pop("prior")
    if not isinstance(rules, list) or not rules:
        raise ValueError(f"prior: must be one or more [[prior]] tables, got {rules!r}")
    likelihood = rest.pop("likelihood", {"family": "categorical"})
    if isinstance(likelihood, str):
        likelihood = {"family": likelihood}
    sections = {name: _section(name, cls, rest) for name, cls in SECTIONS.items()}
    known = [_top_key(name, key) for name, cls in SECTIONS.items() for key in keys_of(cls)]
    keys: PlainKeys = validated(PlainKeys, rest, "", extra_keys=(*REQUIRED, *OPTIONAL, *known))
    return Plan(
        NamedNetwork(network, **{key: getattr(keys, key) for key in NETWORK_KEYS}),
        NamedData(data, keys.batch_size, augmentation),
        tuple(_rule(rule, f"prior[{i}]", folder) for i, rule in enumerate(rules)),
        spec_of(likelihood, LIKELIHOODS, "likelihood", folder),
        tau=keys.tau,
        guide=_guide(keys.guide, folder),
        refinement=keys.refinement,
        seed=keys.seed,
        device=keys.device,
        dtype=None if keys.dtype is None else getattr(torch, keys.dtype),
        **sections,
    )


def _check_required(table: Mapping[str, Any]) -> None:
    missing = [key for key in REQUIRED if key not in table]
    if missing:
        known = {
            *keys_of(PlainKeys),
            *OPTIONAL,
            *(k for c in SECTIONS.values() for k in keys_of(c)),
        }
        unknown = [key for key in table if key not in known]
        hint = difflib.get_close_matches(missing[0], unknown, 1)
        there = f" (there is {hint[0]!r})" if hint else ""
        raise ValueError(
            f"missing key {missing[0]!r}{there}; a recipe has network, data and [[prior]]"
        )


def _section(name: str, cls: type, rest: dict[str, Any]) -> Any:
    """A section from its keys at the top, or from a table of its name; they are taken out."""
    own = rest.pop(name, {})
    own = {"way": own} if name == "density" and not isinstance(own, dict) else own
    top = {key: rest.pop(key) for key in keys_of(cls) if key in rest and key != "way"}
    if not isinstance(own, dict):
        raise ValueError(f"{name}: must be a table, got {own!r}")
    twice = sorted(own.keys() & top.keys())
    if twice:
        raise ValueError(f"{twice[0]} is given at the top and in {name}; give it once")
    validated(cls, top, "")
    return validated(cls, {**own, **top}, name if own.keys() - {"way"} else "")


def _guide(guide: str, folder: Path) -> str | Source:
    if guide in GUIDES:
        return guide
    if not all(guide.rpartition(":")):
        raise ValueError(
            f"guide: unknown guide {guide!r}{nearest(guide, list(GUIDES))}; choose "
            f"from {', '.join(GUIDES)}, or name your own as 'file.py:function'"
        )
    return Source(guide, {}, folder)


def read_search(table: Mapping[str, Any]) -> SearchSettings | None:
    """How ``search`` varies a recipe, from its table; None where it does not say."""
    return search_settings(table["search"]) if "search" in table else None


def _rule(table: Any, where: str, folder: Path) -> Rule:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: must be a table, got {table!r}")
    known = keys_of(RuleKeys)
    keys = validated(RuleKeys, {k: v for k, v in table.items() if k in known}, where)
    rest = {k: v for k, v in table.items() if k not in known}
    prior = spec_of(rest, PRIORS, where, folder, other_keys=known, functions=True)
    asked = keys.where and function_at(keys.where, f"{where}.where", folder)
    try:
        return Rule(prior, keys.match, keys.group, keys.module, asked, keys.each)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _change(table: dict[str, Any], change: str) -> None:
    """Apply "a.0.b=value" to the table; the value is TOML, or a string where it is not."""
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"--set {change!r}: write key=value, such as prior.0.slabs=32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    put(table, path.strip(), value, f"--set {change!r}")


def put(table: dict[str, Any], path: str, value: Any, where: str) -> None:
    """Put a value into a recipe's table at the path "a.0.b"; missing tables are made.

    Raises ValueError, beginning with ``where``, for a path through what is no table, or no index.
    """
    *parents, last = path.split(".")
    place: Any = table
    if parents and isinstance(table.get(parents[0]), str):  # the short form of a table
        if parents[0] in SHORT:
            table[parents[0]] = {SHORT[parents[0]]: table[parents[0]]}
    for key in parents:
        place = _step(place, key, where)
    if isinstance(place, list):
        place[_index(place, last, where)] = value
    else:
        place[last] = value


def _step(place: Any, key: str, where: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, where)]
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise ValueError(f"{where}: {key!r} is {inner!r}, not a table")
    return inner


def _index(place: list, key: str, where: str) -> int:
    if not key.isdecimal() or int(key) >= len(place):
        raise ValueError(f"{where}: {key!r} is no index; use 0..{len(place) - 1}")
    return int(key)
