"""The JSON schema of a recipe, made from the types that check it: for editors."""

from typing import Any

from pydantic import TypeAdapter

from pyro_sws.recipes.tables import recipe_type


def recipe_schema() -> dict[str, Any]:
    """The schema of what ``read_recipe`` takes (draft 2020-12).

    It has keys and types. What depends on a value, such as a negative tau, only reading can refuse.
    """
    schema = TypeAdapter(recipe_type()).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_as_read(schema)}


def _as_read(schema: Any) -> Any:
    """As the reader has it: without null, which TOML has not, and without unknown keys.

    Descriptions are cut to their first line.
    """
    if isinstance(schema, list):
        return [_as_read(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {k: v for k, v in schema.items() if k != "discriminator" and v is not None}
    schema = {key: _as_read(value) for key, value in kept.items()}
    if isinstance(schema.get("description"), str):
        schema["description"] = schema["description"].partition("\n")[0]
    if "anyOf" in schema:
        branches = [branch for branch in schema["anyOf"] if branch != {"type": "null"}]
        schema |= {"anyOf": branches}
        if len(branches) == 1:
            del schema["anyOf"]
            schema = branches[0] | schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema
