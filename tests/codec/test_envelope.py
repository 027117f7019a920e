"""The envelope of a checkpoint: parts come back as one, and hostile tables are refused."""

import io
import os
import tracemalloc
import zlib

import numpy as np
import pytest
from checkpoint_files import envelope, of_files, parts, whole, with_raw, with_table
from checksums import with_checksum
from coded_networks import fingerprinted, two_layers
from golden_files import GOLDEN, golden

from pyro_sws.codec import merging
from pyro_sws.codec.container import FormatError, decode, decode_parts, encode, inspect
from pyro_sws.codec.envelope import read_table, write_table
from pyro_sws.codec.symbols import Quantized

NAME = "format5_checkpoint.sws"
READINGS = pytest.mark.parametrize("reading", [decode, inspect])


def named(name, dtype=np.float16, shape=(2,)):
    return Quantized({}, {}, {}, {name: np.ones(shape, dtype)})


# What goes in comes out


def test_the_same_parts_give_the_golden_bytes():
    if os.environ.get("REGENERATE") == "1":
        (GOLDEN / NAME).write_bytes(whole())
    assert whole() == golden(NAME)


def test_the_tensors_of_all_parts_come_back_and_those_of_further_names():
    found = decode(golden(NAME)).tensors()
    expected = {n: v for quantized, _ in parts() for n, v in quantized.tensors().items()}
    expected |= {"head": expected["embedding"], "other norm": expected["norm"]}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, strict=True)


def test_codebooks_of_one_name_are_told_apart():
    found = decode(golden(NAME))
    assert {found.codebook_of["0.weight"], found.codebook_of["embedding"]} == {
        "all",
        "part 1: all",
    }
    np.testing.assert_array_equal(found.codebooks["part 1: all"], [-2, -1, 0, 1, 2])


def test_inspect_agrees_with_decode_and_counts_every_bit():
    layout, found = inspect(golden(NAME)), decode(golden(NAME))
    assert layout.version == 5
    assert sum(layout.bits.values()) == 8 * len(golden(NAME))
    assert {n: t.shape for n, t in layout.tensors.items()} == {
        n: v.shape for n, v in found.tensors().items()
    }
    assert {n: t.codebook for n, t in layout.tensors.items() if t.codebook} == found.codebook_of


def test_a_table_says_which_dtypes_tensors_had():
    table = read_table(io.BytesIO(golden(NAME)))
    assert [list(part.dtypes) for part in table.parts] == [dtypes for _, dtypes in parts()]
    assert table.aliases == {"head": 4, "other norm": 5}


def test_parts_are_decoded_one_at_a_time():
    """The first one comes although the second is damaged."""
    data = bytearray(golden(NAME))
    file = io.BytesIO(data)
    table = read_table(file)
    data[table.parts[1].start + 20] ^= 1
    found = decode_parts(io.BytesIO(data), table)
    assert next(found) == two_layers()
    with pytest.raises(FormatError, match="its checksum does not match"):
        next(found)


def test_no_parts_are_a_checkpoint_too():
    assert decode(envelope([])) == Quantized({}, {}, {})
    assert envelope([]) == with_table([0, 0])


def test_a_file_is_what_the_documentation_says():
    part = encode(named("w"))
    table = [1, len(part), *part[-4:], 1, 2, 1, 1, ord("v"), 0]
    assert of_files([(part, ["bfloat16"])], {"v": 0}) == with_table(table, part)


# What is refused


@pytest.mark.parametrize("reading, every", [(inspect, 1), (decode, 7)])
def test_every_flipped_bit_is_detected(reading, every):
    data = golden(NAME)
    for bit in range(0, 8 * len(data), every):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            reading(bytes(flipped))


@READINGS
def test_truncation_at_any_length_is_detected(reading):
    data = golden(NAME)
    for length in range(len(data)):
        with pytest.raises(FormatError):
            reading(data[:length])


def test_parts_in_another_order_are_not_those_of_the_table():
    one, other = encode(named("v")), encode(named("w"))
    data = of_files([(one, [None]), (other, [None])], {})
    assert len(one) == len(other)
    with pytest.raises(FormatError, match="another one than its table says"):
        decode(data[: -len(one + other)] + other + one)


PART = encode(named("w"))
ENTRY = [len(PART), *PART[-4:], 1, 0]
LONG = [0xFF] * 8 + [0x7F]  # 2**63 - 1
NESTED = envelope([(named("w"), [None])])
OLD = golden("format1_two_layers.sws")
FINGERPRINTED = encode(fingerprinted()[0], architecture=fingerprinted()[1])
REFUSED = {
    r"\d+ parts cannot be in the \d+ bytes": with_table([*LONG, 0]),
    "a part of 11 bytes; at least 12": with_table([1, 11, 0, 0, 0, 0, 0, 0], b"x" * 11),
    r"\d+ tensors cannot be in": with_table([1, len(PART), *PART[-4:], *LONG, 0], PART),
    "unknown dtype code 5": with_table([1, len(PART), *PART[-4:], 1, 5, 0], PART),
    r"\d+ further names cannot be in": with_table([1, *ENTRY, *LONG], PART),
    "'v' is there twice": with_table([1, *ENTRY, 2, 1, 118, 0, 1, 118, 0], PART),
    "is of tensor 1 of 1": with_table([1, *ENTRY, 1, 1, 118, 1], PART),
    "not UTF-8": with_table([1, *ENTRY, 1, 1, 0xFF, 0], PART),
    "1 bytes of the table belong to nothing": with_table([1, *ENTRY, 0, 0], PART),
    r"has \d+ bytes; its table says": with_table([1, *ENTRY, 0], PART, b"x"),
    "the tensor 'w' is in the .sws file twice": of_files([(PART, [None])] * 2, {}),
    "'w' is in the .sws file twice": of_files([(PART, [None])], {"w": 0}),
    "has 1 tensors; its table says 2": of_files([(PART, [None, None])], {}),
    "holds int32; its table says float16": envelope([(named("w", np.int32), ["float16"])]),
    "no .sws file of formats 2 to 4": of_files([(NESTED, [None])], {}),
    "is no .sws file of formats": of_files([(OLD, [None] * 4)], {}),
    "has a fingerprint in place of names": of_files([(FINGERPRINTED, [])], {}),
    "file is altered or truncated: its table": bytearray(NESTED[:8]) + b"x" + NESTED[9:],
}


@READINGS
@pytest.mark.parametrize("message", REFUSED)
def test_a_malformed_envelope_is_refused(message, reading):
    with pytest.raises(FormatError, match=message) as caught:
        reading(REFUSED[message])
    assert "\n" not in str(caught.value)


def test_a_table_longer_than_the_file_takes_no_memory():
    head = b"SWS\x05" + bytes([0xFF] * 4 + [0x7F])
    tracemalloc.start()
    with pytest.raises(FormatError, match="truncated: its table takes"):
        decode(head + zlib.crc32(head).to_bytes(4, "little"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000  # bytes


def constant(name, size):
    book = np.array([0.5])
    return Quantized({name: np.zeros(size, np.uint8)}, {name: book}, {name: name})


def test_the_limit_is_to_all_parts_and_names_together():
    """3 coded and 2 raw elements, and the 3 once more."""
    held = [(constant("a", 3), [None]), (named("w"), [None])]
    data = envelope(held, {"b": 0})
    assert set(decode(data, max_weights=8).tensors()) == {"a", "b", "w"}
    with pytest.raises(FormatError, match="more weights than max_weights allows"):
        decode(data, max_weights=7)


def test_a_few_bytes_do_not_stand_for_many_raw_elements():
    """A progression takes no room, and a file of one network has at most 2^20 elements of them."""
    rows = np.arange(1 << 20)
    one = [(Quantized({}, {}, {}, {f"r{i}": rows}), [None]) for i in range(8)]
    data = envelope(one)
    assert len(data) < 400
    with pytest.raises(FormatError, match="more weights than max_weights allows"):
        decode(data)


@READINGS
def test_a_few_bytes_do_not_stand_for_many_codebook_values(reading, monkeypatch):
    """All floats of a range take no room either."""
    monkeypatch.setattr(merging, "VALUES_FREE", 400)
    book = np.arange(5000, 5200, dtype=np.uint16).view(np.float16)
    held = [(Quantized({}, {name: book}, {}), []) for name in "abc"]
    reading(envelope(held[:2]))
    assert len(envelope(held)) < 150
    with pytest.raises(FormatError, match="more values than it has bytes"):
        reading(envelope(held))


def test_a_checksum_that_is_right_does_not_save_a_malformed_part():
    part = with_checksum(PART[:-5] + b"\x07")
    with pytest.raises(FormatError):
        decode(of_files([(part, [None])], {}))


def test_writing_a_table_and_reading_it_are_inverse():
    data = of_files([(encode(q), dtypes) for q, dtypes in parts()], {"x": 0})
    table = read_table(io.BytesIO(data))
    assert data[: table.length] == write_table(table.parts, table.aliases)


def test_with_raw_has_every_dtype_of_the_table():
    assert {dtype for _, dtypes in parts() for dtype in dtypes} == {
        None,
        "float16",
        "bfloat16",
        "float32",
        "float64",
    }
    assert with_raw().raw["wide"].dtype == np.float64
