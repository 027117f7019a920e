"""A user's function of a network's outputs: called, and its errors said in one line."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_sws.inference.targets import what

# What a function may raise for outputs or targets that it cannot take.
FUNCTION_ERRORS = (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError)


def called(where: str, function: Callable, *given: Any) -> Any:
    """What the function makes of these. Raises ValueError where it cannot take them."""
    try:
        return function(*given)
    except torch.OutOfMemoryError:
        raise
    except FUNCTION_ERRORS as error:
        reason = (str(error).strip() or type(error).__name__).partition("\n")[0]
        of = " and ".join(what(one) if isinstance(one, Tensor) else repr(one) for one in given)
        raise ValueError(f"{where} {named(function)} cannot take {of}: {reason}") from error


def named(function: Callable) -> str:
    """What a function is called, or of which class it is."""
    own = getattr(function, "__name__", None) or getattr(function, "name", None)
    return own if isinstance(own, str) else type(function).__name__


def examples_in(outputs: Any) -> int:
    """How many examples outputs are of: a tensor (B, ...), or a tuple, list or dict of some."""
    while not isinstance(outputs, Tensor):
        outputs = next(iter(outputs.values() if isinstance(outputs, Mapping) else outputs))
    return len(outputs)
