"""Damaged and hostile files: each is refused in one way, and none takes memory to refuse."""

import tracemalloc

import numpy as np
import pytest
from checksums import with_checksum
from coded_networks import everything, two_layers

from pyro_sws.codec.container import FORMAT_VERSION, FormatError, decode, encode, inspect
from pyro_sws.codec.symbols import Quantized


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 a zip file", b"sws", b"SW"])
def test_another_kind_of_file_is_named_as_such(data):
    with pytest.raises(FormatError, match=r"not a \.sws file: starts with b'"):
        decode(data)


@pytest.mark.parametrize("version", [0, 7, 255])
def test_another_version_is_named_whatever_follows(version):
    data = b"SWS" + bytes([version]) + b"quite another layout"
    with pytest.raises(FormatError, match=f"file is format {version}; this build reads up to 6$"):
        decode(data)
    assert FORMAT_VERSION == 6


def test_an_altered_file_is_said_to_be_altered():
    data = bytearray(encode(two_layers()))
    data[40] ^= 1
    with pytest.raises(FormatError, match="altered or truncated: its checksum"):
        inspect(bytes(data))


def test_trailing_bytes_are_detected():
    data = encode(two_layers())
    with pytest.raises(FormatError, match="checksum does not match"):
        decode(data + b"\0")
    with pytest.raises(FormatError, match="3 bytes follow the payload"):
        decode(with_checksum(data[:-4] + b"abc"))


def test_a_payload_with_bytes_to_spare_is_refused():
    data = encode(Quantized({}, {}, {}))
    with pytest.raises(FormatError, match="1 bytes of the payload are left over"):
        decode(with_checksum(data[:-5] + b"\x05abcde"))


def body(*parts):
    return with_checksum(b"SWS\x02" + b"".join(bytes(p) for p in parts))


HUGE = [0xFF] * 4 + [0x07]  # 2**31 - 1
LONG = [0xFF] * 8 + [0x7F]  # 2**63 - 1
W = [0x01, 1, ord("w")]  # a vector "w"; its length follows
BOOK = [1, 8, 1]  # one codebook "all" of one float16
END = [0, 0, 0]
MALFORMED = {
    "unknown flags 32": body([32], END),
    "unknown flags 255": body([255], END),
    r"\d+ tensors cannot be in the \d bytes": body([0], HUGE, END),
    r"\d+ raw tensors cannot be in the \d bytes": body([4, 0], HUGE, END),
    r"\d+ codebooks cannot be in the \d bytes": body([0, 0], LONG, END),
    "unknown ending 6 of a name": body([0, 1, 0x61, 1, 119, 3], BOOK, END),
    "unknown ending 15 of a name": body([0, 1, 0xF1, 3], BOOK, END),
    "refers to one before it": body([0, 1, 0x91, 3], BOOK, END),
    "the first tensor refers to one": body([0, 1, 0x1F, 1, 119], BOOK, END),
    "the tensor 'w' is there twice": body([0, 2], W, [3], W, [3], BOOK, END),
    "the tensor 'w.bias' is there twice": body([0, 2, 0x21, 1, 119, 2, 0xA1, 2], BOOK, END),
    "the tensor 'v' is there": body([4, 1, 1], [0x01, 1, 118, 1] * 2, BOOK, [3, 1], END),
    "the name of a tensor is not UTF-8": body([0, 1, 0x01, 2, 0xC3, 0x28, 1], BOOK, END),
    "the name of a codebook is not UTF-8": body([0, 0, 1, 0, 1, 0xFF, 1], END),
    "9 dimensions; at most 8": body([0, 1, 0x09, 1, 119], [1] * 9, BOOK, END),
    "the shape .* is too large": body([0, 1, 0x02, 1, 119], HUGE, [2], BOOK, END),
    "shape .0, .* is too large": body([0, 1, 0x02, 1, 119, 0], LONG, BOOK, END),
    "a number is longer than 9 bytes": body([0, 1], W, [0xFF] * 12, BOOK, END),
    "longer than it need be": body([0, 1], W, [0x80, 0], BOOK, END),
    "1 tensors have no such places among 2 codebooks": body([0, 1], W, [1, 2, 8, 1], END),
    "1 tensors have no such places among 1 codebooks": body([8, 1], W, [1, 1, 1, 8, 1], END),
    "2 tensors have no such places among 0 codebooks": body([0, 2], W, [1], [0x91, 1, 0], END),
    "a codebook of unknown kind 3": body([0, 0, 1, 3, 1], END),
    "a codebook of unknown kind 12": body([0, 0, 1, 12, 1], END),
    "a codebook of unknown kind 4$": body([0, 0, 1, 4, 1], END),  # named after no tensor
    "the codebook 'all' is there twice, or has 65537": body([0, 0, 1, 8, 0x81, 0x80, 4], END),
    "the codebook 'all' is there twice": body([8, 0, 2, 8, 1, 8, 1], END),
    "more than 1048576 codebook values": body(
        [8, 0, 17], *[[0, 1, 97 + i, 0x80, 0x80, 4] for i in range(17)], END
    ),
    "a scale of unknown dtype 3": body([2, 1], W, [1], BOOK, [4], END),
    "17179869176 bytes should follow": body([2, 1], W, [1], BOOK, [7], HUGE, END),
    "bytes should follow": body([4, 0, 1], W, HUGE, [0, 2], END),
    "unknown dtype code 12": body([4, 0, 1], W, [1, 0, 12], END),
    "a boolean is neither 0 nor 1": body([4, 0, 1], W, [1, 0, 11, 2], END),
    "not positive": body([2, 1], W, [1], BOOK, [1, 0, 0], [2, 0, 0]),
    "does not broadcast": body([2, 1], W, [1], BOOK, [5, 2, 0, 60, 0, 60], [2, 0, 0]),
    "has weights but no codebook value": body([0, 1], W, [5, 1, 8, 0, 0]),
    "leave no room for the next": body([0, 0, 1, 8, 0xFF, 0xFF, 3], [2, 0xFF, 0xFF], []),
    "payload ends early": body([0, 0, 1, 10, 0x80, 1, 0]),
    "symbols cannot be in a payload of 4 bytes": body([0, 3], *[
        [0x01, 1, n, 0x80, 0x80, 0x80, 8] for n in b"abc"], [1, 8, 2, 4, 0, 0, 0, 0]),
}  # fmt: skip


@pytest.mark.parametrize("message", MALFORMED)
def test_a_malformed_file_with_a_right_checksum_is_refused(message):
    with pytest.raises(FormatError, match=message) as caught:
        decode(MALFORMED[message], max_weights=1 << 40)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("message", MALFORMED)
def test_refusing_takes_hardly_any_memory(message):
    tracemalloc.start()
    with pytest.raises(FormatError):
        decode(MALFORMED[message])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000  # bytes: 65,535 values of a codebook are the most that is asked for


ARCHITECTURE = {"a": (2,), "b": (3,), "c": ()}
WITH_ARCHITECTURE = {
    "2 tensors are more than the architecture's 3": ([5], [2, 2]),
    "1 and 1 tensors are not the architecture's 3": ([5], [1, 1]),
    "places in the architecture are not distinct": ([17], [2, 1, 1]),
    "not distinct, or beyond it": ([17], [1, 3]),
    "tensors are more than the architecture's": ([17], HUGE),
    "3 tensors have no such places among 0 codebooks": ([1], [0]),
}


@pytest.mark.parametrize("message", WITH_ARCHITECTURE)
def test_a_malformed_choice_from_an_architecture_is_refused(message):
    flags, rest = WITH_ARCHITECTURE[message]
    mark = encode(Quantized({}, {}, {}), architecture=ARCHITECTURE)[5:9]
    with pytest.raises(FormatError, match=message):
        decode(body(flags, mark, rest, BOOK, END), architecture=ARCHITECTURE)


# The limit


def test_a_few_bytes_do_not_stand_for_more_weights_than_allowed():
    bomb = body([0, 3], *[[0x01, 1, n, *HUGE] for n in b"abc"], BOOK, [0])
    tracemalloc.start()
    with pytest.raises(FormatError, match="6442450941 weights; max_weights allows 1204224"):
        decode(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000  # bytes
    assert len(bomb) == 38 and 1204224 == 2**20 + 38 * 2**12


def test_the_limit_is_to_the_weight():
    data = encode(two_layers())
    assert decode(data, max_weights=411) == two_layers()
    with pytest.raises(FormatError, match="411 weights; max_weights allows 410"):
        decode(data, max_weights=410)


def test_the_default_limit_grows_with_the_file():
    """2^20, and 4,096 a byte: constants of one level up to that are read, one more is not."""

    def constant(size):
        book = np.array([0.5])
        return encode(Quantized({"w": np.zeros(size, np.uint8)}, {"all": book}, {"w": "all"}))

    most = (1 << 20) + (1 << 12) * len(constant(1 << 20))
    assert decode(constant(most)).size == most
    with pytest.raises(FormatError, match=f"{most + 1} weights; max_weights allows {most}"):
        decode(constant(most + 1))
    assert decode(constant(most + 1), max_weights=most + 1).size == most + 1
    assert inspect(constant(most + 1)).tensors["w"].shape == (most + 1,)


def test_everything_cut_anywhere_is_refused_whatever_the_checksum():
    data = encode(everything())
    for length in range(5, len(data) - 4):
        with pytest.raises(FormatError):
            decode(with_checksum(data[:length]))
