"""Whether a value as JSON has the shape that a TypedDict promises: every key, and of its type."""

import types
from typing import Literal, Union, get_args, get_origin, get_type_hints, is_typeddict


def mismatches(value, hint, where="it"):
    """What is not as promised, a sentence each; none where all is."""
    if is_typeddict(hint):
        return _of_keys(value, hint, where)
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        found = [mismatches(value, choice, where) for choice in inner]
        return [] if [] in found else min(found, key=len)
    if origin is Literal:
        return [] if value in inner else [f"{where} is {value!r}, not one of {inner}"]
    if origin is list:
        if type(value) is not list:
            return [f"{where} is {type(value).__name__}, not a list"]
        return [m for i, v in enumerate(value) for m in mismatches(v, inner[0], f"{where}[{i}]")]
    if origin is dict:
        if type(value) is not dict:
            return [f"{where} is {type(value).__name__}, not a dict"]
        return [m for k, v in value.items() for m in mismatches(v, inner[1], f"{where}[{k!r}]")]
    allowed = (int, float) if hint is float else (hint,)
    return [] if type(value) in allowed else [f"{where} is {type(value).__name__}, not {hint}"]


def _of_keys(value, hint, where):
    if type(value) is not dict:
        return [f"{where} is {type(value).__name__}, not a dict with keys"]
    hints = get_type_hints(hint)
    absent = [f"{where} has no {key!r}" for key in hint.__required_keys__ - value.keys()]
    unknown = [f"{where} has {key!r}, which is not promised" for key in value.keys() - hints.keys()]
    inside = [
        mismatch
        for key in hints.keys() & value.keys()
        for mismatch in mismatches(value[key], hints[key], f"{where}[{key!r}]")
    ]
    return absent + unknown + inside
