"""One contract for every coder in CODERS: round trips, ideal lengths, no memory between tensors."""

import math
import time

import numpy as np
import pytest
from coded_networks import coded_tensors, draw_symbols
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_sws.codec.arithmetic import Decoder, Encoder
from pyro_sws.codec.coders import CODERS
from pyro_sws.codec.errors import FormatError

every_coder = pytest.mark.parametrize("coder", CODERS.values(), ids=CODERS)


def encode(coder, symbols, levels, zero):
    stream = Encoder()
    coder.encode(stream, symbols, levels, zero)
    return stream.finish()


def decode(coder, payload, shape, levels, zero):
    stream = Decoder(payload)
    symbols = coder.decode(stream, shape, levels, zero)
    stream.finish()
    return symbols


def test_every_coder_has_a_byte_of_its_own_in_the_file():
    codes = [coder.code for coder in CODERS.values()]
    assert len(set(codes)) == len(codes) and all(0 <= code <= 255 for code in codes)
    assert CODERS["order0"].code == 0


@every_coder
@given(st.data())
def test_every_shape_alphabet_and_skew_comes_back(coder, data):
    levels = data.draw(st.integers(1, 300))
    zero = data.draw(st.none() | st.integers(0, levels - 1))
    symbols = data.draw(coded_tensors(levels))
    found = decode(coder, encode(coder, symbols, levels, zero), symbols.shape, levels, zero)
    np.testing.assert_array_equal(found, symbols)
    assert found.shape == symbols.shape


@every_coder
@pytest.mark.parametrize("levels", [1, 2, 3, 17, 256, 257, 65536])
@pytest.mark.parametrize("size", [0, 1, 10, 1000, 20_000])
@pytest.mark.parametrize("skew", [0.0, 1.5, 60.0])
def test_the_payload_meets_the_ideal_length(coder, levels, size, skew):
    symbols = draw_symbols((size,), levels, skew)
    zero = 0 if skew else None
    ideal = coder.ideal_bits(symbols, levels, zero) / 8
    assert abs(len(encode(coder, symbols, levels, zero)) - ideal) < 0.001 * ideal + 4


@every_coder
@pytest.mark.parametrize("density", [0, 1 / 300_000, 0.005, 0.05, 1])
def test_a_large_layer_meets_the_ideal_length(coder, density):
    symbols = np.where(np.arange(300_000) % 997 < 997 * density, draw_symbols(300_000, 16) + 1, 0)
    if 0 < density < 1e-5:
        symbols[1:] = 0
    ideal = coder.ideal_bits(symbols, 17, 0) / 8
    assert abs(len(encode(coder, symbols, 17, 0)) - ideal) < 0.001 * ideal + 4


@every_coder
def test_one_level_or_no_weights_take_no_bytes(coder):
    assert encode(coder, np.zeros((30, 5), dtype=np.uint8), 1, 0) == b""
    assert encode(coder, np.zeros((30, 5), dtype=np.uint8), 1, None) == b""
    assert encode(coder, np.zeros((0, 5), dtype=np.uint8), 9, 4) == b""
    assert coder.ideal_bits(np.zeros((30, 5), dtype=np.uint8), 1, 0) == 0


@every_coder
def test_a_coder_forgets_between_tensors(coder):
    """Two copies in one stream take twice the ideal length of one."""
    symbols = draw_symbols((40, 50), 9, 2.0)
    stream = Encoder()
    for _ in range(2):
        coder.encode(stream, symbols, 9, 0)
    ideal = 2 * coder.ideal_bits(symbols, 9, 0) / 8
    assert abs(len(stream.finish()) - ideal) < 2


@every_coder
def test_the_same_symbols_give_the_same_bytes(coder):
    symbols = draw_symbols((40, 50), 9, 2.0)
    assert encode(coder, symbols, 9, 0) == encode(coder, symbols.copy(order="F"), 9, 0)


@every_coder
def test_an_altered_payload_never_reads_past_its_end(coder):
    symbols = draw_symbols((20, 20), 9, 2.0)
    payload = encode(coder, symbols, 9, 0)
    for at in range(len(payload)):
        for altered in (payload[:at], payload[:at] + b"\xff" + payload[at + 1 :]):
            try:
                assert decode(coder, altered, (20, 20), 9, 0).max() < 9
            except FormatError:
                pass


@every_coder
def test_a_coder_needs_a_third_of_a_second_per_hundred_thousand_weights_at_most(coder):
    symbols = draw_symbols((300, 784), 17, 5.0)
    start = time.perf_counter()
    decode(coder, encode(coder, symbols, 17, 0), symbols.shape, 17, 0)
    assert time.perf_counter() - start < 2 * symbols.size / 300_000 + 1


def test_order0_is_a_krichevsky_trofimov_estimate_at_each_node():
    """Oracle: the sequential product, symbol by symbol, with a dictionary of counts by node."""
    levels, zero = 6, 2
    symbols = draw_symbols((400,), levels, 1.0)
    bits, counts = 0.0, {}
    for symbol in symbols.tolist():
        for node, side in decisions(symbol, levels, zero):
            seen = counts.setdefault(node, [0, 0])
            bits -= math.log2((seen[side] + 0.5) / (sum(seen) + 1))
            seen[side] += 1
    assert CODERS["order0"].ideal_bits(symbols, levels, zero) == pytest.approx(bits, rel=1e-12)
    assert len(counts) == levels - 1


def decisions(symbol, levels, zero):
    """The questions asked of one symbol: zero or not, then halves of the others."""
    yield "zero", int(symbol != zero)
    if symbol != zero:
        others = [s for s in range(levels) if s != zero]
        while len(others) > 1:
            half = (len(others) + 1) // 2
            side = int(symbol in others[half:])
            yield tuple(others), side
            others = others[half:] if side else others[:half]


@settings(max_examples=20)
@given(st.integers(1, 200), st.integers(0, 4))
def test_order0_takes_no_more_than_half_a_logarithm_a_node_above_the_entropy(size, skew):
    """KT's worst case: n H + (log2 n) / 2 + 1 bits for a binary sequence of n."""
    levels = 5
    symbols = draw_symbols((size,), levels, skew)
    counts = np.bincount(symbols, minlength=levels)
    seen = counts[counts > 0]
    entropy = -(seen * np.log2(seen / size)).sum()
    excess = CODERS["order0"].ideal_bits(symbols, levels, 0) - entropy
    assert 0 <= excess + 1e-9 <= (levels - 1) * (0.5 * math.log2(size) + 1) + 2e-9
