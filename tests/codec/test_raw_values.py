"""Raw tensors in fewer bytes: sizes counted by hand, bits kept, hostile bytes refused."""

import tracemalloc

import numpy as np
import pytest
from checksums import with_checksum
from coded_networks import on_grids
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyro_sws.codec.container import FormatError, decode, encode, inspect
from pyro_sws.codec.header import raw_codings
from pyro_sws.codec.raw_values import MOST_PROGRESSED, on_even_steps, on_patterns
from pyro_sws.codec.symbols import Quantized


def alone(values):
    return Quantized({}, {}, {}, {"a": values})


def raw_bytes(quantized):
    return {name: length for name, (_, length) in raw_codings(quantized).items()}


def length(values):
    return raw_bytes(alone(values))["a"]


def test_lengths_are_those_counted_by_hand():
    assert raw_bytes(on_grids()) == {
        "positions": 2,  # 0 and a step of 1, in place of 616
        "falling": 3,  # 250 takes two bytes as 500, and -10 is 19
        "same": 2,
        "index": 60,  # 60 differences below 64 in magnitude
        "count": 2,  # 1234, as 2468
        "variances": 1 + 2 + 40,  # 17 digits dropped, the least place 8100, a byte each
        "negative": 1 + 3 + 40,  # with the sign bit the least place is 8100 + 2^14
        "half": 1 + 1 + 20,
        "means": 1 + 2 + 40,  # steps of 2^-6, from -99 on, which is 197
        "mask": 1 + 1 + 36,
        "zeros": 1 + 1 + 9,
        "plain": 20,  # an even grid has no -0; on that of bit patterns it is far away
        "double": 72,
        "largest": 16,
        "empty": 0,
    }


def test_the_parts_of_a_file_account_for_them():
    held = on_grids()
    assert inspect(encode(held)).bits["raw"] == 8 * sum(raw_bytes(held).values())


@given(
    hnp.arrays(
        st.sampled_from(["float16", "float32", "float64", "int64", "uint64", "int8", "bool"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7),
    )
)
@settings(max_examples=200)
def test_any_tensor_comes_back_bit_for_bit_and_never_longer(values):
    held = alone(values)
    assert decode(encode(held)) == held
    assert length(values) <= values.nbytes


@given(
    st.integers(-(2**20), 2**20),
    st.integers(-140, 100),
    st.lists(st.integers(0, 255), min_size=12, max_size=30),
)
def test_what_is_on_an_even_grid_takes_a_byte_each_and_comes_back(first, exponent, places):
    values = np.ldexp(np.array(places) + float(first), exponent).astype(np.float32)
    held = alone(values)
    assert decode(encode(held)) == held
    assert length(values) <= len(places) + 2 + 4


spread = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(2.0**-20, 2.0**20, width=32))


@given(spread)
def test_a_logarithmic_grid_is_as_exact_as_256_values_allow(values):
    """Bit patterns grow by 2^23 an octave: steps of 2^k patterns are 2^(k-24) of a value at most,
    halved, and k is the least with which 256 places span them, give or take the ends' rounding."""
    patterns = values.view(np.uint32).astype(np.int64)
    step = 1
    while step * 254 < np.ptp(patterns):
        step *= 2
    rounded = on_patterns(values)
    error = np.abs(rounded.astype(float) - values)
    assert (error <= step / 2**24 * values.astype(float)).all()
    assert length(rounded) <= min(values.nbytes, len(values) + 1 + 5)
    np.testing.assert_array_equal(on_patterns(rounded), rounded)


@given(hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e6, 1e6, width=32)))
def test_an_even_grid_is_as_exact_as_256_values_allow(values):
    """Steps are a power of two, at most twice a 254th of the range."""
    rounded = on_even_steps(values)
    wide = values.astype(float)
    finest = np.abs(wide).max() * 2.0**-23  # whole numbers of a float32 on its grid
    assert np.abs(rounded - wide).max() <= max(np.ptp(wide) / 254, finest)
    held = alone(rounded)
    assert decode(encode(held)) == held


def test_parts_of_a_tensor_on_a_grid_are_on_one_too():
    draw = np.random.default_rng(0)
    for rounded in (
        on_patterns(np.exp(draw.normal(size=64)).astype(np.float32)),
        on_even_steps(draw.normal(size=64).astype(np.float32)),
    ):
        part = rounded[draw.permutation(64)[:20]]
        assert length(part) <= 20 + 6


# One raw tensor "a" of one dimension, and what follows its dtype and coding.
def body(elements, dtype, coding, *rest, version=4):
    shape = bytes([1, 1, ord("a"), *varint(elements), 0])
    raw = bytes([dtype + 16 * coding]) + b"".join(map(bytes, rest))
    return with_checksum(b"SWS" + bytes([version, 4, 0, 1]) + shape + raw + b"\0")


def varint(number):
    return [number] if number < 128 else [number % 128 + 128, *varint(number // 128)]


MALFORMED = {
    "unknown dtype code 22": body(1, 6, 1, [0, 0], version=3),
    "int64 has the unknown coding 5": body(1, 6, 5, [0]),
    "int64 has the unknown coding 3": body(1, 6, 3, [0, 0, 0]),
    "bool has the unknown coding 1": body(1, 11, 1, [0, 0]),
    "float32 has the unknown coding 2": body(1, 1, 2, [0]),
    "float64 has the unknown coding 4": body(1, 2, 4, [0, 0, 0]),
    "unknown dtype code 15": body(1, 15, 1, [0, 0]),
    "without elements has a coding": body(0, 6, 1, [0, 0]),
    "progressions have more than 1048576": body(2**20 + 1, 6, 1, [0, 2]),
    "0 to 128 are not of int8": body(2, 3, 1, [0], varint(256)),
    "-1 to -1 are not of uint8": body(1, 7, 2, [1]),
    "9 differences cannot be in the 2 bytes": body(9, 6, 2, [0]),
    "0 to 254 are not of int8": body(2, 3, 2, [0], varint(508)),
    "patterns from 0 x 2\\^32": body(1, 1, 3, [32, 0, 0]),
    "patterns from 65535 x 2\\^16": body(1, 1, 3, [16], varint(65535), [1]),
    "patterns from 9223372036854775807 x": body(1, 0, 3, [0], [0xFF] * 8 + [0x7F], [0]),
    "9 bytes should follow": body(9, 1, 4, [0, 0, 0]),
    "from 0 in steps of 2\\^201": body(1, 1, 4, varint(402), [0, 1]),
    "from 1 in steps of 2\\^128": body(1, 1, 4, varint(256), [2, 0]),
    "from 0 in steps of 2\\^-160": body(1, 1, 4, varint(319), [0, 1]),
    "from 4097 in steps of 2\\^0": body(1, 0, 4, [0], varint(8194), [0]),
    "from 16777217 in steps": body(1, 1, 4, [0], varint(2 * 16777217), [0]),
}


@pytest.mark.parametrize("message", MALFORMED)
@pytest.mark.parametrize("reading", [decode, inspect])
def test_a_malformed_coding_is_refused(message, reading):
    with pytest.raises(FormatError, match=message) as caught:
        reading(MALFORMED[message])
    assert "\n" not in str(caught.value)


def test_a_well_formed_one_is_read():
    assert decode(body(3, 3, 1, [4, 1])).raw["a"].tolist() == [2, 1, 0]
    assert decode(body(2, 1, 4, [1, 3], [2, 5])).raw["a"].tolist() == [0.0, 1.5]
    assert decode(body(2, 0, 3, [10, 15], [0, 1])).raw["a"].tolist() == [1.0, 2.0]


def test_a_file_of_a_few_bytes_takes_no_memory_to_refuse():
    """Progressions of 2^31 - 1 elements, which would be 16 GiB."""
    data = body(2**31 - 1, 6, 1, [0, 2])
    tracemalloc.start()
    with pytest.raises(FormatError):
        decode(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_the_library_writes_no_more_progressions_than_it_reads():
    half = np.zeros(MOST_PROGRESSED // 2 + 1, np.int8)
    held = Quantized({}, {}, {}, {"a": half, "b": half})
    assert decode(encode(held)) == held
    assert raw_bytes(held) == {"a": 2, "b": half.nbytes}
