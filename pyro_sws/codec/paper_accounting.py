"""The 2017 accounting: bits that CSR with Huffman codes would take, code tables not counted.

Ullrich, Meeds & Welling 2017, appendix A, after Han, Mao & Dally 2015. Made to be compared with
ratios that were published so; what a file takes is the length of the file, and ``csr_stream`` is
the same lists as a stream that decodes.
"""

import heapq
import math

import numpy as np

from pyro_sws.codec.symbols import Quantized, zero_symbol

GAP_BITS = 5  # span of an index difference, in bits; Han et al. 2015
CONVOLUTION_GAP_BITS = 8
VALUE_BITS = 32  # of an entry of a codebook


def csr_huffman_bits(quantized: Quantized) -> int:
    """Bits of all tensors, codebooks, scales and raw tensors. What the paper leaves open:

    - Rows: a matrix's own; a tensor of more dimensions is (out, rest); a vector or scalar is one.
    - Differences of column indices run within a row and start at column -1, so they are 1 or more.
      p bits reach 2^p: 32 columns, 256 in tensors of three dimensions or more. Every full span
      of a longer gap puts one filler zero among the values and one difference of 2^p.
    - Differences, and values as codebook indices with the filler as one of them, are Huffman-coded
      per tensor. A stream of one distinct symbol takes one bit each. Code tables are not counted.
    - Row pointers: rows + 1 numbers of p bits, the least p with (stored values) < 2^p, fillers
      among the stored values.
    - Each codebook once, 32 bits a value, the zero counted. Scales and raw tensors at full size.
    """
    coded = sum(
        tensor_bits(symbols, zero_symbol(quantized.codebooks[quantized.codebook_of[name]]))
        for name, symbols in quantized.symbols.items()
    )
    codebooks = VALUE_BITS * sum(map(len, quantized.codebooks.values()))
    plain = 8 * sum(a.nbytes for part in (quantized.scales, quantized.raw) for a in part.values())
    return coded + codebooks + plain


def tensor_bits(symbols: np.ndarray, zero: int | None) -> int:
    """Bits of one tensor's row pointers, index differences and values."""
    rows = as_rows(symbols)
    limit = 1 << (CONVOLUTION_GAP_BITS if symbols.ndim > 2 else GAP_BITS)
    stored = np.ones(rows.shape, dtype=bool) if zero is None else rows != zero
    gaps = index_gaps(stored)
    fillers = (gaps - 1) // limit
    filler_count = int(fillers.sum())
    differences = np.bincount(gaps - fillers * limit, minlength=limit + 1)
    differences[limit] += filler_count
    values = np.append(np.bincount(rows[stored]), filler_count)
    pointer = (len(gaps) + filler_count).bit_length()
    return (len(rows) + 1) * pointer + huffman_bits(differences) + huffman_bits(values)


def index_gaps(stored: np.ndarray) -> np.ndarray:
    """(rows, columns) bool -> how far each stored value is from the one before it in its row."""
    row, column = np.nonzero(stored)
    before = np.full(len(column), -1)
    same = row[1:] == row[:-1]
    before[1:][same] = column[:-1][same]
    return column - before


def huffman_bits(counts: np.ndarray) -> int:
    """Bits of a text with these symbol counts under its Huffman code, the code not counted."""
    heap = [int(count) for count in np.asarray(counts) if count > 0]
    if len(heap) < 2:
        return sum(heap)  # no codeword is shorter than a bit
    heapq.heapify(heap)
    bits = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        bits += merged  # every symbol below this node gets one bit longer
        heapq.heappush(heap, merged)
    return bits


def as_rows(symbols: np.ndarray) -> np.ndarray:
    """A tensor as a matrix: (out, rest), or one row of a vector or scalar."""
    if symbols.ndim < 2:
        return symbols.reshape(1, -1)
    return symbols.reshape(len(symbols), math.prod(symbols.shape[1:]))
