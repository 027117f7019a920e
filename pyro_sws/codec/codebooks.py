"""A codebook's values on the stream: sorted sets of floats, at the precision they have.

A float is its sign and a magnitude, its other bits read as an integer, without the zero bits that
all values of the codebook end in. Magnitudes in order are a set of integers: the ends first, then
by halves, each uniform in the range that is left to it (Moffat & Stuiver 2000).
"""

import numpy as np

from pyro_sws.codec.stream import Stream

UNSIGNED = {"float16": np.uint16, "float32": np.uint32, "float64": np.uint64}


def code_codebook(stream: Stream, dtype: np.dtype, levels: int, values: np.ndarray) -> np.ndarray:
    """Code the values (levels,) -> the same; reading, ``values`` is not looked at."""
    dtype = np.dtype(dtype)
    if not levels:
        return np.zeros(0, dtype)
    whole = 8 * dtype.itemsize - 1
    fraction = np.finfo(dtype).nmant
    infinity = int(np.array(np.inf, dtype).view(UNSIGNED[dtype.name]))
    bits = [0] * levels if stream.reading else values.view(UNSIGNED[dtype.name]).tolist()
    signs = [b >> whole for b in bits]
    sizes = [b & ((1 << whole) - 1) for b in bits]
    zeros = stream.uniform(fraction + 1, _common_zeros(sizes, fraction))
    sizes = [size >> zeros for size in sizes]
    beyond = infinity >> zeros
    if stream.coin(int(_ascending(signs, sizes))):
        signs, sizes = _code_sorted(stream, signs, sizes, beyond)
    else:
        signs = [stream.coin(sign) for sign in signs]
        sizes = [stream.uniform(beyond, size) for size in sizes]
    patterns = [sign << whole | size << zeros for sign, size in zip(signs, sizes, strict=True)]
    return np.array(patterns, UNSIGNED[dtype.name]).view(dtype)


def _common_zeros(sizes: list[int], most: int) -> int:
    """How many of their lowest bits are 0 in all of them, at most ``most``."""
    together = 0
    for size in sizes:
        together |= size
    return min(most, (together & -together).bit_length() - 1) if together else most


def _ascending(signs: list[int], sizes: list[int]) -> bool:
    keys = [-1 - size if sign else size for sign, size in zip(signs, sizes, strict=True)]
    return all(a < b for a, b in zip(keys, keys[1:], strict=False))


def _code_sorted(
    stream: Stream, signs: list[int], sizes: list[int], beyond: int
) -> tuple[list[int], list[int]]:
    """Negative values from the largest magnitude down, then 0, then positive ones."""
    levels = len(signs)
    negative = stream.uniform(levels + 1, sum(signs))
    below = sizes[:negative][::-1]
    above = sizes[negative:]
    zero = stream.coin(int(above[0] == 0)) if above else 0
    _code_set(stream, below, 0, beyond)
    rest = above[zero:]
    _code_set(stream, rest, 1, beyond)
    return [1] * negative + [0] * len(above), below[::-1] + [0] * zero + rest


def _code_set(stream: Stream, members: list[int], least: int, beyond: int) -> None:
    """Distinct ascending integers from least to beyond - 1; reading, written in place."""
    count = len(members)
    if not count:
        return
    low = least + count - 1
    members[-1] = low + stream.uniform(beyond - low, members[-1] - low)
    if count > 1:
        room = members[-1] - count + 2 - least
        members[0] = least + stream.uniform(room, members[0] - least)
        _code_between(stream, members, 0, count - 1)


def _code_between(stream: Stream, members: list[int], first: int, last: int) -> None:
    """The members between two that are known."""
    if last - first < 2:
        return
    middle = (first + last) // 2
    low = members[first] + middle - first
    high = members[last] - (last - middle)
    members[middle] = low + stream.uniform(high - low + 1, members[middle] - low)
    _code_between(stream, members, first, middle)
    _code_between(stream, members, middle, last)
