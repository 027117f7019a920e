"""The 2017 accounting as a stream that decodes: CSR rows, gaps and values in Huffman codes.

For each tensor that has weights, in order, highest bits first:

    6 bits       p, the width of a row pointer; nothing follows where it is 0
    (rows+1) p   row pointers: how many stored values, fillers among them, lie before each row
    table, text  the differences 1..32 (1..256 in three dimensions or more), one a stored value
    table, text  the values as symbols; the symbol beyond the codebook's last is the filler

``csr_huffman.tensor_bits`` counts the pointers and the two texts: a payload is that, and
``overhead_bits``, and up to 7 zeros at its end. Rows, differences and fillers are described there.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pyro_sws.codec.coders import Plane
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.paper_accounting import CONVOLUTION_GAP_BITS, GAP_BITS, as_rows, index_gaps
from scripts.coders.huffman import (
    BitReader,
    BitWriter,
    code_lengths,
    read_table,
    read_text,
    table_bits,
    write_table,
    write_text,
)

POINTER_WIDTH_BITS = 6  # of the field that says how wide a row pointer is


class CsrHuffman:
    """A coder as ``coders.Coder`` says."""

    def encode(self, tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes:
        out = BitWriter()
        for symbols, plane in zip(tensors, planes, strict=True):
            if symbols.size:
                _write(out, _lists(symbols, plane), plane)
        return out.finish()

    def decode(self, payload: bytes, planes: Sequence[Plane]) -> list[np.ndarray]:
        reader = BitReader(payload)
        tensors = [_read(reader, plane) for plane in planes]
        reader.finish()
        return tensors


def overhead_bits(symbols: np.ndarray, plane: Plane) -> int:
    """Bits of a tensor in the stream that the accounting leaves out: the width and the tables."""
    if not symbols.size:
        return 0
    lists = _lists(symbols, plane)
    if not len(lists.values):
        return POINTER_WIDTH_BITS
    codes = _codes(lists, plane)
    return POINTER_WIDTH_BITS + sum(map(table_bits, codes))


class _Lists(NamedTuple):
    """A tensor in rows; fillers are stored values like the others."""

    pointers: np.ndarray  # (rows + 1,)
    differences: np.ndarray  # 1 less, so that they start at 0
    values: np.ndarray


def _lists(symbols: np.ndarray, plane: Plane) -> _Lists:
    rows = as_rows(symbols)
    stored = np.ones(rows.shape, dtype=bool) if plane.zero is None else rows != plane.zero
    gaps = index_gaps(stored)
    limit = _limit(plane)
    fillers = (gaps - 1) // limit
    last = np.cumsum(fillers + 1) - 1  # where a value comes, its fillers just before it
    count = len(gaps) + int(fillers.sum())
    differences, values = np.full(count, limit - 1), np.full(count, plane.levels)
    differences[last] = gaps - fillers * limit - 1
    values[last] = rows[stored]
    in_row = np.bincount(np.nonzero(stored)[0], weights=fillers + 1, minlength=len(rows))
    pointers = np.concatenate([[0], np.cumsum(in_row.astype(np.int64))])
    return _Lists(pointers, differences, values)


def _limit(plane: Plane) -> int:
    return 1 << (CONVOLUTION_GAP_BITS if len(plane.shape) > 2 else GAP_BITS)


def _codes(lists: _Lists, plane: Plane) -> tuple[np.ndarray, np.ndarray]:
    """The code lengths of differences and values."""
    return (
        code_lengths(np.bincount(lists.differences, minlength=_limit(plane))),
        code_lengths(np.bincount(lists.values, minlength=plane.levels + 1)),
    )


def _write(out: BitWriter, lists: _Lists, plane: Plane) -> None:
    width = len(lists.values).bit_length()
    out.number(width, POINTER_WIDTH_BITS)
    if not width:
        return
    out.numbers(lists.pointers, width)
    for text, lengths in zip(lists[1:], _codes(lists, plane), strict=True):
        write_table(out, lengths)
        write_text(out, lengths, text)


def _read(reader: BitReader, plane: Plane) -> np.ndarray:
    size = math.prod(plane.shape)
    symbols = np.full(size, 0 if plane.zero is None else plane.zero, dtype=np.uint16)
    width = reader.number(POINTER_WIDTH_BITS) if size else 0
    count = plane.shape[0] if len(plane.shape) > 1 else 1
    if width:
        pointers = reader.numbers(count + 1, width)
        in_row = np.diff(pointers)
        if pointers[0] or in_row.min() < 0:
            raise FormatError("the payload is damaged: row pointers do not rise from 0")
        stored = int(pointers[-1])
        differences = read_text(reader, read_table(reader, _limit(plane)), stored)
        values = read_text(reader, read_table(reader, plane.levels + 1), stored)
        _place(symbols.reshape(count, -1), in_row, differences + 1, values, plane)
    if plane.zero is None and size and not width:
        raise FormatError("the payload is damaged: it leaves weights out that are not zero")
    return symbols.reshape(plane.shape)


def _place(
    rows: np.ndarray, in_row: np.ndarray, differences: np.ndarray, values: np.ndarray, plane: Plane
) -> None:
    """Set the stored values at the columns that the differences lead to."""
    row = np.repeat(np.arange(len(rows)), in_row)
    reached = np.concatenate([[0], np.cumsum(differences)])
    before = np.repeat(reached[np.cumsum(in_row) - in_row], in_row)  # all rows above together
    column = reached[1:] - before - 1
    if (column >= rows.shape[1]).any():
        raise FormatError("the payload is damaged: a value lies beyond the end of its row")
    real = values < plane.levels
    if plane.zero is None and int(np.count_nonzero(real)) != rows.size:
        raise FormatError("the payload is damaged: it leaves weights out that are not zero")
    rows[row[real], column[real]] = values[real]
