"""The baselines are coders: they give the symbols back, and the 2017 stream is what was counted."""

import time

import numpy as np
import pytest
from coded_networks import coded_tensors, draw_symbols
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.codec.coders import Plane
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.paper_accounting import huffman_bits, tensor_bits
from scripts.coders.baselines import BASELINES
from scripts.coders.csr_stream import overhead_bits
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

pytestmark = pytest.mark.integration

every_baseline = pytest.mark.parametrize("coder", BASELINES.values(), ids=BASELINES)


def plane_of(symbols, levels, zero):
    return Plane(symbols.shape, levels, zero)


@st.composite
def networks(draw):
    """Some tensors, each with its own alphabet, and their planes."""
    tensors, planes = [], []
    for _ in range(draw(st.integers(0, 3))):
        levels = draw(st.integers(1, 300))
        tensors.append(draw(coded_tensors(levels)))
        zero = draw(st.none() | st.integers(0, levels - 1))
        planes.append(plane_of(tensors[-1], levels, zero))
    return tensors, planes


@st.composite
def sparse_rows(draw):
    """Wide matrices of few weights: gaps that need fillers."""
    shape = draw(st.sampled_from([(200,), (3, 150), (2, 3, 200), (2, 2, 3, 50)]))
    symbols = np.full(shape, 2, dtype=np.uint8)
    places = draw(st.lists(st.integers(0, symbols.size - 1), max_size=8))
    symbols.reshape(-1)[places] = draw_symbols(len(places), 5, 0.0)
    return symbols


@every_baseline
@given(networks())
def test_every_shape_alphabet_and_skew_comes_back(coder, network):
    tensors, planes = network
    found = coder.decode(coder.encode(tensors, planes), planes)
    for symbols, expected in zip(found, tensors, strict=True):
        np.testing.assert_array_equal(symbols, expected)
        assert symbols.shape == expected.shape and symbols.dtype == np.uint16


@every_baseline
@given(sparse_rows())
def test_rows_with_long_gaps_come_back(coder, symbols):
    plane = plane_of(symbols, 5, 2)
    found = coder.decode(coder.encode([symbols], [plane]), [plane])
    np.testing.assert_array_equal(found[0], symbols)


@every_baseline
def test_nothing_takes_no_bytes(coder):
    nothing = np.zeros((0, 5), dtype=np.uint8)
    assert coder.encode([], []) == b""
    assert coder.encode([nothing], [plane_of(nothing, 3, 0)]) == b""


@every_baseline
def test_the_same_symbols_give_the_same_bytes(coder):
    symbols = draw_symbols((40, 50), 9, 2.0)
    planes = [plane_of(symbols, 9, 0)]
    assert coder.encode([symbols], planes) == coder.encode([symbols.copy(order="F")], planes)


@every_baseline
def test_a_shortened_or_lengthened_payload_is_refused(coder):
    symbols = draw_symbols((20, 20), 9, 2.0)
    planes = [plane_of(symbols, 9, 0)]
    payload = coder.encode([symbols], planes)
    for damaged in (*(payload[:end] for end in range(len(payload))), payload + b"\0"):
        with pytest.raises(FormatError):
            coder.decode(damaged, planes)
    with pytest.raises(FormatError):
        coder.decode(payload, [])


@every_baseline
@given(st.data())
def test_any_other_bytes_give_symbols_or_a_format_error(coder, data):
    zero = data.draw(st.none() | st.integers(0, 8))
    symbols = draw_symbols(data.draw(st.sampled_from([(20, 20), (7, 3, 5), (30,), ()])), 9, 2.0)
    planes = [plane_of(symbols, 9, zero)]
    payload = bytearray(coder.encode([symbols], planes))
    for place in data.draw(st.lists(st.integers(0, len(payload) - 1), min_size=1, max_size=3)):
        payload[place] = data.draw(st.integers(0, 255))
    payload = data.draw(st.sampled_from([bytes(payload), data.draw(st.binary(max_size=60))]))
    try:
        (found,) = coder.decode(payload, planes)
    except FormatError:
        return
    assert found.max() < 9 and found.shape == symbols.shape


@every_baseline
def test_a_large_network_takes_a_few_seconds_at_most(coder):
    symbols = draw_symbols((500, 800), 17, 3.0)
    planes = [plane_of(symbols, 17, 0)]
    start = time.perf_counter()
    coder.decode(coder.encode([symbols], planes), planes)
    assert time.perf_counter() - start < 15


@given(networks())
def test_the_2017_stream_is_what_was_counted_and_its_tables(network):
    tensors, planes = network
    payload = BASELINES["csr_huffman_2017"].encode(tensors, planes)
    bits = sum(
        tensor_bits(symbols, plane.zero) + overhead_bits(symbols, plane)
        for symbols, plane in zip(tensors, planes, strict=True)
    )
    assert len(payload) == -(-bits // 8)


@given(sparse_rows())
def test_the_2017_stream_has_the_fillers_that_were_counted(symbols):
    plane = plane_of(symbols, 5, 2)
    payload = BASELINES["csr_huffman_2017"].encode([symbols], [plane])
    assert len(payload) == -(-(tensor_bits(symbols, 2) + overhead_bits(symbols, plane)) // 8)


def test_the_2017_stream_by_hand():
    """One weight in column 33 of a row: a filler, then a gap of 1. Two stored values, p = 2."""
    symbols = np.zeros((1, 40), dtype=np.uint8)
    symbols[0, 32] = 1
    payload = BASELINES["csr_huffman_2017"].encode([symbols], [Plane((1, 40), 2, 0)])
    pointers = "000010" + "00" + "10"
    # 32 lengths of 1 bit: 1 for the first and the last, 0 for the 30 between.
    differences = "100000" + "001" + "0" + "1" + 30 * "0" + "1"
    # Symbols 0 to 2, which is the filler: lengths 0, 1, 1. Both texts are filler, then value.
    values = "11" + "001" + "0" + "011"
    bits = pointers + differences + "10" + values + "10"
    assert payload == int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(9, "big")


counts_of_text = st.lists(st.integers(0, 200), min_size=1, max_size=40)


@given(counts_of_text)
def test_a_huffman_text_comes_back_with_its_table(counts):
    counts = np.array(counts)
    text = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    lengths, out = code_lengths(counts), BitWriter()
    assert lengths @ counts == huffman_bits(counts)
    write_table(out, lengths)
    write_text(out, lengths, text)
    payload = out.finish()
    assert len(payload) == -(-(table_bits(lengths) + huffman_bits(counts)) // 8)
    reader = BitReader(payload)
    np.testing.assert_array_equal(read_table(reader, len(counts)), lengths)
    np.testing.assert_array_equal(read_text(reader, lengths, len(text)), text)
    reader.finish()


def test_codewords_may_be_as_long_as_a_skewed_text_makes_them():
    """Fibonacci counts give the longest code there is: lengths 1, 2, 3, ..."""
    counts = [1, 1]
    while len(counts) < 45:
        counts.append(counts[-1] + counts[-2])
    lengths = code_lengths(np.array(counts))
    assert lengths.tolist() == [44, *range(44, 0, -1)]
    text, out = np.array([0, 44, 1, 20, 44, 44, 0]), BitWriter()
    write_text(out, lengths, text)
    np.testing.assert_array_equal(read_text(BitReader(out.finish()), lengths, 7), text)


@pytest.mark.parametrize("lengths", [[1, 2], [1, 1, 1], [2], [2, 2, 2], [63, 1, 1]])
def test_lengths_that_are_no_code_are_refused(lengths):
    out = BitWriter()
    write_table(out, np.array(lengths))
    with pytest.raises(FormatError, match="no Huffman code"):
        read_table(BitReader(out.finish()), len(lengths))
