"""The types of a recipe's tables, made from the settings' own dataclasses: to check, to describe.

A field of ``Fitting``, ``Packing``, ``Density``, ``Plan``, ``NamedNetwork`` or ``NamedData`` is a
key at the top of a recipe because it is a field there. Nothing else lists them.
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin

import torch
from pydantic import Discriminator, Field, Tag

from pyro_sws.compression.packing import Packing
from pyro_sws.compression.plan import NamedData, NamedNetwork, Plan, Unnamed
from pyro_sws.compression.post_training.settings import PostTraining
from pyro_sws.compression.walk.settings import Walk
from pyro_sws.inference.density import Density
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import GUIDES
from pyro_sws.inference.likelihoods import LIKELIHOODS
from pyro_sws.inference.priors import PRIORS
from pyro_sws.recipes.search_table import SearchSettings
from pyro_sws.recipes.validation import Kind, Wanted

Table: TypeAlias = dict[str, Any]  # as TOML has it
Read: TypeAlias = Any  # a table when it is checked: of a type that recipe_type makes
TableField: TypeAlias = tuple[str, Kind, Any]  # name, annotation, dataclasses.field()

# Values of a plan whose fields are keys at the top of a recipe; they may be tables there, too.
SECTIONS: dict[str, type] = {"fit": Fitting, "packing": Packing, "density": Density}
# What ``fit`` may be by its family, in place of a fit. A plan has fields of these names.
FITS: dict[str, type] = {"walk": Walk, "post_training": PostTraining}
SHORT = {  # keys whose table may be a string, and which of the table's keys that is
    "network": "source",
    "data": "source",
    "augmentation": "source",
    "likelihood": "family",
    "density": "way",
}
# Fields of a plan and its parts that are no plain values; recipe_type says what stands for them.
OBJECTS = {"network", "data", "prior", "likelihood", "guide", "source", "augmentation"}

# Of a union of families: the tags of what is no family's name.
MADE_IN_PYTHON, A_NAME, A_PATH = "made in Python", "a name", "a path"

OwnPath = Annotated[str, Field(pattern=r"^.+:[^:]+$")]
FUNCTION = Annotated[OwnPath, Wanted("'file.py:function' or 'package.module:function'")]


@dataclass(frozen=True, kw_only=True)
class MadeInPython:
    """What was given in Python and has no name here: such a recipe can be read, but not run."""

    __pydantic_config__ = {"extra": "forbid"}
    made_in_python: str


@dataclass(frozen=True, kw_only=True)
class OwnFunction:
    """A function, "file.py:name" or "package.module:name"; its arguments are other keys."""

    __pydantic_config__ = {"extra": "allow"}
    source: OwnPath


@dataclass(frozen=True, kw_only=True)
class OwnFamily:
    """A dataclass of your own, "file.py:name"; its fields are other keys."""

    __pydantic_config__ = {"extra": "allow"}
    family: OwnPath


@dataclass(frozen=True, kw_only=True)
class OwnPrior(OwnFamily):
    """A prior of your own, a dataclass or a function; its fields or arguments are other keys."""

    __pydantic_config__ = {"extra": "allow"}
    starts: OwnPath | None = None  # of a function (group, weights): starting values by site


@dataclass(frozen=True)
class RuleKeys:
    """Which tensors a [[prior]] is for; its other keys are its family's. See ``Rule``."""

    group: str = "all"
    match: str = "*"  # glob on a tensor's name
    module: str | None = None  # class of the module that owns the tensor
    # "file.py:function" of name and parameter
    where: Annotated[OwnPath | MadeInPython | None, Wanted("'file.py:function'")] = None
    each: bool = False  # every tensor a group of its own


@cache
def recipe_type() -> type:
    """The type of a whole recipe. Its fields are the keys at the top."""
    function = "'file.py:function', or a table with that as 'source' and its arguments"
    source: Kind = Annotated[OwnPath | OwnFunction | MadeInPython, Wanted(function)]
    augmentation: Kind = Annotated[OwnPath | OwnFunction | None, Wanted(function)]
    guide: Kind = Annotated[
        Literal[tuple(GUIDES)] | OwnPath | MadeInPython,
        Wanted(f"{', '.join(GUIDES)}, or your own as 'file.py:function'", tuple(GUIDES)),
    ]
    prior: Kind = Annotated[
        list[_families(PRIORS, "prior", OwnPrior, RuleKeys)],  # type: ignore[misc]
        Field(min_length=1),
        Wanted("one or more [[prior]] tables"),
    ]
    optional = partial(dataclasses.field, default=None)
    fields = [
        ("network", source, dataclasses.field()),
        ("data", source, dataclasses.field()),
        ("augmentation", augmentation, optional()),
        ("prior", prior, optional()),
        ("likelihood", _families(LIKELIHOODS, "likelihood", OwnFamily), optional()),
        ("guide", guide, dataclasses.field(default="delta")),
        ("search", SearchSettings | None, optional()),
    ]
    plain = [
        field
        for cls in (NamedNetwork, NamedData, Plan)
        for field in fields_of(cls)
        if field[0] in plain_keys(cls)
    ]
    for name, cls in SECTIONS.items():
        own = table_type(cls.__name__, fields_of(cls), cls.__doc__)
        inside = _fits(cls) if name == "fit" else own
        for key, kind, field in fields_of(cls):
            at_top = top_key(name, key)
            fields.append((at_top, kind | inside if at_top == name else kind, field))
        if name not in SHORT:
            fields.append((name, inside | None, optional()))
    return table_type("recipe", [*fields, *plain], "A recipe for pyro-sws run.")


def plain_keys(cls: type) -> list[str]:
    """The fields of a plan, or of its network or data, that are plain values in a recipe."""
    left_out = OBJECTS | SECTIONS.keys() | ({"start"} if cls is Plan else set())
    return [f.name for f in dataclasses.fields(cls) if f.name not in left_out]


def top_key(section: str, key: str) -> str:
    """A section's key at the top of a recipe: its own name, but for its short form."""
    return section if SHORT.get(section) == key else key


def table_type(
    name: str, fields: Iterable[TableField], doc: str | None = None, extra: str = "forbid"
) -> type:
    """The type of a table with these keys. Dataclasses in it refuse unknown keys, as it does."""
    config = {"extra": extra, "arbitrary_types_allowed": True}
    namespace = {"__doc__": doc or name, "__pydantic_config__": config}
    return dataclasses.make_dataclass(name, fields, namespace=namespace, kw_only=True, frozen=True)


def fields_of(cls: type, function: Kind = MadeInPython) -> list[TableField]:
    """A dataclass's fields, for a table that has them as keys; ``function`` stands for a function.

    That is a path where the reader knows what to do with one, as for a likelihood's.
    """
    hints = hints_of(cls)
    return [
        (f.name, as_written(hints.get(f.name, Any), function), _same_default(f))
        for f in dataclasses.fields(cls)
        if f.init
    ]


def init_values(value: Any) -> Table:
    """A dataclass's fields and their values, in order, as far as they can be given."""
    return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}


def hints_of(value: type | Callable) -> dict[str, Kind]:
    """The annotations of a class or function; none where they cannot be looked up."""
    try:
        return typing.get_type_hints(value, include_extras=True)
    except (NameError, TypeError):  # what is imported for a type checker only, or no function
        return {}


def function_keys(cls: type) -> list[str]:
    """The fields of a dataclass that are functions."""
    hints = hints_of(cls)
    kinds = {f.name: hints.get(f.name, Any) for f in dataclasses.fields(cls)}
    return [key for key, kind in kinds.items() if as_written(kind) != as_written(kind, OwnPath)]


def as_written(kind: Kind, function: Kind = MadeInPython) -> Kind:
    """The TOML form of a Python annotation: without functions, which have no name there."""
    if get_origin(kind) in (Union, UnionType):
        branches = tuple(as_written(branch, function) for branch in get_args(kind))
        return Union[tuple(branch for branch in branches if branch is not torch.device)]  # noqa: UP007
    if kind is torch.dtype:
        return Literal["float32", "float64"]
    return function if Callable in (kind, get_origin(kind)) else kind


def unnamed_table(value: object) -> Table:
    """What a recipe says of a value that has no name there."""
    what = value.what if isinstance(value, Unnamed) else repr(value)
    return {"made_in_python": re.sub(r" at 0x[0-9a-fA-F]+", "", what)}


def _same_default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=field.default_factory)
    return dataclasses.field(default=field.default)


def _fits(fitting: type) -> Kind:
    """A table of a fit's settings, or of what ``family`` says is in place of a fit."""
    of_a_fit = ("family", Literal["fit"], dataclasses.field(default="fit"))
    tables: dict[str, Kind] = {
        name: table_type(f"{name}_fit", [*_tagged(name), *fields_of(cls)], cls.__doc__)
        for name, cls in FITS.items()
    }
    fit = table_type(fitting.__name__, [of_a_fit, *fields_of(fitting)], fitting.__doc__)
    branches = tuple(Annotated[own, Tag(tag)] for tag, own in {"fit": fit, **tables}.items())
    return Annotated[Union[branches], Discriminator(_fit_tag)]  # noqa: UP007


def _fit_tag(value: object) -> str | None:
    family = value.get("family", "fit") if isinstance(value, dict) else "fit"
    return family if isinstance(family, str) else None


def _families(families: Mapping[str, type], kind: str, own: type, *keys: type) -> Kind:
    """A union over a table of families, told apart by ``family``, with the keys beside theirs.

    One more is a family of one's own, one what was made in Python. Without further keys a name
    alone is a family at its defaults.
    """
    own_tag = "file.py:function" if own is OwnPrior else "file.py:Class"
    beside = [field for cls in keys for field in fields_of(cls)]
    tables: dict[str, Kind] = {
        name: table_type(
            f"{name}_{kind}", [*_tagged(name), *fields_of(cls, FUNCTION), *beside], cls.__doc__
        )
        for name, cls in families.items()
    }
    for tag, cls, extra in (own_tag, own, "allow"), (MADE_IN_PYTHON, MadeInPython, "forbid"):
        fields = [*fields_of(cls), *beside]
        tables[tag] = table_type(f"{cls.__name__}_{kind}", fields, cls.__doc__, extra)
    names = () if keys else tuple(name for name, cls in families.items() if not _needed(cls))
    if names:
        tables |= {A_NAME: Literal[names], A_PATH: OwnPath}
    branches = tuple(Annotated[table, Tag(tag)] for tag, table in tables.items())
    return Annotated[
        Union[branches],  # noqa: UP007
        Discriminator(lambda value: _tag(value, own_tag, names)),
    ]


def _needed(cls: type) -> list[str]:
    """The fields of a dataclass that have no default."""
    nothing = dataclasses.MISSING
    each = dataclasses.fields(cls)
    return [f.name for f in each if f.default is nothing and f.default_factory is nothing]


def _tag(value: object, own_tag: str, names: tuple[str, ...]) -> str | None:
    """Which of the families' tables a value is meant for; ``names`` may stand alone."""
    if not isinstance(value, dict):
        if not isinstance(value, str) or not names:
            return None
        return A_NAME if value in names else A_PATH if ":" in value else value
    if "made_in_python" in value:
        return MADE_IN_PYTHON
    family = value.get("family")
    if not isinstance(family, str):
        return None
    return own_tag if ":" in family else family


def _tagged(family: str) -> list[TableField]:
    return [("family", Literal[family], dataclasses.field())]
