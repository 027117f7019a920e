"""Raw tensors' values in a file: plain, or in fewer bytes where these give them back. Numpy only.

Integers as differences or as a progression; floats as one byte each, where they lie on a grid:
one that is even, or one that is even in their bit patterns, which for numbers of one sign is even
in their logarithms, piecewise. Grids are made of powers of two, so that arithmetic on them is exact
and a part of a tensor on a grid is on it, too.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from math import prod

import numpy as np

from pyro_sws.codec.wire import Reader, Writer, dtype_code

# A place is a code in the file. Rows are only ever added, at the end, up to 16 in all.
PLAIN, PROGRESSION, DIFFERENCES, PATTERNS, EVEN = range(5)
CODINGS = ("plain", "progression", "differences", "logarithmic grid", "even grid")
LEVELS = 256  # of a grid: a byte
WHOLE = 1 << 24  # whole numbers below it are float32s
FARTHEST = 1 << 60  # integers up to here: twice their differences are still varints
MOST_PROGRESSED = 1 << 20  # elements of all progressions of a file: they take no bytes
LONGEST_DIFFERENCES = 1 << 16  # of those that are written: they are coded one by one
FEW = 64  # values that tell most tensors without a grid
EXPONENTS = 200  # of a grid's steps, as powers of two: all of float32


def codings(raw: Iterable[np.ndarray]) -> list[tuple[int, bytes]]:
    """Each tensor's shortest coding and what it takes; plain where nothing is shorter."""
    chosen, left = [], MOST_PROGRESSED
    for values in raw:
        best = PLAIN, _plain(values)
        for coding, data in _shorter(values, left):
            if len(data) < len(best[1]):
                best = coding, data
        left -= values.size if best[0] == PROGRESSION else 0
        chosen.append(best)
    return chosen


def write_raw(out: Writer, values: np.ndarray, coding: int, data: bytes) -> None:
    """A byte, the dtype's code + 16 times the coding's, and what ``codings`` gave."""
    out.byte(dtype_code(values.dtype) + 16 * coding)
    out.data += data


def read_raw(
    reader: Reader, shapes: Iterable[tuple[int, ...]], version: int
) -> Iterator[np.ndarray]:
    """What ``write_raw`` wrote, tensor by tensor; before format 4 all are plain."""
    left = MOST_PROGRESSED
    for shape in shapes:
        head, size = reader.byte(), prod(shape)
        coding, code = divmod(head, 16) if version > 3 else (PLAIN, head)
        dtype = reader.dtype(code)
        if coding == PLAIN:
            yield reader.values(dtype, shape)
            continue
        kinds = "iu" if coding in (PROGRESSION, DIFFERENCES) else "f"
        if coding >= len(CODINGS) or dtype.kind not in kinds or dtype.itemsize > 4 and kinds == "f":
            reader.fail(f"a raw tensor of {dtype.name} has the unknown coding {coding}")
        if not size:
            reader.fail("a raw tensor without elements has a coding")
        if coding == PROGRESSION:
            left -= size
            if left < 0:
                reader.fail(f"progressions have more than {MOST_PROGRESSED} elements")
        yield _READERS[coding](reader, dtype.newbyteorder("="), size).reshape(shape)


def on_patterns(values: np.ndarray) -> np.ndarray:
    """Positive float32s rounded to the finest grid of LEVELS bit patterns that spans them."""
    bits = values.view(np.uint32).astype(np.int64)
    for shift in range(32):
        places = (bits + (1 << shift >> 1)) >> shift
        if places.max() - places.min() < LEVELS:
            break
    return (places << shift).astype(np.uint32).view(np.float32)


def on_even_steps(values: np.ndarray) -> np.ndarray:
    """Finite float32s rounded to the finest multiples of a power of two that span them."""
    wide = values.astype(np.float64)
    span, largest = wide.max() - wide.min(), np.abs(wide).max()
    if not span:
        return values
    exponent = int(np.floor(np.log2(max(span / LEVELS, largest / WHOLE)))) - 1
    while True:
        places = np.rint(np.ldexp(wide, -exponent))
        if places.max() - places.min() < LEVELS and np.abs(places).max() < WHOLE:
            return np.ldexp(places, exponent).astype(np.float32)
        exponent += 1


def _plain(values: np.ndarray) -> bytes:
    out = Writer()
    out.values(values)
    return bytes(out.data)


def _shorter(values: np.ndarray, left: int) -> Iterator[tuple[int, bytes]]:
    """Codings that give the tensor back bit for bit."""
    if not values.size:
        return
    flat = values.ravel()
    if values.dtype.kind in "iu":
        if int(flat.max()) < FARTHEST and int(flat.min()) > -FARTHEST:
            yield from _of_integers(flat.astype(np.int64), left)
    elif values.dtype.name in ("float16", "float32"):
        for coding, coded in ((PATTERNS, _as_patterns), (EVEN, _as_even_steps)):
            if coded(flat[:FEW]) is not None and (data := coded(flat)) is not None:
                yield coding, data


def _of_integers(flat: np.ndarray, left: int) -> Iterator[tuple[int, bytes]]:
    steps = np.diff(flat)
    first = int(flat[0])
    if len(flat) <= left and (not len(steps) or (steps == steps[0]).all()):
        yield PROGRESSION, _varints([first, int(steps[0]) if len(steps) else 0])
    if len(flat) <= LONGEST_DIFFERENCES:
        yield DIFFERENCES, _varints([first, *steps.tolist()])


def _varints(numbers: Iterable[int]) -> bytes:
    out = Writer()
    for number in numbers:
        out.signed(number)
    return bytes(out.data)


def _as_patterns(flat: np.ndarray) -> bytes | None:
    bits = flat.view(f"u{flat.itemsize}")
    together = int(np.bitwise_or.reduce(bits))
    shift = (together & -together).bit_length() - 1 if together else 0
    places = bits >> bits.dtype.type(shift)
    base = int(places.min())
    if int(places.max()) - base >= LEVELS:
        return None
    out = Writer(bytes([shift]))
    out.varint(base)
    return bytes(out.data) + (places - places.min()).astype(np.uint8).tobytes()


def _as_even_steps(flat: np.ndarray) -> bytes | None:
    if not np.isfinite(flat).all() or np.signbit(flat[flat == 0]).any():  # a grid has no -0
        return None
    wide = flat.astype(np.float64)
    fractions, exponents = np.frexp(wide[wide != 0])
    numbers = np.ldexp(fractions, 24).astype(np.int64)  # whole: a float32 has 24 digits
    low = numbers & -numbers
    least = exponents - 24 + np.frexp(low.astype(np.float64))[1] - 1
    exponent = int(least.min()) if len(least) else 0
    places = np.ldexp(wide, -exponent)
    base = places.min()
    if np.abs(places).max() >= WHOLE or places.max() - base >= LEVELS:
        return None
    return _varints([exponent, int(base)]) + (places - base).astype(np.uint8).tobytes()


def _read_progression(reader: Reader, dtype: np.dtype, size: int) -> np.ndarray:
    first, step = reader.signed(), reader.signed()
    _check_range(reader, dtype, (first, first + step * (size - 1)))
    steps = np.arange(size, dtype=np.uint64) * np.uint64(step % 2**64)  # modulo 2^64, exact
    return (steps + np.uint64(first % 2**64)).astype(dtype)


def _read_differences(reader: Reader, dtype: np.dtype, size: int) -> np.ndarray:
    if size > reader.left:
        reader.fail(f"{size} differences cannot be in the {reader.left} bytes that are left")
    numbers = list(accumulate(reader.signed() for _ in range(size)))
    _check_range(reader, dtype, (min(numbers), max(numbers)))
    return np.array(numbers, dtype)


def _check_range(reader: Reader, dtype: np.dtype, ends: tuple[int, int]) -> None:
    info = np.iinfo(dtype)
    if min(ends) < info.min or max(ends) > info.max:
        reader.fail(f"the integers {min(ends)} to {max(ends)} are not of {dtype.name}")


def _read_patterns(reader: Reader, dtype: np.dtype, size: int) -> np.ndarray:
    shift, base, width = reader.byte(), reader.varint(), 8 * dtype.itemsize
    codes = _codes(reader, size)
    if shift >= width or (base + int(codes.max())) << shift >> width:
        reader.fail(f"bit patterns from {base} x 2^{shift} are not of {dtype.name}")
    patterns = (codes.astype(np.uint64) + np.uint64(base)) << np.uint64(shift)
    return patterns.astype(f"u{dtype.itemsize}").view(dtype)


def _read_even_steps(reader: Reader, dtype: np.dtype, size: int) -> np.ndarray:
    exponent, base = reader.signed(), reader.signed()
    if abs(exponent) > EXPONENTS or abs(base) > WHOLE:
        reader.fail(f"a grid from {base} in steps of 2^{exponent} is not of {dtype.name}")
    places = _codes(reader, size).astype(np.float64) + base
    wide = np.ldexp(places, exponent)
    with np.errstate(over="ignore"):
        values = wide.astype(dtype)
    if (values != wide).any():
        reader.fail(f"a grid from {base} in steps of 2^{exponent} is not of {dtype.name}")
    return values


def _codes(reader: Reader, size: int) -> np.ndarray:
    return np.frombuffer(reader.take(size), np.uint8)


_READERS = {
    PROGRESSION: _read_progression,
    DIFFERENCES: _read_differences,
    PATTERNS: _read_patterns,
    EVEN: _read_even_steps,
}
