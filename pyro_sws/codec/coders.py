"""Coders: tensors of symbols to one payload of bytes, and back.

To extend: write a class as ``Coder`` says. Those in ``CODERS`` write what ``read_tensors`` reads.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyro_sws.codec import order0
from pyro_sws.codec.arithmetic import LEAST, SPARE
from pyro_sws.codec.context_coder import ContextModel
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.loops import loops
from pyro_sws.codec.stream import Stream

PIECE = 1 << 20  # symbols
LARGE, HEAD = 1 << 20, 8  # a tensor of so many weights has contexts if they pay on its first eighth
DENSE = 8  # one weight in so many is not zero
MOST_WEIGHTS = 1 << 30  # of a tensor: the products of its counts stay below 2**63
# A decision keeps at least range / 2**LEAST on each side, so each symbol among several takes
# at least log2(e) / 2**LEAST bits, and a byte holds less than 3 * 2**19 of them.
MOST_PER_BYTE = 3 << (LEAST + 1)


@dataclass(frozen=True)
class Plane:
    """What both sides know of a tensor of symbols 0..levels-1 before any of them is coded.

    Symbols are in the order of their values, so that neighbours are near.
    """

    shape: tuple[int, ...]
    levels: int
    zero: int | None  # the symbol of value 0, if any

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> type:
        return np.uint8 if self.levels <= 256 else np.uint16


class Coder(Protocol):
    """One way to code tensors of symbols: the payload holds all but the planes."""

    def encode(self, tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes: ...

    def decode(self, payload: bytes, planes: Sequence[Plane]) -> list[np.ndarray]:
        """The symbols, of the planes' shapes. Raises FormatError for other bytes."""
        ...


@dataclass(frozen=True)
class Adaptive:
    """One arithmetic-coded stream: each tensor by the context model or order-0, as is shorter."""

    contexts: bool = True  # False: order-0 for all
    expecting: bool = False  # with contexts of what is expected, which format 4 may have

    def encode(self, tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes:
        stream = Stream(None, loops(sum(plane.size for plane in planes)))
        self.write(stream, tensors, planes)
        return stream.finish()

    def decode(self, payload: bytes, planes: Sequence[Plane]) -> list[np.ndarray]:
        stream = Stream(payload, loops(sum(plane.size for plane in planes)))
        arrays = read_tensors(stream, planes, self.expecting)
        stream.finish()
        return arrays

    def write(
        self, stream: Stream, tensors: Sequence[np.ndarray], planes: Sequence[Plane]
    ) -> list[float]:
        """Append to a stream -> the bits that each tensor took."""
        model, bits = ContextModel(stream.loops, self.expecting), []
        for tensor, plane in zip(tensors, planes, strict=True):
            before = stream.bits
            symbols: np.ndarray = np.array(tensor, plane.dtype).ravel()
            if plane.size > MOST_WEIGHTS:
                raise ValueError(f"{plane.size} weights; a tensor may have up to {MOST_WEIGHTS}")
            if plane.levels > 1 and plane.size:
                counts = _counts(symbols, plane.levels)
                spread, shortest = order0.shorter(counts, plane.zero)
                if not (self.contexts and _try(stream, model, symbols, plane, shortest)):
                    stream.coin(0)
                    stream.coin(int(spread))
                    order0.code(stream, symbols, plane.levels, plane.zero, spread)
            model.note(symbols, plane.shape, plane.zero)
            bits.append(stream.bits - before)
        return bits


CODERS: dict[str, Adaptive] = {
    "context": Adaptive(),
    "order0": Adaptive(contexts=False),
}


EXPECTING = Adaptive(expecting=True)  # which a file of format 4 may have been written by


def tensor_bits(tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> list[float]:
    """What each tensor takes in the payload, in bits; the flush and whole bytes are left out."""
    coders = (CODERS["context"], EXPECTING) if dense(tensors, planes) else (CODERS["context"],)
    size = sum(plane.size for plane in planes)
    return min(
        (coder.write(Stream(None, loops(size)), tensors, planes) for coder in coders), key=sum
    )


def dense(tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bool:
    """Whether so many weights are not zero that what is expected of them may pay."""
    nonzero = sum(
        plane.size if plane.zero is None else int(np.count_nonzero(tensor != plane.zero))
        for tensor, plane in zip(tensors, planes, strict=True)
    )
    return DENSE * nonzero >= sum(plane.size for plane in planes)


def read_tensors(
    stream: Stream, planes: Sequence[Plane], expecting: bool = False
) -> list[np.ndarray]:
    """What any of ``CODERS`` wrote to a stream -> symbols, uint8 or uint16, of the planes' shapes.

    Raises FormatError for what cannot have been written.
    """
    _check_room(stream, planes)
    model, arrays = ContextModel(stream.loops, expecting), []
    for plane in planes:
        symbols: np.ndarray = np.zeros(plane.size, plane.dtype)
        if plane.levels > 1 and plane.size:
            if not stream.coin():
                spread = bool(stream.coin())
                order0.code(stream, symbols, plane.levels, plane.zero, spread)
            elif not model.allows(plane.size, plane.levels):
                raise FormatError(f"damaged .sws file: contexts for {plane.levels} levels")
            else:
                model.code(stream, symbols, plane.shape, plane.levels, plane.zero)
        model.note(symbols, plane.shape, plane.zero)
        arrays.append(symbols.reshape(plane.shape))
    return arrays


def _check_room(stream: Stream, planes: Sequence[Plane]) -> None:
    size = sum(plane.size for plane in planes if plane.levels > 1)
    if size > MOST_PER_BYTE * (len(stream.data) + SPARE):
        raise FormatError(
            f"damaged .sws file: {size} symbols cannot be in a payload of {len(stream.data)} bytes"
        )
    for plane in planes:
        if plane.size > MOST_WEIGHTS:
            raise FormatError(f"damaged .sws file: a tensor of {plane.size} weights")
        if plane.levels == 0 and plane.size:
            raise FormatError("damaged .sws file: a tensor has weights but no codebook value")


def _promising(model: ContextModel, symbols: np.ndarray, plane: Plane) -> bool:
    """Whether contexts are worth trying: on a large tensor, by its first rows."""
    rows = plane.shape[0] // HEAD if plane.shape else 0
    if plane.size < LARGE or not rows:
        return True
    shape = (rows, *plane.shape[1:])
    head = symbols[: math.prod(shape)].copy()
    stream, weights = Stream(None, model.loops), model.copy_weights()
    model.code(stream, head, shape, plane.levels, plane.zero)
    model.weights = weights
    return stream.bits < order0.shorter(_counts(head, plane.levels), plane.zero)[1]


def _counts(symbols: np.ndarray, levels: int) -> np.ndarray:
    """How often each symbol occurs, by pieces: counting takes 8 bytes a symbol."""
    counts = np.zeros(levels, np.int64)
    for start in range(0, len(symbols), PIECE):
        counts += np.bincount(symbols[start : start + PIECE], minlength=levels)
    return counts


def _try(
    stream: Stream, model: ContextModel, symbols: np.ndarray, plane: Plane, shortest: float
) -> bool:
    """Code with contexts, and undo it unless that is shorter."""
    if not model.allows(plane.size, plane.levels) or not _promising(model, symbols, plane):
        return False
    mark, weights, start = stream.mark(), model.copy_weights(), stream.bits
    stream.coin(1)
    model.code(stream, symbols, plane.shape, plane.levels, plane.zero)
    if stream.bits - start < shortest + 2:
        return True
    stream.reset(mark)
    model.weights = weights
    return False
