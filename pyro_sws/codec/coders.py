"""Coders: a tensor of symbols to decisions on an arithmetic-coded stream, and back.

To extend: write a class as ``Coder`` says, with a code of its own, and add a row to ``CODERS``.
"""

import math
from typing import Protocol

import numpy as np

from pyro_sws.codec.arithmetic import Decoder, Encoder


class Coder(Protocol):
    """One way to code a tensor of symbols 0..levels-1; ``zero`` is the symbol of value 0, if any.

    A coder keeps nothing from one tensor to the next, and a tensor of one level takes no bits.
    """

    code: int  # the byte that names it in a file, for ever

    def encode(
        self, stream: Encoder, symbols: np.ndarray, levels: int, zero: int | None
    ) -> None: ...

    def decode(
        self, stream: Decoder, shape: tuple[int, ...], levels: int, zero: int | None
    ) -> np.ndarray:
        """The symbols -> uint16, of the given shape."""
        ...

    def ideal_bits(self, symbols: np.ndarray, levels: int, zero: int | None) -> float:
        """The length in bits that exact arithmetic would reach, without the flush."""
        ...


class Order0:
    """Adaptive, without memory of neighbours and without a table in the file.

    "Is it the zero symbol?" for each weight, then for those that are not, which half of the
    remaining symbols, down a balanced binary tree. The decisions of one node, in the order of the
    weights, are one sequence for the arithmetic coder, so each node has statistics of its own.
    """

    code = 0

    def encode(self, stream: Encoder, symbols: np.ndarray, levels: int, zero: int | None) -> None:
        flat = symbols.ravel()
        if zero is not None and levels > 1:
            nonzero = flat != zero
            stream.encode_bits(nonzero)
            flat, levels = _ranks(flat[nonzero], zero), levels - 1
        _encode_tree(stream, flat, 0, levels)

    def decode(
        self, stream: Decoder, shape: tuple[int, ...], levels: int, zero: int | None
    ) -> np.ndarray:
        size = math.prod(shape)
        if zero is None or levels < 2:
            return _decode_tree(stream, size, 0, levels).reshape(shape)
        nonzero = stream.decode_bits(size)
        ranks = _decode_tree(stream, int(np.count_nonzero(nonzero)), 0, levels - 1)
        flat = np.full(size, zero, dtype=np.uint16)
        flat[nonzero] = ranks + (ranks >= zero)
        return flat.reshape(shape)

    def ideal_bits(self, symbols: np.ndarray, levels: int, zero: int | None) -> float:
        counts = np.bincount(symbols.ravel(), minlength=levels)
        if zero is None or levels < 2:
            return _tree_bits(counts)
        others = np.delete(counts, zero)
        return _kt_bits(int(counts[zero]), int(others.sum())) + _tree_bits(others)


CODERS: dict[str, Coder] = {
    "order0": Order0(),
}


def _ranks(symbols: np.ndarray, zero: int) -> np.ndarray:
    """Symbols other than ``zero``, renumbered without the gap."""
    return symbols - (symbols > zero).astype(symbols.dtype)


def _middle(first: int, last: int) -> int:
    return (first + last + 1) // 2


def _encode_tree(stream: Encoder, symbols: np.ndarray, first: int, last: int) -> None:
    """Symbols first..last-1: one bit each for the upper half, then the lower, then the upper."""
    if last - first < 2 or not symbols.size:
        return
    middle = _middle(first, last)
    upper = symbols >= middle
    stream.encode_bits(upper)
    _encode_tree(stream, symbols[~upper], first, middle)
    _encode_tree(stream, symbols[upper], middle, last)


def _decode_tree(stream: Decoder, size: int, first: int, last: int) -> np.ndarray:
    symbols = np.full(size, first, dtype=np.uint16)
    if last - first < 2 or not size:
        return symbols
    middle = _middle(first, last)
    upper = stream.decode_bits(size)
    count = int(np.count_nonzero(upper))
    symbols[~upper] = _decode_tree(stream, size - count, first, middle)
    symbols[upper] = _decode_tree(stream, count, middle, last)
    return symbols


def _tree_bits(counts: np.ndarray) -> float:
    if len(counts) < 2 or not counts.any():
        return 0.0
    middle = _middle(0, len(counts))
    lower, upper = counts[:middle], counts[middle:]
    return _kt_bits(int(lower.sum()), int(upper.sum())) + _tree_bits(lower) + _tree_bits(upper)


def _kt_bits(zeros: int, ones: int) -> float:
    """-log2 of Gamma(n0 + 1/2) Gamma(n1 + 1/2) / (pi n!): Krichevsky & Trofimov 1981."""
    nats = math.lgamma(zeros + ones + 1) + math.log(math.pi)
    nats -= math.lgamma(zeros + 0.5) + math.lgamma(ones + 0.5)
    return max(0.0, nats / math.log(2))  # an empty sequence is 0 up to rounding
