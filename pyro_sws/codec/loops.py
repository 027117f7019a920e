"""The inner loops, as plain Python or compiled by numba: one source, the same bytes.

The environment variable ``PYRO_SWS_CODEC`` chooses: ``python``, ``numba``, or ``auto``, the
default, which takes numba if it is installed and there is enough to do to pay for loading it.
"""

import inspect
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from types import FunctionType

import numpy as np

from pyro_sws.codec import arithmetic, contexts, mixing, prediction
from pyro_sws.codec.arithmetic import LAST, ROOM

# What the loops work on: Python's own or, compiled, numpy's.
Integers = list[int] | np.ndarray
Octets = bytearray | np.ndarray

WORTH_LOADING = 200_000  # symbols; plain Python takes seconds for so many

_EXPECTED: ContextVar[int] = ContextVar("symbols that are to be coded", default=0)
_CODED = {"symbols": 0}  # in plain Python, by this process: many small files are as much work


@dataclass(frozen=True)
class Loops:
    """The loops and what they work on: ``integers`` of a list, or so many alike; ``octets``."""

    code_sequence: Callable[..., Octets]
    code_tensor: Callable[..., Octets]
    integers: Callable[..., Integers]
    octets: Callable[[bytes], Octets]
    compiled: bool


@contextmanager
def expecting(symbols: int) -> Iterator[None]:
    """Inside, so many are to be coded in all, in however many files: numba may pay for that."""
    token = _EXPECTED.set(max(symbols, _EXPECTED.get()))
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def loops(size: int) -> Loops:
    """For ``size`` symbols in all, or what is expected, or as many as were coded, if that is more.

    Raises ValueError for an unknown PYRO_SWS_CODEC, ImportError where it asks for numba in vain.
    """
    choice = os.environ.get("PYRO_SWS_CODEC", "auto")
    if choice not in ("auto", "python", "numba"):
        raise ValueError(f"unknown PYRO_SWS_CODEC {choice!r}; choose from auto, python, numba")
    _CODED["symbols"] += size
    enough = max(_CODED["symbols"], _EXPECTED.get()) >= WORTH_LOADING
    if choice == "python" or (choice == "auto" and not enough):
        return PLAIN
    try:
        return _compile()
    except ImportError as error:  # not there, or not with this numpy
        if choice == "auto":
            return PLAIN
        raise ImportError(f"PYRO_SWS_CODEC is numba; install pyro-sws[fast] ({error})") from None


def _list(of: int | list[int], fill: int = 0) -> list[int]:
    return [fill] * of if isinstance(of, int) else list(of)


def _array(of: int | list[int], fill: int = 0) -> np.ndarray:
    return np.full(of, fill, np.int64) if isinstance(of, int) else np.array(of, np.int64)


def _octets(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8).copy()


PLAIN = Loops(arithmetic.code_sequence, contexts.code_tensor, _list, bytearray, False)


@cache
def _compile() -> Loops:
    from numba import njit
    from numba.extending import overload, register_jitable

    @overload(arithmetic.put)
    def put(data, position, byte):
        def implementation(data, position, byte):
            data[position] = byte

        return implementation

    @overload(arithmetic.room)
    def room(data, state):
        def implementation(data, state):
            larger = np.zeros(2 * len(data) + 2 * ROOM, np.uint8)
            larger[: len(data)] = data
            state[LAST] = len(larger) - ROOM
            return larger

        return implementation

    for helper in HELPERS:
        register_jitable(forceinline=True)(helper)

    def compile(function):
        # numba's cache heeds changes of the function's own file; the name heeds those of all.
        copy = FunctionType(function.__code__, function.__globals__)
        copy.__qualname__ = f"{function.__name__}_{_sources():08x}"
        try:
            return njit(cache=True, error_model="numpy")(copy)
        except RuntimeError:  # nowhere to keep what was compiled
            return njit(copy, error_model="numpy")

    return Loops(
        compile(arithmetic.code_sequence), compile(contexts.code_tensor), _array, _octets, True
    )


def _sources() -> int:
    """A checksum of all that the loops are made of."""
    modules = (arithmetic, contexts, mixing, prediction)
    return zlib.crc32("".join(map(inspect.getsource, modules)).encode())


HELPERS = (
    arithmetic.code_bit,
    arithmetic.write_byte,
    arithmetic.carry,
    mixing.predict,
    mixing.learn,
    prediction.within,
    prediction.expect,
    prediction.compare,
    prediction.solve,
    prediction.scale_row,
    prediction.expected_contexts,
    contexts.padding,
    contexts.above,
    contexts.zero_contexts,
    contexts.mark,
    contexts.value_contexts,
    contexts.sign,
    contexts.strength,
    contexts.code_value,
)
