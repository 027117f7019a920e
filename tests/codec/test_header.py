"""The header: every byte by hand, names and shapes left out, and what may not be claimed."""

import numpy as np
import pytest
from coded_networks import everything, sparse, two_layers
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.codec.container import FormatError, decode, encode, has_fingerprint, inspect
from pyro_sws.codec.header import fingerprint, header_bytes, read_header, write_header
from pyro_sws.codec.symbols import Quantized
from pyro_sws.codec.wire import Reader, Writer

LENET_300_100 = {
    "0.weight": (300, 784),
    "0.bias": (300,),
    "2.weight": (100, 300),
    "2.bias": (100,),
    "4.weight": (10, 100),
    "4.bias": (10,),
}


def network(shapes, book="all", raw=None):
    symbols = {n: sparse(int(np.prod(s)), 20, 3).reshape(s) for n, s in shapes.items()}
    values = np.array([0, -1, 0.5], dtype=np.float16)
    return Quantized(symbols, {book: values}, dict.fromkeys(shapes, book), raw or {})


def header(quantized, architecture=None):
    out = Writer()
    write_header(out, quantized, architecture)
    return bytes(out.data)


def shapes_of(quantized):
    return {n: a.shape for n, a in {**quantized.symbols, **quantized.raw}.items()}


# The bytes


def test_nothing_takes_three_bytes():
    assert header(Quantized({}, {}, {})) == bytes([0, 0, 0])  # flags, tensors, codebooks


def test_a_weight_and_its_bias_by_hand():
    weight = bytes([0x12, 1]) + b"0" + bytes([2, 3])  # .weight, two dimensions
    bias = bytes([0xAF])  # .bias of the same stem, as long as the units
    book = bytes([8, 3])  # float16, "all"; three values
    held = network({"0.weight": (2, 3), "0.bias": (2,)})
    assert header(held) == bytes([0, 2]) + weight + bias + bytes([1]) + book


def test_names_without_a_usual_ending_and_other_vectors_by_hand():
    odd = bytes([0x01, 3]) + b"odd" + bytes([7])  # no units before: its length is there
    again = bytes([0x90]) + b""  # ".weight" of the same stem, a scalar
    book = bytes([0]) + b"\x01c" + bytes([3])  # float16, with a name of its own
    held = network({"odd": (7,), "odd.weight": ()}, book="c")
    assert header(held) == bytes([0, 2]) + odd + again + bytes([1]) + book


def test_a_codebook_for_each_tensor_is_named_after_it():
    books = {"a.weight": np.zeros(1, np.float32), "a.bias": np.array([1.0, 2.0])}
    symbols = {"a.weight": np.zeros((2, 1), np.uint8), "a.bias": np.zeros(2, np.uint8)}
    held = Quantized(symbols, books, {name: name for name in books})
    tensors = bytes([0, 2, 0x12, 1]) + b"a" + bytes([2, 1, 0xAF])
    assert header(held) == tensors + bytes([2, 4 + 1, 1, 4 + 2, 2])


def test_scales_and_raw_tensors_by_hand():
    raw = {"0.num_batches_tracked": np.array(3, np.int8)}
    held = network({"0.weight": (2, 3)}, raw=raw)
    scale = np.full((2, 1), 0.5, np.float16)
    held = Quantized(held.symbols, held.codebooks, held.codebook_of, raw, {"0.weight": scale})
    tensors = bytes([2 + 4, 1, 1, 0x12, 1]) + b"0" + bytes([2, 3, 0xD0])
    books = bytes([1, 8, 3])
    scales = bytes([1 + 4 * 2, 2, 1, 0, 0x38, 0, 0x38])
    assert header(held) == tensors + books + scales + bytes([3, 3])


def test_a_fingerprint_takes_the_place_of_names_and_shapes():
    held = network(LENET_300_100)
    mark = fingerprint(LENET_300_100)
    assert len(mark) == 4
    assert header(held, LENET_300_100) == bytes([1]) + mark + bytes([1, 8, 3])


def test_a_choice_from_the_architecture_by_hand():
    held = network({"b": (2,)}, raw={"a": np.zeros(1, np.bool_)})
    architecture = {"a": (1,), "other": (9, 9), "b": (2,)}
    places = bytes([1 + 4 + 16]) + fingerprint(architecture) + bytes([1, 1, 2, 0])
    assert header(held, architecture) == places + bytes([1, 8, 3, 11, 0])


# Its size


def test_the_header_of_lenet_300_100_takes_32_bytes_and_14_with_a_fingerprint():
    """Magic and version, names and shapes, the codebook's kind, and the payload's length."""
    held = network(LENET_300_100)
    assert inspect(encode(held)).bits["header"] == 8 * 32
    data = encode(held, architecture=LENET_300_100)
    assert inspect(data, architecture=LENET_300_100).bits["header"] == 8 * 14


def test_a_vector_as_long_as_the_units_before_is_one_byte():
    with_bias = network({"0.weight": (300, 7), "0.bias": (300,)})
    assert len(header(with_bias)) == len(header(network({"0.weight": (300, 7)}))) + 1


# Fingerprints


def test_a_fingerprint_heeds_names_shapes_and_order():
    marks = {
        fingerprint(a)
        for a in (
            {"a": (2, 3), "b": (4,)},
            {"b": (4,), "a": (2, 3)},
            {"a": (3, 2), "b": (4,)},
            {"a": (2, 3), "c": (4,)},
            {"a": (2,), "b": (3, 4)},
            {"a": (2, 3)},
            {},
        )
    }
    assert len(marks) == 7


def test_another_architecture_is_refused_with_both_fingerprints():
    other = {**LENET_300_100, "6.bias": (1,)}
    data = encode(network(LENET_300_100), architecture=LENET_300_100)
    own, theirs = (fingerprint(a).hex() for a in (LENET_300_100, other))
    for reading in (decode, inspect):
        with pytest.raises(ValueError, match=f"has the fingerprint {own}.* has {theirs}$"):
            reading(data, architecture=other)
        with pytest.raises(ValueError, match="give the architecture of the network") as caught:
            reading(data)
        assert not isinstance(caught.value, FormatError)


def test_a_file_with_names_does_not_mind_an_architecture():
    assert decode(encode(two_layers()), architecture=LENET_300_100) == two_layers()


def test_a_network_that_the_architecture_does_not_have_is_refused():
    held = network({"0.weight": (2, 3)})
    with pytest.raises(ValueError, match=r"'0.weight' has shape \(2, 3\); .* has \(3, 2\)"):
        encode(held, architecture={"0.weight": (3, 2)})
    with pytest.raises(ValueError, match="the architecture has no such tensor"):
        encode(held, architecture={})


def test_shapes_of_an_architecture_may_be_lists_or_sizes():
    held = network(LENET_300_100)
    lists = {name: list(shape) for name, shape in LENET_300_100.items()}
    assert encode(held, architecture=lists) == encode(held, architecture=LENET_300_100)


def test_many_tensors_of_an_architecture_may_take_no_bytes_of_their_own():
    """200 tensors of one level each, and a raw one for which the counts are written."""
    shapes = {f"t{i}": (2,) for i in range(200)}
    symbols = {name: np.zeros(2, np.uint8) for name in shapes}
    raw = {"r": np.array([1], np.int8)}
    held = Quantized(symbols, {"c": np.array([0.5])}, dict.fromkeys(symbols, "c"), raw)
    data = encode(held, architecture=shapes_of(held))
    assert len(data) < 40
    assert decode(data, architecture=shapes_of(held)) == held


# What cannot be written


def test_what_the_format_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="'w' has 9 dimensions; a file holds up to 8"):
        encode(Quantized({}, {}, {}, {"w": np.zeros((1,) * 9)}))
    with pytest.raises(ValueError, match="a file holds up to 2147483647 elements"):
        encode(Quantized({}, {}, {}, {"w": np.zeros((0, 2**31))}))
    with pytest.raises(ValueError, match=r"the name '\\udc80' has no UTF-8 form"):
        encode(Quantized({}, {}, {}, {"\udc80": np.zeros(1)}))


def test_more_codebook_values_than_a_file_holds_are_refused():
    books = {str(i): np.arange(1 << 16, dtype=np.float32) for i in range(17)}
    with pytest.raises(ValueError, match="1114112 codebook values; a file holds up to 1048576"):
        encode(Quantized({}, books, {}))


@pytest.mark.parametrize("held", [two_layers(), everything()], ids=["two layers", "everything"])
def test_files_with_and_without_a_fingerprint_differ_in_their_header_alone(held):
    shapes = shapes_of(held)
    own, short = len(encode(held)), len(encode(held, architecture=shapes))
    assert own - short == header_bytes(held, None) - header_bytes(held, shapes) > 0


# What cannot be read


@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_a_header_or_refused(data, with_architecture):
    architecture = LENET_300_100 if with_architecture else None
    data = fingerprinted(data) if with_architecture else data
    try:
        found, _ = read_header(Reader(data), architecture)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert set(found.codebook_of) == set(found.shapes)


def fingerprinted(data):
    return bytes([data[0] % 32 | 1 if data else 1]) + fingerprint(LENET_300_100) + data[1:]


def test_the_header_reads_what_it_wrote():
    held = everything()
    found, sizes = read_header(Reader(header(held)), None)
    assert found.shapes == {n: s.shape for n, s in held.symbols.items()}
    assert found.books == {n: (v.dtype, len(v)) for n, v in held.codebooks.items()}
    assert found.codebook_of == dict(held.codebook_of)
    # A count of 1234 takes two bytes, not eight; and NaN, -0, infinity and 1.5 as float16s are 63,
    # 64, 62 and 31 times 2^9, which takes six. Other integers are near their dtype's largest.
    assert sizes["raw"] == sum(a.nbytes for a in held.raw.values()) - 6 - 2
    assert sizes["scales"] == (1 + 4 + 4 * 4) + (1 + 2) + (1 + 1 + 2 * 8) + 4


def test_an_architecture_does_not_make_more_dimensions_possible():
    deep = Quantized({"w": np.zeros((1,) * 9, np.uint8)}, {"c": np.zeros(1)}, {"w": "c"})
    with pytest.raises(ValueError, match="has 9 dimensions; a file holds up to 8"):
        encode(deep, architecture={"w": (1,) * 9})


@pytest.mark.parametrize(
    ("data", "has"),
    [
        (b"SWS\x02\x01", True),
        (b"SWS\x04\x3f rest", True),
        (b"SWS\x04\x02\x01", False),  # another flag, and another byte
        (b"SWS\x01\x01", False),  # format 1 has none
        (b"SWS\x05\x01", False),  # a checkpoint's parts have names
        (b"SWT\x02\x01", False),
        (b"SWS\x02", False),
        (b"", False),
    ],
)
def test_a_fingerprint_is_a_flag_behind_the_version(data, has):
    assert has_fingerprint(data) is has
