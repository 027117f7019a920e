"""Settings checked as they are given; numpy's numbers are taken, and become Python's own."""

from numbers import Integral, Real


def whole(name: str, value: object) -> int:
    """An int of any integer. Raises ValueError, which says ``name``, for what is none."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def count(name: str, value: object) -> int:
    """An int of any integer from 1 on. Raises ValueError, which says ``name``, for what is none."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number >= 1, got {value!r}")
    return int(value)


def real(name: str, value: object) -> float:
    """A Python number of any real one. Raises ValueError, which says ``name``, for what is none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if isinstance(value, int | float) and type(value) in (int, float):
        return value
    return float(value)


def flag(name: str, value: object) -> bool:
    """A bool. Raises TypeError, which says ``name``, for what is none: "no" would be true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def instance(name: str, value: object, kind: type) -> None:
    """Raise TypeError, which says ``name``, where the value is not of the kind."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be of {kind.__name__}, got {value!r}")
