"""Fields of a frozen settings value, held to their annotations, as a recipe's keys are.

A number in the place of a hyperprior, or a text in that of a number, would else be found by a fit,
in the words of whatever it meets there first; or by nobody.
"""

import dataclasses
from collections.abc import Callable
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pyro_sws.inference.plain_numbers import flag, numbers_of, real, shown, whole
from pyro_sws.suggestions import nearest

Kind: TypeAlias = Any  # what an annotation may be

WORDS = {int: "a whole number", float: "a number", bool: "True or False", NoneType: "None"}
PLURAL = {int: "whole numbers", float: "numbers"}
PLAIN: dict[Kind, Callable[[str, object], object]] = {int: whole, float: real, bool: flag}


def check_fields(settings: Any, where: str = "") -> None:
    """Make every field what its annotation says: numpy's numbers Python's, lists and arrays tuples.

    Known are numbers, choices (Literal), tuples of one kind, classes, functions, and unions of
    these; what else an annotation may say is let pass. ``where`` stands before a field's name in
    an error. Raises ValueError where the field may be a number or a choice, else TypeError.
    """
    cls: Any = type(settings)
    for name, kind in _kinds(cls).items():
        given = getattr(settings, name)
        own = _as_one_of(name, given, _branches(kind), where)
        if own is not given:
            object.__setattr__(settings, name, own)


@cache
def _kinds(cls: Kind) -> dict[str, Kind]:
    try:
        hints = get_type_hints(cls)
    except NameError:  # of a class derived elsewhere, whose annotations nothing here can look up
        return {}
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def _branches(kind: Kind) -> tuple[Kind, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _as_one_of(name: str, value: object, kinds: tuple[Kind, ...], where: str = "") -> object:
    for kind in kinds:
        try:
            return _as(f"{where}{name}", value, kind)
        except (ValueError, TypeError):
            if len(kinds) == 1 and kind in PLAIN:
                raise
    words = [word for kind in kinds for word in _words(kind)]
    listed = " or ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)
    choices = [c for kind in kinds if get_origin(kind) is Literal for c in get_args(kind)]
    names = [choice for choice in choices if isinstance(choice, str)]
    hint = nearest(value, names) if isinstance(value, str) else ""
    if isinstance(value, str) and len(kinds) == 1 and names:
        raise ValueError(f"{where}unknown {name} {value!r}{hint}; choose from {', '.join(names)}")
    numbers = {int, float} & {*kinds}
    error = ValueError if choices or numbers else TypeError
    raise error(f"{where}{name} must be {listed}, got {shown(value)}{hint}")


def _as(name: str, value: object, kind: Kind) -> object:
    """The value as this kind has it. Raises ValueError or TypeError where it is none."""
    if kind is Any:  # from Python 3.11 on a class, of which nothing is an instance
        return value
    if kind in PLAIN:
        return PLAIN[kind](name, value)
    origin = get_origin(kind)
    if origin is Literal:
        own = value if isinstance(value, str) else whole(name, value)
        return get_args(kind)[get_args(kind).index(own)]  # ValueError where it is none of them
    if origin is tuple:
        value = numbers_of(value)
        if not isinstance(value, list | tuple):
            raise TypeError
        inside = _branches(get_args(kind)[0])
        return tuple(_as_one_of(name, part, inside) for part in value)
    if isinstance(kind, type) and not isinstance(value, kind):
        raise TypeError
    if origin is Callable and not callable(value):
        raise TypeError
    return value


def _words(kind: Kind) -> list[str]:
    """How an error calls what a kind takes."""
    if get_origin(kind) is Literal:
        return [repr(choice) for choice in get_args(kind)]
    if get_origin(kind) is tuple:
        inside = get_args(kind)[0]
        return [f"a list of {PLURAL.get(inside) or ' and '.join(_words(inside))}"]
    if get_origin(kind) is Callable:
        return ["a function"]
    return [WORDS.get(kind) or f"a {getattr(kind, '__name__', kind)}"]
