"""Recipes: a whole run as data. TOML to frozen specs and back, with errors that name the key."""

import dataclasses
import difflib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w
from pydantic import TypeAdapter, ValidationError

from pyro_sws.inference.fit import Rates
from pyro_sws.inference.likelihoods import LIKELIHOODS, Categorical, Likelihood
from pyro_sws.inference.priors import PRIORS
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.pretraining import Pretraining
from pyro_sws.weights.merge import MERGE_THRESHOLD

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Source:
    """A function in a Python file ("lenet.py:lenet_300_100") or module, and its arguments."""

    path: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, folder: Path, **more: Any) -> Any:
        """Call it; a file's path is relative to ``folder``. Runs the code in that file."""
        return self.function(folder)(**{**self.arguments, **more})

    def function(self, folder: Path) -> Callable:
        """The function itself. Raises ValueError where there is none."""
        where, _, name = self.path.rpartition(":")
        if not where:
            raise ValueError(f"{self.path!r} names no function; write 'file.py:function'")
        module = _module(where, folder)
        if not hasattr(module, name):
            raise ValueError(f"{where} has no function {name!r}; look at the name after the ':'")
        return getattr(module, name)


@dataclass(frozen=True)
class Settings:
    """The recipe's keys that are plain values. See ``compress`` and ``fit`` for what they do."""

    __pydantic_config__ = {"extra": "forbid"}
    start: str | None = None  # safetensors to start from, instead of pre-training
    pretraining: Pretraining = Pretraining()
    tau: float = 0.03  # weight of the complexity cost: larger is smaller
    guide: Literal["delta"] = "delta"
    epochs: int = 60
    batch_size: int = 256
    rates: Rates = Rates()
    schedule: Literal["constant", "cosine"] = "cosine"
    merge_threshold: float = MERGE_THRESHOLD
    codebook_dtype: Literal["float16", "float32"] = "float16"
    seed: int = 0
    device: str | None = None
    dtype: Literal["float32", "float64"] | None = None


@dataclass(frozen=True)
class Recipe:
    """What ``pyro-sws run`` needs to know."""

    network: Source
    data: Source
    prior: tuple[Rule, ...]
    likelihood: Likelihood = Categorical()
    settings: Settings = Settings()
    folder: Path = Path()  # where relative paths begin

    def to_toml(self, folder: Path) -> str:
        """The recipe as TOML that means the same in ``folder``."""
        base = folder.resolve()
        settings = _plain(self.settings)
        if self.settings.start is not None:
            settings["start"] = _relative(self.settings.start, self.folder, base)
        return tomli_w.dumps(
            {
                "network": _source_table(self.network, self.folder, base),
                "data": _source_table(self.data, self.folder, base),
                "likelihood": _spec_table(self.likelihood, LIKELIHOODS, self.folder, base),
                **settings,
                "prior": [
                    {
                        "group": rule.group,
                        "match": rule.match,
                        **_spec_table(rule.prior, PRIORS, self.folder, base),
                    }
                    for rule in self.prior
                ],
            }
        )


def read_recipe(path: str | os.PathLike, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``changes`` such as "prior.0.slabs=32" overwrite single keys first.

    Raises ValueError, in one line that names file and key, for anything it cannot mean.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    for change in changes:
        _change(table, change)
    try:
        return parse(table, path.parent)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse(table: Mapping[str, Any], folder: Path = Path()) -> Recipe:
    """A recipe from its table. Raises ValueError with the key's path."""
    rest = dict(table)
    missing = [key for key in ("network", "data", "prior") if key not in rest]
    if missing:
        raise ValueError(f"missing key {missing[0]!r}; a recipe has network, data and [[prior]]")
    network = _source(rest.pop("network"), "network")
    data = _source(rest.pop("data"), "data")
    rules = rest.pop("prior")
    if not isinstance(rules, list) or not rules:
        raise ValueError("prior: must be one or more [[prior]] tables")
    likelihood = rest.pop("likelihood", {"family": "categorical"})
    if isinstance(likelihood, str):
        likelihood = {"family": likelihood}
    return Recipe(
        network,
        data,
        tuple(_rule(rule, f"prior[{i}]", folder) for i, rule in enumerate(rules)),
        _spec(likelihood, LIKELIHOODS, "likelihood", folder),
        validated(Settings, rest, "", extra_keys=("network", "data", "prior", "likelihood")),
        folder,
    )


def validated(cls: Any, table: Any, where: str, extra_keys: Sequence[str] = ()) -> Any:
    """``cls`` from its table, by pydantic. Raises ValueError: the key's path, what was there."""
    try:
        return TypeAdapter(cls).validate_python(table)
    except ValidationError as error:
        # Of a union's complaints the longest path is about the branch that fits best.
        worst = max(error.errors(), key=lambda e: len(e["loc"]))
        raise ValueError(_complaint(worst, cls, where, extra_keys)) from None


def _complaint(error: Any, cls: Any, where: str, extra_keys: Sequence[str]) -> str:
    names = [str(part) for part in error["loc"]]
    if error["type"] == "unexpected_keyword_argument":
        *path, key = names
        owner = _at(cls, path)
        known = [*(f.name for f in dataclasses.fields(owner)), *(() if path else extra_keys)]
        return (
            f"{_join(where, path)}unknown key {key!r}{_nearest(key, known)}; "
            f"known are {', '.join(sorted(known))}"
        )
    message = error["msg"].removeprefix("Value error, ")
    given = error["input"]
    if error["type"] == "value_error" or isinstance(given, dict):
        return f"{_join(where, names)}{message}"
    return f"{_join(where, names)}{message}, got {given!r}"


def _at(cls: type, path: Sequence[str]) -> type:
    """The dataclass at a path of field names; a union's branch stands in the path by its name."""
    for candidate in reversed(path):
        for known in (Pretraining, Rates, *_hyperpriors()):
            if candidate == known.__name__ or candidate == known.__name__.lower():
                return known
    return cls


def _hyperpriors() -> tuple[type, ...]:
    from pyro_sws.inference import hyperpriors as h

    return (h.Gamma, h.Beta, h.Dirichlet, h.Normal)


def _nearest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f", did you mean {close[0]!r}?" if close else ""


def _join(where: str, names: Sequence[str]) -> str:
    path = ".".join(([where] if where else []) + list(names))
    return f"{path}: " if path else ""


def _rule(table: Any, where: str, folder: Path) -> Rule:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: must be a table, got {table!r}")
    rest = dict(table)
    match, group = rest.pop("match", "*"), rest.pop("group", "all")
    prior = _spec(rest, PRIORS, where, folder)
    try:
        return Rule(prior, match, group)
    except ValueError as error:
        raise ValueError(f"{where}.group: {error}") from None


def _spec(table: Any, families: Mapping[str, type], where: str, folder: Path) -> Any:
    """A spec by its ``family``: a name in the table of families, or "file.py:Class"."""
    if not isinstance(table, dict) or "family" not in table:
        raise ValueError(
            f"{where}: missing key 'family'; choose from {', '.join(sorted(families))}"
        )
    rest = dict(table)
    family = rest.pop("family")
    if family in families:
        return validated(families[family], rest, where)
    if isinstance(family, str) and ":" in family:
        return validated(Source(family).function(folder), rest, where)
    known = sorted(families)
    raise ValueError(
        f"{where}: unknown family {family!r}{_nearest(str(family), known)}; "
        f"choose from {', '.join(known)}, or name your own as 'file.py:Class'"
    )


def _source(value: Any, where: str) -> Source:
    if isinstance(value, str):
        return Source(value)
    if isinstance(value, dict) and isinstance(value.get("source"), str):
        arguments = dict(value)
        return Source(arguments.pop("source"), arguments)
    raise ValueError(
        f"{where}: must be 'file.py:function', or a table with that as 'source' and its arguments; "
        f"got {value!r}"
    )


def _module(where: str, folder: Path) -> Any:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    path = (folder / where).resolve()
    if not path.is_file():
        raise ValueError(f"no file {path}; paths in a recipe are relative to it")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _change(table: dict[str, Any], change: str) -> None:
    """Apply "a.0.b=value" to the table; the value is TOML, or a string where it is not."""
    path, equals, text = change.partition("=")
    if not equals:
        raise ValueError(f"--set {change!r}: write key=value, such as prior.0.slabs=32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.strip().split(".")
    place: Any = table
    for key in parents:
        place = _step(place, key, change)
    if isinstance(place, list):
        place[_index(place, last, change)] = value
    else:
        place[last] = value


def _step(place: Any, key: str, change: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, change)]
    if isinstance(place.get(key, {}), str):  # network = "a.py:f" takes arguments too
        place[key] = {"source": place[key]}
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise ValueError(f"--set {change!r}: {key!r} is {inner!r}, not a table")
    return inner


def _index(place: list, key: str, change: str) -> int:
    if not key.isdecimal() or int(key) >= len(place):
        raise ValueError(f"--set {change!r}: {key!r} is no index into {len(place)} tables")
    return int(key)


def _spec_table(spec: Any, families: Mapping[str, type], old: Path, new: Path) -> dict[str, Any]:
    names = {cls: name for name, cls in families.items()}
    cls = type(spec)
    if cls in names:
        return {"family": names[cls], **_plain(spec)}
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    where = cls.__module__ if file is None else file
    return {"family": f"{where}:{cls.__name__}", **_plain(spec)}


def _source_table(source: Source, old: Path, new: Path) -> dict[str, Any]:
    where, _, name = source.path.rpartition(":")
    path = _relative(where, old, new) if where.endswith(".py") else where
    return {"source": f"{path}:{name}", **{k: v for k, v in source.arguments.items()}}


def _relative(path: str, old: Path, new: Path) -> str:
    return Path(os.path.relpath((old / path).resolve(), new)).as_posix()


def _plain(value: Any) -> Any:
    """Dataclasses as tables, without what is None (TOML has no null)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        pairs = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {name: _plain(v) for name, v in pairs if v is not None}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value
