"""Recipes: a whole run as data. TOML to frozen specs and back, with errors that name the key."""

import dataclasses
import difflib
import importlib
import importlib.util
import inspect
import json
import math
import os
import sys
import typing
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import ModuleType
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
        function, arguments = self.function(folder), {**self.arguments, **more}
        signature = inspect.signature(function)
        try:
            signature.bind(**arguments)
        except TypeError as error:
            takes = ", ".join(signature.parameters) or "nothing"
            raise ValueError(f"{self.path}: {error}; it takes {takes}") from None
        return function(**arguments)

    def function(self, folder: Path) -> Callable:
        """The function itself. Raises ValueError where there is none."""
        where, _, name = self.path.rpartition(":")
        module = _module(where, folder)
        found = getattr(module, name, None)
        if not callable(found):
            known = [n for n, value in vars(module).items() if callable(value)]
            hint = _nearest(name, known) or "; look at the name after the ':'"
            raise ValueError(f"{where} has no function or class {name!r}{hint}")
        return found


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

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ValueError(f"tau must be a positive number, got {self.tau}")
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.merge_threshold >= 0:
            raise ValueError(f"merge_threshold must be at least 0, got {self.merge_threshold}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be in 0..2^63 - 1, got {self.seed}")


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


REQUIRED = ("network", "data", "prior")


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
    missing = [key for key in REQUIRED if key not in rest]
    if missing:
        known = [key for key in rest if key not in _keys(Settings)]
        hint = difflib.get_close_matches(missing[0], known, 1)
        there = f" (there is {hint[0]!r})" if hint else ""
        raise ValueError(
            f"missing key {missing[0]!r}{there}; a recipe has network, data and [[prior]]"
        )
    network = _source(rest.pop("network"), "network")
    data = _source(rest.pop("data"), "data")
    rules = rest.pop("prior")
    if not isinstance(rules, list) or not rules:
        raise ValueError(f"prior: must be one or more [[prior]] tables, got {rules!r}")
    likelihood = rest.pop("likelihood", {"family": "categorical"})
    if isinstance(likelihood, str):
        likelihood = {"family": likelihood}
    return Recipe(
        network,
        data,
        tuple(_rule(rule, f"prior[{i}]", folder) for i, rule in enumerate(rules)),
        _spec(likelihood, LIKELIHOODS, "likelihood", folder),
        validated(Settings, rest, "", extra_keys=(*REQUIRED, "likelihood")),
        folder,
    )


def validated(cls: Any, table: Any, where: str, extra_keys: Sequence[str] = ()) -> Any:
    """``cls`` from its table, by pydantic. Raises ValueError: the key's path, what was there."""
    known = (*_keys(cls), *extra_keys)
    for key in table:  # before pydantic, which lets them pass in a user's own dataclass
        if key not in known:
            raise ValueError(f"{_join(where, [])}{_unknown(key, known)}")
    try:
        # TOML has types, so "3" and true are no numbers. Only JSON is strict and yet takes tables.
        return TypeAdapter(cls).validate_json(json.dumps(table, default=str), strict=True)
    except ValidationError as error:
        raise ValueError(_complaint(error.errors(), cls, where)) from None


def _complaint(errors: Sequence[Any], cls: type, where: str) -> str:
    """One of pydantic's errors; of a union's the one about the branch that fits best."""
    rank = {"unexpected_keyword_argument": 3, "missing": 2, "value_error": 1}
    in_branch = Counter(e["loc"][:-1] for e in errors)

    def fits(e: Any) -> tuple[int, int, int]:
        return rank.get(e["type"], 0), -in_branch[e["loc"][:-1]], len(e["loc"])

    worst = max(errors, key=fits)
    names, owner = _locate(cls, worst["loc"])
    if worst["type"] == "unexpected_keyword_argument":
        return f"{_join(where, names[:-1])}{_unknown(names[-1], _keys(owner))}"
    if worst["type"] == "missing":
        keys = ", ".join(_keys(owner))
        return f"{_join(where, names[:-1])}missing key {names[-1]!r}; it has {keys}"
    if worst["type"] == "value_error":
        message = worst["msg"].removeprefix("Value error, ")
        path = _join(where, names)
        return message if message.startswith(path.removesuffix(": ") + ".") else path + message
    alike = [e for e in errors if _locate(cls, e["loc"])[0] == names]
    wanted = " or ".join(dict.fromkeys(map(_wanted, alike)))
    return f"{_join(where, names)}must be {wanted}, got {worst['input']!r}"


def _wanted(error: Any) -> str:
    """What a key should hold, in a recipe's own words."""
    if error["type"] == "literal_error":
        return error["ctx"]["expected"]
    if error["type"] == "dataclass_type":
        return f"a {error['ctx']['class_name']} table"
    words = {"float": "a number", "int": "a whole number", "string": "a string", "tuple": "a list"}
    kind = error["type"].split("_")[0]
    return words.get(kind) or error["msg"].removeprefix("Input should be ")


def _locate(cls: Any, loc: Sequence[Any]) -> tuple[list[str], Any]:
    """Pydantic's path without the names of union branches, and the dataclass that its end is in."""
    names: list[str] = []
    owner, place = cls, cls
    for part in loc:
        if dataclasses.is_dataclass(place):
            owner, names = place, [*names, str(part)]
            place = typing.get_type_hints(place).get(part)
        elif isinstance(part, int):
            names.append(str(part))
        else:
            branches = typing.get_args(place)
            place = next((b for b in branches if getattr(b, "__name__", None) == part), None)
    return names, owner


def _keys(cls: Any) -> list[str]:
    return sorted(f.name for f in dataclasses.fields(cls) if f.init)


def _unknown(key: str, known: Sequence[str]) -> str:
    listed = ", ".join(sorted(known)) or "none"
    return f"unknown key {key!r}{_nearest(key, known)}; known are {listed}"


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
    for key, value in (("match", match), ("group", group)):
        if not isinstance(value, str):
            raise ValueError(f"{where}.{key}: must be a string, got {value!r}")
    prior = _spec(rest, PRIORS, where, folder)
    try:
        return Rule(prior, match, group)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _spec(table: Any, families: Mapping[str, type], where: str, folder: Path) -> Any:
    """A spec by its ``family``: a name in the table of families, or "file.py:Class"."""
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
        return validated(families[family], rest, where)
    if ":" in family:
        return validated(_own_family(family, where, folder), rest, where)
    known = sorted(families)
    raise ValueError(
        f"{where}: unknown family {family!r}{_nearest(family, known)}; "
        f"choose from {', '.join(known)}, or name your own as 'file.py:Class'"
    )


def _own_family(family: str, where: str, folder: Path) -> type:
    try:
        cls = Source(family).function(folder)
    except ValueError as error:
        raise ValueError(f"{where}.family: {error}") from None
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ValueError(f"{where}.family: {family} is no dataclass; its fields are the keys")
    return cls


def _source(value: Any, where: str) -> Source:
    arguments = dict(value) if isinstance(value, dict) else {}
    path = arguments.pop("source", None) if isinstance(value, dict) else value
    if isinstance(path, str) and all(path.rpartition(":")):
        return Source(path, arguments)
    raise ValueError(
        f"{where}: must be 'file.py:function', or a table with that as 'source' and its arguments; "
        f"got {value!r}"
    )


def _module(where: str, folder: Path) -> ModuleType:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            if error.name != where and not where.startswith(f"{error.name}."):
                raise  # the module is there; what it imports is not
            raise ValueError(f"no module {where!r}; write 'file.py:name' for a file") from None
    path = (folder / where).resolve()
    if not path.is_file():
        raise ValueError(f"no file {path}; paths in a recipe are relative to it")
    return _file_module(path, path.stat().st_mtime_ns)


@lru_cache
def _file_module(path: Path, changed: int) -> ModuleType:
    """The module in a file, run once for each state of the file."""
    # Its path is its name: files of one stem do not meet, and a class can say where it is from.
    spec = importlib.util.spec_from_file_location(str(path), path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[str(path)] = module  # dataclasses look their annotations' names up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[str(path)]
        raise
    return module


def _change(table: dict[str, Any], change: str) -> None:
    """Apply "a.0.b=value" to the table; the value is TOML, or a string where it is not."""
    path, equals, text = change.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"--set {change!r}: write key=value, such as prior.0.slabs=32")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = path.strip().split(".")
    place: Any = table
    if parents and isinstance(table.get(parents[0]), str):  # the short form of a table
        short = {"network": "source", "data": "source", "likelihood": "family"}
        if parents[0] in short:
            table[parents[0]] = {short[parents[0]]: table[parents[0]]}
    for key in parents:
        place = _step(place, key, change)
    if isinstance(place, list):
        place[_index(place, last, change)] = value
    else:
        place[last] = value


def _step(place: Any, key: str, change: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, change)]
    inner = place.setdefault(key, {})
    if not isinstance(inner, dict | list):
        raise ValueError(f"--set {change!r}: {key!r} is {inner!r}, not a table")
    return inner


def _index(place: list, key: str, change: str) -> int:
    if not key.isdecimal() or int(key) >= len(place):
        raise ValueError(f"--set {change!r}: {key!r} is no index; use 0..{len(place) - 1}")
    return int(key)


def _spec_table(spec: Any, families: Mapping[str, type], old: Path, new: Path) -> dict[str, Any]:
    names = {cls: name for name, cls in families.items()}
    cls = type(spec)
    if cls in names:
        return {"family": names[cls], **_plain(spec)}
    where = cls.__module__  # a path where it is from a file; see _file_module
    if where.endswith(".py"):
        where = _relative(where, old, new)
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
