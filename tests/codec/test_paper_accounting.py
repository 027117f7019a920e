"""The 2017 accounting, against the paper's worked example and counts made by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.codec.paper_accounting import csr_huffman_bits, huffman_bits, index_gaps, tensor_bits
from pyro_sws.codec.symbols import Quantized

# Ullrich et al. 2017, appendix A: A = 1 2 2 5 1, IR = 0 1 2 2 4 5, IC = 3 1 0 1 3.
PAPER = np.array([[0, 0, 0, 1], [0, 2, 0, 0], [0, 0, 0, 0], [2, 5, 0, 0], [0, 0, 0, 1]])
BOOK = np.array([0, 1, 2, 5], dtype=np.float32)


def as_symbols(values):
    return np.searchsorted(BOOK, values).astype(np.uint8)


def test_the_papers_example_by_hand():
    """Differences 4, 2, 1, 1, 4 and values 1, 2, 2, 5, 1 take 8 bits each; 6 pointers take 3."""
    assert tensor_bits(as_symbols(PAPER), 0) == 6 * 3 + 8 + 8
    held = Quantized({"w": as_symbols(PAPER)}, {"c": BOOK}, {"w": "c"})
    assert csr_huffman_bits(held) == 34 + 4 * 32


def test_the_papers_column_indices_are_the_sums_of_the_gaps():
    gaps = index_gaps(PAPER != 0)
    assert gaps.tolist() == [4, 2, 1, 1, 4]
    columns = [gaps[0] - 1, gaps[1] - 1, gaps[2] - 1, gaps[2] + gaps[3] - 1, gaps[4] - 1]
    assert columns == [3, 1, 0, 1, 3]


@pytest.mark.parametrize("gap, fillers", [(1, 0), (32, 0), (33, 1), (64, 1), (65, 2), (200, 6)])
def test_gaps_beyond_32_columns_take_filler_zeros(gap, fillers):
    """One value and its fillers: two pointers, the differences and the values."""
    row = np.zeros(gap, dtype=np.uint8)
    row[-1] = 1
    stored = 1 + fillers  # at most two distinct differences and values: a bit each
    assert tensor_bits(row, 0) == 2 * stored.bit_length() + stored + stored


def test_kernels_of_convolutions_reach_256_columns():
    kernel = np.zeros((2, 8, 8, 4), dtype=np.uint8)
    kernel[:, -1, -1, -1] = 1  # column 255 of each row: no filler
    assert tensor_bits(kernel, 0) == 3 * 2 + 2 + 2
    flat = kernel.reshape(2, 256)  # the same as a matrix: 7 fillers a row
    assert tensor_bits(flat, 0) == 3 * 5 + 16 + 16


def test_a_vector_is_one_row_and_an_empty_tensor_takes_its_pointers():
    assert tensor_bits(np.array([0, 1, 0], dtype=np.uint8), 0) == 2 * 1 + 1 + 1
    assert tensor_bits(np.array(1, dtype=np.uint8), 0) == 2 * 1 + 1 + 1
    for shape in ((0,), (0, 3), (3, 0), (4, 5)):
        assert tensor_bits(np.zeros(shape, dtype=np.uint8), 0) == 0


def test_without_a_zero_in_the_codebook_every_weight_is_stored():
    assert tensor_bits(np.zeros((2, 3), dtype=np.uint8), None) == 3 * 3 + 6 + 6


def test_raw_tensors_and_scales_count_at_their_full_size():
    symbols, codebook = {"w": as_symbols(PAPER)}, {"c": BOOK}
    raw = {"mean": np.zeros(7, dtype=np.float32), "steps": np.array(3, dtype=np.int64)}
    scales = {"w": np.ones((5, 1), dtype=np.float16)}
    plain = csr_huffman_bits(Quantized(symbols, codebook, {"w": "c"}))
    full = csr_huffman_bits(Quantized(symbols, codebook, {"w": "c"}, raw, scales))
    assert full - plain == 7 * 32 + 64 + 5 * 16


def test_a_shared_codebook_is_counted_once():
    one = {"a": as_symbols(PAPER), "b": as_symbols(PAPER)}
    assert csr_huffman_bits(Quantized(one, {"c": BOOK}, {"a": "c", "b": "c"})) == 2 * 34 + 128


def best_bits(counts):
    """The shortest prefix code by trial: all code lengths that satisfy Kraft with equality."""
    lengths = range(1, len(counts))
    codes = itertools.product(lengths, repeat=len(counts))
    complete = (c for c in codes if sum(2.0**-n for n in c) == 1)
    return min(sum(map(int.__mul__, counts, c)) for c in complete)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=5))
def test_huffman_is_the_best_prefix_code(counts):
    assert huffman_bits(np.array(counts)) == best_bits(counts)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40))
def test_huffman_is_within_a_bit_a_symbol_of_the_entropy(counts):
    c = np.array([n for n in counts if n])
    entropy = (c * np.log2(c.sum() / c)).sum() if c.size else 0
    assert entropy - 1e-6 <= huffman_bits(np.array(counts)) <= entropy + c.sum() + 1e-6


def test_huffman_on_known_texts():
    assert huffman_bits(np.array([5, 9, 12, 13, 16, 45])) == 224  # Cormen et al., section 16.3
    assert huffman_bits(np.array([1, 1, 2, 3, 5, 8])) == 2 + 4 + 7 + 12 + 20  # merges
    assert huffman_bits(np.array([7])) == 7
    assert huffman_bits(np.array([], dtype=int)) == 0
