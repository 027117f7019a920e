"""The file's smallest parts, written and read: varints, names, shapes and arrays, little-endian.

A reader checks what a length claims against the bytes that are there before it takes any memory.
"""

import math
from typing import NoReturn

import numpy as np

from pyro_sws.codec.errors import FormatError

# A dtype's place is its code in the file. Rows are only ever added, at the end.
DTYPES = tuple(
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool".split()
)
MAX_NDIM = 8
MAX_SIZE = (1 << 31) - 1  # the product of a shape's dimensions, those of 0 left out


class Writer:
    """Appends parts to ``data``."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    def byte(self, value: int) -> None:
        self.data.append(value)

    def varint(self, value: int) -> None:
        """LEB128: seven bits a byte, the lowest first; the top bit says that more follow."""
        while value > 0x7F:
            self.data.append(value & 0x7F | 0x80)
            value >>= 7
        self.data.append(value)

    def signed(self, value: int) -> None:
        """A varint of 2 n for n >= 0 and of -2 n - 1 below."""
        self.varint(2 * value if value >= 0 else -2 * value - 1)

    def blob(self, value: bytes) -> None:
        """Bytes after their number."""
        self.varint(len(value))
        self.data += value

    def name(self, value: str) -> None:
        """UTF-8. Raises ValueError for text that it cannot hold."""
        try:
            self.blob(value.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"the name {value!r} has no UTF-8 form: {error.reason}") from None

    def dims(self, shape: tuple[int, ...]) -> None:
        for n in shape:
            self.varint(n)

    def values(self, array: np.ndarray) -> None:
        """The bare values in C order."""
        self.data += array.astype(array.dtype.newbyteorder("<")).tobytes()


class Reader:
    """Takes parts from ``data``, front to back; anything amiss is a FormatError."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.position

    def take(self, count: int) -> bytes:
        if count > self.left:
            self.fail(f"{count} bytes should follow, {self.left} are left")
        start, self.position = self.position, self.position + count
        return self.data[start : self.position]

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 56:
                self.fail("a number is longer than 9 bytes")
        if byte == 0 and shift > 7:
            self.fail("a number is longer than it need be")
        return value

    def signed(self) -> int:
        value = self.varint()
        return -(value // 2) - 1 if value % 2 else value // 2

    def count(self, what: str) -> int:
        """A number of things that take at least a byte each."""
        value = self.varint()
        if value > self.left:
            self.fail(f"{value} {what} cannot be in the {self.left} bytes that are left")
        return value

    def name(self, what: str) -> str:
        value = self.take(self.varint())
        try:
            return value.decode()
        except UnicodeDecodeError:
            self.fail(f"the name of a {what} is not UTF-8: {value[:40]!r}")

    def dims(self, ndim: int) -> tuple[int, ...]:
        if ndim > MAX_NDIM:
            self.fail(f"a tensor has {ndim} dimensions; at most {MAX_NDIM} are possible")
        shape = tuple(self.varint() for _ in range(ndim))
        if span(shape) > MAX_SIZE:
            self.fail(f"the shape {shape} is too large")
        return shape

    def dtype(self, code: int) -> np.dtype:
        if code >= len(DTYPES):
            self.fail(f"unknown dtype code {code}; this build knows 0 to {len(DTYPES) - 1}")
        return np.dtype(DTYPES[code]).newbyteorder("<")

    def values(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        data = self.take(math.prod(shape) * dtype.itemsize)
        if dtype.kind == "b" and data.translate(None, b"\0\1"):
            self.fail("a boolean is neither 0 nor 1")
        return np.frombuffer(data, dtype=dtype).reshape(shape)

    def fail(self, why: str) -> NoReturn:
        raise FormatError(f"damaged .sws file: at byte {self.position}, {why}")


def dtype_code(dtype: np.dtype) -> int:
    """The byte that stands for a dtype. Raises ValueError for one that the format lacks."""
    return DTYPES.index(dtype.name)


def span(shape: tuple[int, ...]) -> int:
    """The product of the dimensions, those of 0 left out: what an array library has to address."""
    return math.prod(n for n in shape if n)
