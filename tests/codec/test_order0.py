"""The order-0 code: lengths in closed form, both priors, and the bytes that reach them."""

import math

import numpy as np
import pytest
from coded_networks import draw_symbols
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_sws.bounds.rates import kt_bits
from pyro_sws.codec.arithmetic import LEAST
from pyro_sws.codec.order0 import beta_bits, code, ideal_bits, shorter
from pyro_sws.codec.stream import Stream

both_priors = pytest.mark.parametrize("spread", [False, True])


def decisions(symbol, levels, zero, spread):
    """The questions asked of one symbol, each with its answer and its prior."""
    if zero is not None:
        yield "zero", int(symbol != zero), (0.5, 0.5)
    others = [s for s in range(levels) if s != zero]
    while symbol != zero and len(others) > 1:
        half = (len(others) + 1) // 2
        side = int(symbol in others[half:])
        yield tuple(others), side, (half / 2, (len(others) - half) / 2) if spread else (0.5, 0.5)
        others = others[half:] if side else others[:half]


@both_priors
@pytest.mark.parametrize("levels, zero", [(6, 2), (2, 0), (2, None), (7, None), (9, 8), (1, None)])
def test_the_length_is_the_sequential_product_over_the_nodes(levels, zero, spread):
    """Oracle: symbol by symbol, with a dictionary of counts by node."""
    symbols = draw_symbols((400,), levels, 1.0)
    bits, seen = 0.0, {}
    for symbol in symbols.tolist():
        for node, side, prior in decisions(symbol, levels, zero, spread):
            counts = seen.setdefault(node, list(prior))
            bits -= math.log2(counts[side] / sum(counts))
            counts[side] += 1
    counts = np.bincount(symbols, minlength=levels)
    assert ideal_bits(counts, zero, spread) == pytest.approx(bits, rel=1e-10, abs=1e-9)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40))
def test_the_spread_prior_is_the_estimate_over_the_whole_alphabet(counts):
    """Dirichlet parameters of 1/2 sum up the tree: Krichevsky & Trofimov's, for any number."""
    counts = np.array(counts)
    assert ideal_bits(counts, None, True) == pytest.approx(kt_bits(counts), rel=1e-9, abs=1e-6)


def test_beta_bits_by_hand():
    assert beta_bits(0, 0) == 0
    assert beta_bits(1, 0) == pytest.approx(1)
    assert beta_bits(1, 1) == pytest.approx(3)  # 1/2 x 1/4
    assert beta_bits(2, 0, 1, 1) == pytest.approx(math.log2(3))  # Laplace: 1/2 x 2/3
    assert beta_bits(0, 1, 1.5, 0.5) == pytest.approx(2)


@both_priors
@pytest.mark.parametrize("levels", [2, 3, 17, 256, 257, 65536])
@pytest.mark.parametrize("size, skew", [(0, 1.0), (1, 0.0), (10, 0.0), (10_000, 1.5), (3000, 60.0)])
def test_the_stream_reaches_the_ideal_length_and_comes_back(levels, size, skew, spread):
    zero = 0 if skew else None
    symbols = draw_symbols((size,), levels, skew)
    stream = Stream()
    code(stream, symbols.copy(), levels, zero, spread)
    ideal = ideal_bits(np.bincount(symbols, minlength=levels), zero, spread)
    assert stream.bits == pytest.approx(ideal, rel=1e-3, abs=1)
    found = np.zeros_like(symbols)
    code(Stream(stream.finish()), found, levels, zero, spread)
    np.testing.assert_array_equal(found, symbols)


def test_the_shorter_prior_is_told_with_its_length():
    one_of_many = np.array([500, *[0] * 99])  # 7 half-logarithms beat a spread of 100 halves
    assert shorter(one_of_many, None) == (False, ideal_bits(one_of_many, None, False))
    all_alike = np.full(100, 3)
    assert shorter(all_alike, None) == (True, ideal_bits(all_alike, None, True))


@settings(max_examples=20)
@given(st.integers(1, 200), st.integers(0, 4))
def test_it_takes_no_more_than_half_a_logarithm_a_node_above_the_entropy(size, skew):
    """KT's worst case: n H + (log2 n) / 2 + 1 bits for a binary sequence of n."""
    levels = 5
    counts = np.bincount(draw_symbols((size,), levels, skew), minlength=levels)
    seen = counts[counts > 0]
    entropy = -(seen * np.log2(seen / size)).sum()
    excess = ideal_bits(counts, 0, False) - entropy
    assert 0 <= excess + 1e-9 <= (levels - 1) * (0.5 * math.log2(size) + 1) + 2e-9


def test_one_least_share_is_the_files_and_none_is_format_1s():
    """10^5 zeros: 0.5 log2(pi n) bits, and with the least share 5.5e-6 a zero on top."""

    def bits(least):
        stream = Stream()
        code(stream, np.zeros(1 << 20, np.uint16), 2, 0, False, least=least)
        return stream.bits

    closed_form = math.log2(math.pi * (1 << 20)) / 2
    assert bits(62) == pytest.approx(closed_form, abs=0.02)
    assert closed_form < bits(LEAST) < closed_form + (1 << 20) * 2**-LEAST * math.log2(math.e)
