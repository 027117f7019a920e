"""Golden files: what any release wrote, every later one reads; what this one writes stays so."""

import os
import zlib

import numpy as np
import pytest
from golden_files import FORMAT1, FORMAT2, GOLDEN, WRITTEN, expected, golden

from pyro_sws.codec.container import FormatError, decode, encode, inspect

every_golden = pytest.mark.parametrize("name", [*FORMAT1, *FORMAT2])


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_value_gives_the_golden_bytes(name):
    quantized, how = FORMAT2[name]()
    data = encode(quantized, **how)
    if os.environ.get("REGENERATE") == "1":
        (GOLDEN / name).write_bytes(data)
    assert data == golden(name)


@every_golden
def test_a_golden_file_is_read_by_this_release(name):
    quantized, how = expected(name)
    assert decode(golden(name), **how) == quantized


@every_golden
def test_a_golden_file_is_read_alike_by_both_implementations(name, monkeypatch):
    pytest.importorskip("numba")
    quantized, how = expected(name)
    monkeypatch.setenv("PYRO_SWS_CODEC", "numba")
    assert decode(golden(name), **how) == quantized
    if name in WRITTEN:
        assert encode(quantized, **FORMAT2[name]()[1]) == golden(name)


@every_golden
def test_inspect_agrees_with_decode_and_counts_every_bit(name):
    quantized, how = expected(name)
    layout = inspect(golden(name), **how)
    assert f"format{layout.version}_" in name
    assert sum(layout.bits.values()) == 8 * len(golden(name))
    for book, values in quantized.codebooks.items():
        np.testing.assert_array_equal(layout.codebooks[book], values)


@every_golden
def test_every_flipped_bit_is_detected(name):
    data, how = golden(name), expected(name)[1]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            decode(bytes(flipped), **how)


@every_golden
@pytest.mark.parametrize("reading", [decode, inspect])
def test_truncation_at_any_length_is_detected(name, reading):
    data, how = golden(name), expected(name)[1]
    for length in range(len(data)):
        with pytest.raises(FormatError):
            reading(data[:length], **how)


@every_golden
def test_truncation_is_detected_without_the_checksum(name):
    data, how = golden(name), expected(name)[1]
    for length in range(5, len(data) - 4, 3):
        cut = data[:length]
        with pytest.raises(FormatError):
            inspect(cut + zlib.crc32(cut).to_bytes(4, "little"), **how)


def test_the_network_like_lenet_is_under_a_kilobyte_and_gains_from_its_structure():
    structured, memoryless = golden("format2_lenet_like.sws"), golden("format2_order0.sws")
    assert len(structured) < 1000 and len(structured) < 0.6 * len(memoryless)
