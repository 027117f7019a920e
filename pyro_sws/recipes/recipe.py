"""Recipes: a whole run as data. TOML to frozen specs and back, with errors that name the key."""

import difflib
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from torch import Tensor

from pyro_sws.compression.pretrain import Pretraining
from pyro_sws.compression.refine import Refinement
from pyro_sws.inference.annealing import Annealing
from pyro_sws.inference.fit import Rates
from pyro_sws.inference.guides import GUIDES
from pyro_sws.inference.likelihoods import LIKELIHOODS, Categorical, Likelihood
from pyro_sws.inference.priors import PRIORS
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.recipes.families import function_at, spec_of, spec_table
from pyro_sws.recipes.search_table import SearchSettings, search_settings
from pyro_sws.recipes.sources import Source, as_source, path_of, relative, source_table
from pyro_sws.recipes.validation import as_table, keys_of, validated
from pyro_sws.suggestions import nearest
from pyro_sws.weights.merge import MERGE_THRESHOLD
from pyro_sws.weights.quantize import check_signal_to_noise

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REQUIRED = ("network", "data", "prior")
OPTIONAL = ("likelihood", "augmentation", "search")  # besides Settings
SHORT = {  # keys whose table may be a string, and which of the table's keys that is
    "network": "source",
    "data": "source",
    "augmentation": "source",
    "likelihood": "family",
}


@dataclass(frozen=True)
class Settings:
    """The recipe's keys that are plain values. See ``compress`` and ``fit`` for what they do."""

    __pydantic_config__ = {"extra": "forbid"}
    start: str | None = None  # safetensors to start from, instead of pre-training
    from_run: str | None = None  # run folder: its trained network, and its fitted weights to start
    pretraining: Pretraining = Pretraining()
    tau: float = 0.03  # weight of the complexity cost: larger is smaller
    guide: str = "delta"  # a name in GUIDES, or "file.py:function" of a joint
    epochs: int = 60
    batch_size: int = 256
    rates: Rates = Rates()
    schedule: Literal["constant", "cosine"] = "cosine"
    annealing: Annealing = Annealing()  # of the fit's objective
    merge_threshold: float = MERGE_THRESHOLD
    merge_by: Literal["divergence", "description"] = "divergence"  # what says which ones merge
    refinement: Refinement | None = None  # going on with the snapped network
    codebook_dtype: Literal["float16", "float32"] = "float16"
    signal_to_noise: float | None = None  # weights below it, in deviations, become 0
    rewrite: bool = True  # units reordered and dropped, where the network stays the same
    nonnegative_inputs: bool = False  # a promise about the data that lets more units be dropped
    fingerprint: bool = False  # a file without names and shapes
    density: Literal["auto", "portable", "compiled"] = "auto"
    prior_subsample: float | None = None  # share of the weights in each step's estimate
    hyperparameters_every: int = 1  # steps
    autocast: Literal["bfloat16"] | None = None  # of the network's arithmetic in the fit
    seed: int = 0
    device: str | None = None
    dtype: Literal["float32", "float64"] | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.from_run is not None:
            raise ValueError(
                f"start = {self.start!r} and from_run = {self.from_run!r}: give one of them; a run "
                "has its trained network with it"
            )
        if self.guide not in GUIDES and not all(self.guide.rpartition(":")):
            raise ValueError(
                f"guide: unknown guide {self.guide!r}{nearest(self.guide, list(GUIDES))}; choose "
                f"from {', '.join(GUIDES)}, or name your own as 'file.py:function'"
            )
        check_signal_to_noise(self.signal_to_noise)
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau must be a positive number, got {self.tau}")
        for name in ("epochs", "batch_size", "hyperparameters_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.prior_subsample is not None and not 0 < self.prior_subsample <= 1:
            raise ValueError(f"prior_subsample must be in (0, 1], got {self.prior_subsample}")
        if not self.merge_threshold >= 0:
            raise ValueError(f"merge_threshold must be at least 0, got {self.merge_threshold}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in 0..2^63 - 1, got {self.seed}")

    @property
    def trains(self) -> bool:
        """Whether the network is trained first, because no trained weights are named."""
        return self.start is None and self.from_run is None


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
class Recipe:
    """What ``pyro-sws run`` needs to know."""

    network: Source
    data: Source
    prior: tuple[Rule, ...]
    likelihood: Likelihood = Categorical()
    settings: Settings = Settings()
    folder: Path = Path()  # where relative paths begin
    search: SearchSettings | None = None  # how ``search`` varies it; a run takes no notice
    augmentation: Source | None = None  # of training inputs, a batch at a time

    @property
    def guide(self) -> str | Callable:
        """What ``compress`` takes: a name in GUIDES, or the function that the recipe names."""
        own = self.settings.guide not in GUIDES
        return (
            function_at(self.settings.guide, "guide", self.folder) if own else self.settings.guide
        )

    @property
    def augment(self) -> Callable[[Tensor], Tensor] | None:
        """What ``Batches`` take. Raises ValueError where there is no such function."""
        return None if self.augmentation is None else self.augmentation.bound(self.folder)

    def to_toml(self, folder: Path) -> str:
        """The recipe as TOML that means the same run in ``folder``: without [search]."""
        base = folder.resolve()
        # A table without keys says nothing.
        settings = {k: v for k, v in as_table(self.settings).items() if v != {}}
        for key in {"start", "from_run"} & settings.keys():
            settings[key] = relative(settings[key], self.folder, base)
        if settings["guide"] not in GUIDES:
            own = Source(settings["guide"])
            settings["guide"] = source_table(own, self.folder, base)["source"]
        sources = {"network": self.network, "data": self.data, "augmentation": self.augmentation}
        return tomli_w.dumps(
            {
                **{key: source_table(s, self.folder, base) for key, s in sources.items() if s},
                "likelihood": spec_table(self.likelihood, LIKELIHOODS, self.folder, base),
                **settings,
                "prior": [self._rule_table(rule, i, base) for i, rule in enumerate(self.prior)],
            }
        )

    def _rule_table(self, rule: Rule, i: int, base: Path) -> dict[str, Any]:
        try:
            where = None if rule.where is None else path_of(rule.where, self.folder, base)
            keys = RuleKeys(rule.group, rule.match, rule.module_name, where, rule.each)
            # A group and a match are always written, the other keys where they ask for something.
            given = {k: v for k, v in as_table(keys).items() if v or k in ("group", "match")}
            return {**given, **spec_table(rule.prior, PRIORS, self.folder, base)}
        except ValueError as error:
            raise ValueError(f"prior[{i}]: {error}") from None


def read_recipe(path: str | os.PathLike, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``changes`` such as "prior.0.slabs=32" overwrite single keys first.

    Raises ValueError, in one line that names file and key, for anything it cannot mean.
    """
    table = read_table(path, changes)
    try:
        return parse(table, Path(path).parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_table(path: str | os.PathLike, changes: Sequence[str] = ()) -> dict[str, Any]:
    """A recipe's table as it stands in the file, with the changes made in it, not yet checked."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    for change in changes:
        _change(table, change)
    return table


def parse(table: Mapping[str, Any], folder: Path = Path()) -> Recipe:
    """A recipe from its table. Raises ValueError with the key's path."""
    rest = dict(table)
    missing = [key for key in REQUIRED if key not in rest]
    if missing:
        known = [key for key in rest if key not in keys_of(Settings)]
        hint = difflib.get_close_matches(missing[0], known, 1)
        there = f" (there is {hint[0]!r})" if hint else ""
        raise ValueError(
            f"missing key {missing[0]!r}{there}; a recipe has network, data and [[prior]]"
        )
    network = as_source(rest.pop("network"), "network")
    data = as_source(rest.pop("data"), "data")
    rules = rest.pop("prior")
    if not isinstance(rules, list) or not rules:
        raise ValueError(f"prior: must be one or more [[prior]] tables, got {rules!r}")
    augmentation = rest.pop("augmentation", None)
    search = rest.pop("search", None)
    likelihood = rest.pop("likelihood", {"family": "categorical"})
    if isinstance(likelihood, str):
        likelihood = {"family": likelihood}
    return Recipe(
        network,
        data,
        tuple(_rule(rule, f"prior[{i}]", folder) for i, rule in enumerate(rules)),
        spec_of(likelihood, LIKELIHOODS, "likelihood", folder),
        validated(Settings, rest, "", extra_keys=(*REQUIRED, *OPTIONAL)),
        folder,
        None if search is None else search_settings(search),
        None if augmentation is None else as_source(augmentation, "augmentation"),
    )


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
