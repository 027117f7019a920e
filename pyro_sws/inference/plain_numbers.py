"""Python's own numbers of those that are given: numpy's scalars are taken, too."""

from numbers import Integral, Real


def whole(name: str, value: object) -> int:
    """An int of any integer. Raises ValueError, which says ``name``, for what is none."""
    if not isinstance(value, Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def real(name: str, value: object) -> float:
    """A Python number of any real one. Raises ValueError, which says ``name``, for what is none."""
    if not isinstance(value, Real):
        raise ValueError(f"{name} must be a number, got {value!r}")
    if isinstance(value, int | float) and type(value) in (int, float):
        return value
    return float(value)
