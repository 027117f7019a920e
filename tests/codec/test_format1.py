"""Format 1 is read for ever: against its golden files, an old reader, and hostile bytes."""

import numpy as np
import pytest
from checksums import with_checksum
from coded_networks import everything, networks, two_layers
from format1_reader import read
from format1_writer import write
from golden_files import FORMAT1, golden
from hypothesis import given, settings

from pyro_sws.codec.container import FormatError, decode, inspect


@pytest.mark.parametrize("name", FORMAT1)
def test_the_writer_of_the_tests_writes_the_golden_bytes(name):
    assert write(FORMAT1[name]()) == golden(name)


@settings(max_examples=40)
@given(networks())
def test_every_value_is_read_from_a_format_1_file(quantized):
    data = write(quantized)
    assert decode(data) == quantized
    assert sum(inspect(data).bits.values()) == 8 * len(data)


@settings(max_examples=40)
@given(networks())
def test_a_reader_written_from_the_documentation_reads_the_same(quantized):
    assert_same(read(write(quantized)), quantized)


@pytest.mark.parametrize("name", FORMAT1)
def test_that_reader_reads_the_golden_files_too(name):
    assert_same(read(golden(name)), decode(golden(name)))


def assert_same(parts, quantized):
    symbols, codebooks, scales, raw = parts
    assert symbols == {n: s.ravel().tolist() for n, s in quantized.symbols.items()}
    for found, part in ((codebooks, "codebooks"), (scales, "scales"), (raw, "raw")):
        arrays = getattr(quantized, part)
        assert found == {n: (a.dtype.name, a.shape, a.tobytes()) for n, a in arrays.items()}


def test_a_layout_of_format_1_accounts_for_whole_codebooks_and_scales():
    layout = inspect(golden("format1_everything.sws"))
    assert (layout.version, layout.coder) == (1, "order0")
    assert layout.bits["scales"] == 8 * ((1 + 4 + 4 * 4) + (1 + 2) + (1 + 1 + 2 * 8))
    assert layout.bits["raw"] == 8 * sum(a.nbytes for a in everything().raw.values())
    assert inspect(golden("format1_two_layers.sws")).bits["codebooks"] == 8 * (5 * 2 + 3 + 3)
    np.testing.assert_array_equal(layout.codebooks["one"], [0.5])


def body(*parts):
    return with_checksum(b"SWS\x01" + b"".join(bytes(p) for p in parts))


BOOK = [1, 1, ord("c"), 0, 1, 0, 0]  # one codebook "c": float16 0
HUGE = [0xFF] * 4 + [0x07]  # 2**31 - 1
LONG = [0xFF] * 8 + [0x7F]  # 2**63 - 1
MALFORMED = {
    "unknown coder 9; format 1 has 0": body([9, 0, 0, 0, 0]),
    r"\d+ codebooks cannot be in the 3 bytes": body([0], LONG, [0, 0, 0]),
    r"\d+ tensors cannot be in the 2 bytes": body([0, 0], HUGE, [0, 0]),
    r"\d+ raw tensors cannot be in the 1 bytes": body([0, 0, 0], HUGE, [0]),
    "2147483647 bytes should follow, 2 are": body([0, 0, 1], HUGE, [0, 0]),
    "the codebook 'c' has 1 values of int8": body([0, 1, 1, ord("c"), 3, 1, 0], [0, 0, 0]),
    "the codebook 'c' has 65537 values": body([0, 1, 1, ord("c"), 0, 0x81, 0x80, 4], [0] * 200),
    "unknown dtype code 12": body([0, 1, 1, ord("c"), 12, 1, 0], [0, 0, 0]),
    "20 bytes should follow, 3 are left": body([0, 1, 1, ord("c"), 0, 10], [0, 0, 0]),
    "the codebook 'c' is there twice": body([0, 2], BOOK[1:] * 2, [0, 0, 0]),
    "the name of a codebook is not UTF-8": body([0, 1, 1, 0xFF, 0, 1, 0, 0], [0, 0, 0]),
    "the name of a tensor is not UTF-8": body([0], BOOK, [1, 2, 0xC3, 0x28, 0], [0, 0]),
    "the tensor 'w' is there twice": body([0], BOOK, [2, 1, 119, 0, 1, 119, 0], [0, 0]),
    "'w' is there twice": body([0], BOOK, [1, 1, 119, 0, 1, 1, 119, 0x70, 0], [0]),
    "the tensor 'v' is there twice": body([0, 0, 0, 2], [1, 118, 0x70, 0] * 2, [0]),
    "'w' has codebook 0 of 0": body([0, 0, 1, 1, 119, 0, 0], [0, 0]),
    "'w' has codebook 2 of 2": body([0, 2], BOOK[1:], [0, 0, 0], [1, 1, 119, 0, 2], [0, 0]),
    "9 dimensions; at most 8": body([0], BOOK, [1, 1, 119, 9], [1] * 9, [0, 0]),
    "the shape .* is too large": body([0], BOOK, [1, 1, 119, 2], HUGE, [2], [0, 0]),
    "shape .0, .* is too large": body([0, 0, 0, 1, 1, 119, 0x72, 0], LONG, [0]),
    "a number is longer than 9 bytes": body([0], BOOK, [1, 1, 119, 1], [0xFF] * 12, [0, 0]),
    "longer than it need be": body([0, 0x80, 0], [0, 0, 0]),
    "unknown dtype code 14": body([0, 0, 0, 1, 1, 119, 0xE0, 0], [0] * 20),
    "a boolean is neither 0 nor 1": body([0, 0, 0, 1, 1, 119, 0xB0, 2], [0]),
    "not positive": body([0], BOOK, [1, 1, 119, 0x10, 0, 0, 0], [0, 0]),
    "does not broadcast": body([0], BOOK, [1, 1, 119, 0x10, 1, 1, 0, 60], [0, 0]),
    "unknown dtype code 13": body([0], BOOK, [1, 1, 119, 0xE0, 0, 0, 0], [0, 0]),
    "beyond its codebook of 0": body([0, 1, 1, ord("c"), 0, 0], [1, 1, 119, 0], [0, 0]),
    "holds nan": body([0, 1, 1, ord("c"), 0, 1, 0xFF, 0xFF], [0, 0, 0]),
    "holds -?0.0 twice": body([0, 1, 1, ord("c"), 0, 2, 0, 0, 0, 0x80], [0, 0, 0]),
    "payload ends early": body([0, 1, 0, 0, 2, 0, 0, 0, 60], [1, 0, 1, 200, 1, 0, 2, 170, 170]),
}  # fmt: skip


@pytest.mark.parametrize("message", MALFORMED)
def test_a_malformed_file_with_a_right_checksum_is_refused(message):
    with pytest.raises(FormatError, match=message):
        decode(MALFORMED[message])


def test_the_default_limit_holds_for_format_1_too():
    bomb = body([0], BOOK, [3], *[[1, n, 1, *HUGE] for n in b"abc"], [0, 0])
    with pytest.raises(FormatError, match=r"6442450941 weights; max_weights allows \d{7}$"):
        decode(bomb)
    data = write(two_layers())
    assert decode(data, max_weights=411) == two_layers()
    with pytest.raises(FormatError, match="411 weights; max_weights allows 410"):
        decode(data, max_weights=410)


def test_truncation_is_detected_without_the_checksum():
    data = golden("format1_everything.sws")
    for length in range(5, len(data) - 4):
        with pytest.raises(FormatError):
            decode(with_checksum(data[:length]))
