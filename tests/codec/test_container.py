"""The .sws file: exact round trips, golden bytes, and every damaged file refused in one way."""

import dataclasses
import os
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from coded_networks import everything, networks, sparse, two_layers
from format1_reader import read
from hypothesis import given

from pyro_sws.codec.container import (
    FORMAT_VERSION,
    FormatError,
    Layout,
    decode,
    encode,
    inspect,
)
from pyro_sws.codec.symbols import RAW_DTYPES, Quantized

GOLDEN = Path(__file__).parents[1] / "golden"
EXPECTED = {"format1_two_layers.sws": two_layers, "format1_everything.sws": everything}
NOTHING = Quantized({}, {}, {})


def with_checksum(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def repaired(data: bytes) -> bytes:
    return with_checksum(data[:-4])


# What goes in comes out


@given(networks())
def test_a_file_gives_back_exactly_what_was_encoded(quantized):
    data = encode(quantized)
    assert decode(data) == quantized
    assert encode(decode(data)) == data


@given(networks())
def test_a_layout_tells_shapes_and_accounts_for_every_bit(quantized):
    data = encode(quantized)
    layout = inspect(data)
    assert sum(layout.bits.values()) == 8 * len(data)
    assert {n: t.shape for n, t in layout.tensors.items()} == {
        n: a.shape for part in (quantized.symbols, quantized.raw) for n, a in part.items()
    }
    assert layout.bits["raw"] == 8 * sum(a.nbytes for a in quantized.raw.values())


@pytest.mark.parametrize("quantized", [NOTHING, two_layers(), everything()])
def test_examples_come_back(quantized):
    assert decode(encode(quantized)) == quantized


@pytest.mark.parametrize("dtype", RAW_DTYPES)
def test_every_raw_dtype_is_kept(dtype):
    values = np.array([[1, 0, 1]]).astype(dtype)
    found = decode(encode(Quantized({}, {}, {}, {"b": values}))).raw["b"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


def test_the_smallest_file_is_thirteen_bytes():
    assert encode(NOTHING) == with_checksum(b"SWS\x01\x00\x00\x00\x00\x00")


def test_a_file_is_what_the_documentation_says():
    """By hand: one codebook "c" of float32 0 and 1, one tensor "w" of a single 1."""
    book = np.array([0, 1], dtype=np.float32)
    held = Quantized({"w": np.array([1], dtype=np.uint8)}, {"c": book}, {"w": "c"})
    start = b"SWS" + bytes([1, 0])
    codebooks = bytes([1, 1]) + b"c" + bytes([1, 2]) + bytes([0, 0, 0, 0, 0, 0, 0x80, 0x3F])
    tensors = bytes([1, 1]) + b"w" + bytes([1, 1])
    payload = bytes([1, 0x80])
    assert encode(held) == with_checksum(start + codebooks + tensors + bytes([0]) + payload)


def test_a_tensor_of_one_level_costs_its_header_alone():
    def held(n):
        tensors = {"w": np.zeros((n, 100), dtype=np.uint8)}
        return encode(Quantized(tensors, {"c": np.array([0.5])}, {"w": "c"}))

    assert len(held(1)) == len(held(100))


def test_the_header_of_a_small_network_stays_under_a_hundred_bytes():
    shapes = {"0.weight": (300, 784), "0.bias": (300,), "2.weight": (100, 300), "2.bias": (100,)}
    shapes |= {"4.weight": (10, 100), "4.bias": (10,)}
    symbols = {n: sparse(int(np.prod(s)), 20, 17).reshape(s) for n, s in shapes.items()}
    book = np.arange(17, dtype=np.float16)
    layout = inspect(encode(Quantized(symbols, {"all": book}, dict.fromkeys(shapes, "all"))))
    assert layout.bits["header"] + layout.bits["checksum"] < 8 * 100
    assert layout.bits["codebooks"] == 8 * (17 * 2 + len("all") + 3)


def test_a_layout_says_what_is_in_the_file():
    layout = inspect(encode(everything()))
    assert isinstance(layout, Layout)
    assert (layout.version, layout.coder) == (FORMAT_VERSION, "order0")
    conv = layout.tensors["features.0.wêight"]
    assert (conv.shape, conv.dtype, conv.codebook) == ((4, 3, 3, 3), "float32", "conv")
    assert conv.scale_shape == (4, 1, 1, 1)
    assert layout.tensors["raw bool"].codebook is None
    assert layout.bits["scales"] == 8 * ((1 + 4 + 4 * 4) + (1 + 2) + (1 + 1 + 2 * 8))
    assert set(layout.bits) == {"header", "codebooks", "scales", "symbols", "raw", "checksum"}
    np.testing.assert_array_equal(layout.codebooks["one"], [0.5])


@given(networks())
def test_a_reader_written_from_the_documentation_reads_the_same(quantized):
    symbols, codebooks, scales, raw = read(encode(quantized))
    assert symbols == {n: s.ravel().tolist() for n, s in quantized.symbols.items()}
    for found, part in ((codebooks, "codebooks"), (scales, "scales"), (raw, "raw")):
        arrays = getattr(quantized, part)
        assert found == {n: (a.dtype.name, a.shape, a.tobytes()) for n, a in arrays.items()}


# Golden files


@pytest.mark.parametrize("name", EXPECTED)
def test_golden(name):
    """Written by format 1, read by every later release."""
    path = GOLDEN / name
    if os.environ.get("REGENERATE") == "1":
        path.write_bytes(encode(EXPECTED[name]()))
    assert decode(path.read_bytes()) == EXPECTED[name]()


@pytest.mark.parametrize("name", EXPECTED)
def test_the_same_value_gives_the_golden_bytes(name):
    assert encode(EXPECTED[name]()) == (GOLDEN / name).read_bytes()


# What cannot be encoded


def test_an_unknown_coder_is_refused():
    with pytest.raises(ValueError, match="unknown coder 'huffman'; choose from order0"):
        encode(NOTHING, coder="huffman")


def test_what_the_format_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="'w' has 9 dimensions; a file holds up to 8"):
        encode(Quantized({}, {}, {}, {"w": np.zeros((1,) * 9)}))
    with pytest.raises(ValueError, match="a file holds up to 2147483647 elements"):
        encode(Quantized({}, {}, {}, {"w": np.zeros((0, 2**31))}))
    with pytest.raises(ValueError, match=r"the name '\\udc80' has no UTF-8 form"):
        encode(Quantized({}, {}, {}, {"\udc80": np.zeros(1)}))


# Damaged files


@pytest.mark.parametrize("name", EXPECTED)
def test_every_flipped_bit_is_detected(name):
    data = (GOLDEN / name).read_bytes()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            decode(bytes(flipped))


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("reading", [decode, inspect])
def test_truncation_at_any_length_is_detected(name, reading):
    data = (GOLDEN / name).read_bytes()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            reading(data[:length])


def test_truncation_is_detected_without_the_checksum():
    data = encode(everything())
    for length in range(5, len(data) - 4):
        with pytest.raises(FormatError):
            decode(with_checksum(data[:length]))


def test_trailing_bytes_are_detected():
    data = encode(two_layers())
    with pytest.raises(FormatError, match="checksum does not match"):
        decode(data + b"\0")
    with pytest.raises(FormatError, match="3 bytes follow the payload"):
        decode(with_checksum(data[:-4] + b"abc"))


def test_a_payload_with_bytes_to_spare_is_refused():
    data = encode(NOTHING)
    with pytest.raises(FormatError, match="1 bytes of the payload are left over"):
        decode(with_checksum(data[:-5] + b"\x05abcde"))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip file", b"sws", b"SW"])
def test_another_kind_of_file_is_named_as_such(data):
    with pytest.raises(FormatError, match=r"not a \.sws file: starts with b'"):
        decode(data)


@pytest.mark.parametrize("version", [0, 2, 7])
def test_another_version_is_named_whatever_follows(version):
    data = b"SWS" + bytes([version]) + b"quite another layout"
    with pytest.raises(FormatError, match=f"file is format {version}; this build reads up to 1"):
        decode(data)


def test_an_altered_file_is_said_to_be_altered():
    data = bytearray(encode(two_layers()))
    data[40] ^= 1
    with pytest.raises(FormatError, match="altered or truncated: its checksum"):
        inspect(bytes(data))


def body(*parts):
    return with_checksum(b"SWS\x01" + b"".join(bytes(p) for p in parts))


BOOK = [1, 1, ord("c"), 0, 1, 0, 0]  # one codebook "c": float16 0
HUGE = [0xFF] * 4 + [0x07]  # 2**31 - 1
LONG = [0xFF] * 8 + [0x7F]  # 2**63 - 1
MALFORMED = {
    "unknown coder 9": body([9, 0, 0, 0, 0]),
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


def test_a_few_bytes_do_not_stand_for_more_weights_than_allowed():
    bomb = body([0], BOOK, [3], *[[1, n, 1, *HUGE] for n in b"abc"], [0, 0])
    tracemalloc.start()
    with pytest.raises(FormatError, match="6442450941 weights; max_weights allows 100000000"):
        decode(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000  # bytes
    data = encode(two_layers())
    assert decode(data, max_weights=411) == two_layers()
    with pytest.raises(FormatError, match="411 weights; max_weights allows 410"):
        decode(data, max_weights=410)


@pytest.mark.parametrize("name", EXPECTED)
def test_mutants_with_a_right_checksum_are_refused_or_valid(name):
    data = (GOLDEN / name).read_bytes()
    rng = np.random.default_rng(1)
    decoded = 0
    for _ in range(1500):
        try:
            found = decode(repaired(mutant(data, rng)), max_weights=20_000)
        except FormatError:
            continue
        decoded += 1
        assert decode(encode(found)) == found
        found.tensors()
    assert 0 < decoded < 1500


def mutant(data: bytes, rng) -> bytes:
    """One to three random edits past the version byte: a byte changed, removed, added, or moved."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(4, len(data) - 4))
        edit = rng.integers(5)
        if edit == 0:
            data[at] = rng.integers(256)
        elif edit == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif edit == 2:
            del data[at : at + int(rng.integers(1, 6))]
        elif edit == 3:
            data[at:at] = rng.bytes(int(rng.integers(1, 6)))
        else:
            other = int(rng.integers(4, len(data) - 4))
            data[at : at + 4] = data[other : other + 4]
    return bytes(data)


def test_a_layout_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        inspect(encode(NOTHING)).version = 2
