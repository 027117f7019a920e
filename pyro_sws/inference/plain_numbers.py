"""Settings checked as they are given; numpy's and torch's numbers are taken, and become Python's.

Of tensors and arrays those without dimensions are numbers; but for one that wants a gradient, which
would be lost.
"""

from numbers import Integral, Real

import numpy as np
from torch import Tensor

LONGEST = 120  # characters of a value in an error


def whole(name: str, value: object) -> int:
    """An int of any integer. Raises ValueError, which says ``name``, for what is none."""
    number = _number(value)
    if not isinstance(number, Integral) or isinstance(number, bool):
        raise ValueError(f"{name} must be a whole number, got {shown(value)}")
    return int(number)


def count(name: str, value: object, least: int = 1) -> int:
    """An int of any integer from ``least`` on. Raises ValueError, which says ``name``, else."""
    number = _number(value)
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {shown(value)}")
    return int(number)


def real(name: str, value: object) -> float:
    """A Python number of any real one. Raises ValueError, which says ``name``, for what is none."""
    number = _number(value)
    if not isinstance(number, Real) or isinstance(number, bool):
        raise ValueError(f"{name} must be a number, got {shown(value)}")
    try:
        as_float = float(number)
    except OverflowError:
        raise ValueError(
            f"{name} must be a number that a float holds, got {shown(value)}"
        ) from None
    return number if type(number) is int else as_float


def seed_number(name: str, value: object) -> int:
    """An int in 0..2^63 - 1. Raises ValueError, which says ``name``, for what is none."""
    seed = whole(name, value)
    if not 0 <= seed < 2**63:
        raise ValueError(f"{name} must be in 0..2^63 - 1, got {shown(seed)}")
    return seed


def flag(name: str, value: object) -> bool:
    """A bool. Raises TypeError, which says ``name``, for what is none: "no" would be true."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def instance(name: str, value: object, kind: type) -> None:
    """Raise TypeError, which says ``name``, where the value is not of the kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of {kind.__name__}, got {shown(value)}")


def shown(value: object) -> str:
    """A value in an error: its repr in one line, cut where it is long."""
    line = " ".join(repr(value).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def numbers_of(value: object) -> object:
    """The list that a tensor or an array of one dimension holds; another value as it is."""
    if (
        isinstance(value, Tensor)
        and value.dim() == 1
        and not (value.requires_grad or value.is_meta)
    ):
        return value.tolist()
    return value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value


def _number(value: object) -> object:
    """What a tensor or an array without dimensions holds; another value as it is."""
    if isinstance(value, Tensor) and not value.dim() and not (value.requires_grad or value.is_meta):
        return value.item()
    if isinstance(value, np.ndarray) and not value.ndim:
        return value.item()
    return value
