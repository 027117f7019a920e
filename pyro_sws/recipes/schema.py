"""The JSON schema of a recipe, made from the dataclasses that read it: for editors."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

from pydantic import Field, TypeAdapter

from pyro_sws.inference.guides import GUIDES
from pyro_sws.inference.likelihoods import LIKELIHOODS
from pyro_sws.inference.priors import PRIORS
from pyro_sws.recipes.recipe import PlainKeys as Settings
from pyro_sws.recipes.recipe import RuleKeys
from pyro_sws.recipes.search_table import SearchSettings

OwnPath = Annotated[str, Field(pattern=r"^.+:[^:]+$")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnFunction:
    """A function, "file.py:name" or "package.module:name"; its arguments are other keys."""

    __pydantic_config__ = {"extra": "allow"}
    source: OwnPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnFamily:
    """A dataclass of your own, "file.py:name"; its fields are other keys."""

    __pydantic_config__ = {"extra": "allow"}
    family: OwnPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class OwnPrior(RuleKeys, OwnFamily):
    """A prior of your own, a dataclass or a function; its fields or arguments are other keys."""

    __pydantic_config__ = {"extra": "allow"}


def recipe_schema() -> dict[str, Any]:
    """The schema of what ``read_recipe`` takes (draft 2020-12).

    It holds keys and types; what only a value can show, such as a negative tau, only reading finds.
    """
    prior = _families(PRIORS, "prior", RuleKeys) | OwnPrior
    likelihood = _families(LIKELIHOODS, "likelihood") | OwnFamily
    names = Literal[tuple(LIKELIHOODS)]  # type: ignore[valid-type]
    fields = [
        ("network", OwnPath | OwnFunction),
        ("data", OwnPath | OwnFunction),
        ("augmentation", OwnPath | OwnFunction | None, dataclasses.field(default=None)),
        ("prior", Annotated[list[prior], Field(min_length=1)]),  # type: ignore[valid-type]
        ("likelihood", names | OwnPath | likelihood, dataclasses.field(default="categorical")),
        ("guide", Literal[tuple(GUIDES)] | OwnPath, dataclasses.field(default="delta")),  # type: ignore[valid-type]
        ("search", SearchSettings | None, dataclasses.field(default=None)),
    ]
    recipe = _derived("recipe", Settings, fields, "A recipe for pyro-sws run.")
    schema = TypeAdapter(recipe).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_as_read(schema)}


def _families(families: Mapping[str, type], kind: str, *keys: type) -> Any:
    """A union over a table of families, told apart by ``family``, with the keys beside theirs."""
    tables = [
        _derived(f"{name}_{kind}", cls, [("family", Literal[name])], cls.__doc__, *keys)
        for name, cls in families.items()
    ]
    return Annotated[Union[tuple(tables)], Field(discriminator="family")]  # noqa: UP007


def _derived(name: str, cls: type, fields: list, doc: str | None, *more: type) -> type:
    """A dataclass with the fields of others and some of its own, for pydantic to look at."""
    namespace = {"__doc__": doc, "__pydantic_config__": {"extra": "forbid"}}
    bases = (*more, cls)
    return dataclasses.make_dataclass(
        name, fields, bases=bases, namespace=namespace, kw_only=True, frozen=True
    )


def _as_read(schema: Any) -> Any:
    """As the reader has it: without null, which TOML has not, and without unknown keys.

    Descriptions are cut to their first line.
    """
    if isinstance(schema, list):
        return [_as_read(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {k: v for k, v in schema.items() if k != "discriminator" and v is not None}
    found = {key: _as_read(value) for key, value in kept.items()}
    if isinstance(found.get("description"), str):
        found["description"] = found["description"].partition("\n")[0]
    if "anyOf" in found:
        branches = [branch for branch in found["anyOf"] if branch != {"type": "null"}]
        found |= {"anyOf": branches}
        if len(branches) == 1:
            del found["anyOf"]
            found = branches[0] | found
    if isinstance(found.get("properties"), dict) and found.get("type") == "object":
        found.setdefault("additionalProperties", False)
    return found
