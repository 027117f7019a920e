"""Quantized: what it accepts, what it refuses, and the values it stands for."""

import copy
import pickle

import numpy as np
import pytest
from coded_networks import everything, two_layers

from pyro_sws.codec.symbols import Quantized

BOOK = np.array([0, 0.5, -2], dtype=np.float16)


def small(symbols=(0, 1, 2, 1), book=BOOK, raw=None, scales=None, dtype=np.uint8):
    return Quantized(
        {"w": np.array(symbols, dtype=dtype)}, {"all": book}, {"w": "all"}, raw or {}, scales or {}
    )


def test_a_weight_is_its_codebook_value_times_its_scale():
    scale = np.array([[1], [4]], dtype=np.float32)
    values = small([[0, 1], [2, 1]], scales={"w": scale}).dequantize()["w"]
    np.testing.assert_array_equal(values, [[0, 0.5], [-8, 2]])
    assert values.dtype == np.float32


def test_a_float64_codebook_gives_float64_weights():
    book = np.array([0.1, 0.2, 0.3])
    np.testing.assert_array_equal(small(book=book).dequantize()["w"], book[[0, 1, 2, 1]])


@pytest.mark.parametrize("scales", [{}, {"w": np.array(2, dtype=np.float64)}])
def test_a_scalar_stays_an_array_without_dimensions(scales):
    values = small(1, scales=scales).dequantize()["w"]
    assert isinstance(values, np.ndarray) and values.shape == () and values.dtype == np.float32


def test_nonzero_counts_values_and_not_indices():
    assert small().nonzero == 3
    assert small(book=np.array([1, 0, 2], dtype=np.float32)).nonzero == 2
    assert small().size == 4


def test_tensors_are_the_coded_ones_and_the_raw_ones():
    tensors = small(raw={"steps": np.array(7)}).tensors()
    assert list(tensors) == ["w", "steps"] and tensors["steps"] == 7


def test_symbols_take_one_byte_up_to_256_values_and_two_beyond():
    for levels, dtype in ((256, np.uint8), (257, np.uint16), (65536, np.uint16)):
        held = small([levels - 1], np.arange(levels, dtype=np.float32), dtype=np.uint64)
        assert held.symbols["w"].dtype == dtype and held.symbols["w"][0] == levels - 1


def test_it_holds_copies_that_nobody_can_write():
    mine = np.zeros((2, 3), dtype=np.uint8)
    held = Quantized({"w": mine.T}, {"all": BOOK}, {"w": "all"})
    mine[:] = 1
    assert held.nonzero == 0 and held.symbols["w"].flags.c_contiguous
    steps = np.zeros(3)
    held_raw = Quantized({}, {}, {}, {"steps": steps}).raw["steps"]
    steps[:] = 1
    assert not held_raw.any()
    with pytest.raises(ValueError):
        held.symbols["w"][0, 0] = 1
    with pytest.raises(TypeError):
        held.symbols["w"] = mine


def test_equality_is_bit_for_bit():
    assert everything() == everything()  # NaN among the raw values
    assert small() != two_layers() and small() != 3
    assert small(raw={"b": np.array(0.0)}) != small(raw={"b": np.array(-0.0)})
    assert small(raw={"b": np.zeros(1)}) != small(raw={"b": np.zeros(1, dtype=np.float32)})
    assert small(raw={"b": np.zeros((1, 2))}) != small(raw={"b": np.zeros((2, 1))})
    assert small(scales={"w": np.ones(1)}) != small()


def test_equality_heeds_the_order_of_names():
    raw = {"a": np.zeros(1), "b": np.zeros(1)}
    assert small(raw=raw) != small(raw=dict(reversed(raw.items())))


def test_the_order_of_scales_and_codebook_of_is_that_of_the_symbols():
    symbols = {"a": np.zeros(1, np.uint8), "b": np.zeros(1, np.uint8)}
    scales = {"b": np.ones(1), "a": np.ones(1)}
    forward = Quantized(symbols, {"x": BOOK}, {"a": "x", "b": "x"}, {}, scales)
    backward = Quantized(symbols, {"x": BOOK}, {"b": "x", "a": "x"}, {}, scales)
    assert forward == backward and list(forward.scales) == ["a", "b"]


def test_other_byte_orders_are_made_native():
    swapped = BOOK.astype(BOOK.dtype.newbyteorder())
    assert small(book=swapped) == small()


def test_it_can_be_copied_and_pickled_but_not_hashed():
    held = everything()
    assert copy.deepcopy(held) == held == pickle.loads(pickle.dumps(held))
    with pytest.raises(TypeError):
        hash(held)


W = {"w": np.zeros(3, dtype=np.uint8)}
ALL = {"all": BOOK}
OF = {"w": "all"}
REFUSED = {
    "its symbols have no codebook": (W, ALL, {}),
    "there is no codebook 'other'; there are: all": (W, ALL, {"w": "other"}),
    "'v': it is in codebook_of but has no symbols": (W, ALL, {**OF, "v": "all"}),
    "'v': it is in scales but has no symbols": (W, ALL, OF, {}, {"v": np.ones(1)}),
    "both in symbols and in raw": (W, ALL, OF, {"w": np.zeros(3)}),
    "must be unsigned integers, got int64": ({"w": np.zeros(3, dtype=np.int64)}, ALL, OF),
    "symbol 3 is beyond its codebook of 3": ({"w": np.array([3], dtype=np.uint8)}, ALL, OF),
    "must be a vector of .*, got int64": (W, {"all": np.arange(3)}, OF),
    r"got float64 of shape \(1, 3\)": (W, {"all": np.zeros((1, 3))}, OF),
    "holds nan": (W, {"all": np.array([0, np.nan])}, OF),
    "holds inf": (W, {"all": np.array([np.inf, 0])}, OF),
    "holds 2.0 twice": (W, {"all": np.array([2.0, 1.0, 2.0])}, OF),
    "holds -?0.0 twice": (W, {"all": np.array([0.0, -0.0])}, OF),
    "65537 values; at most 65536": (W, {"all": np.arange(65537.0)}, OF),
    "raw tensors may be .*, got complex128; keep torch.view_as_real": (
        W,
        ALL,
        OF,
        {"b": np.zeros(1, dtype=complex)},
    ),
    "raw tensors may be .*, got object": (W, ALL, OF, {"b": np.array([None])}),
    r"shape \(2,\) does not broadcast to \(3,\)": (W, ALL, OF, {}, {"w": np.ones(2)}),
    r"shape \(4,\) does not broadcast": (W, ALL, OF, {}, {"w": np.ones(4)}),
    r"shape \(1, 3\) does not broadcast": (W, ALL, OF, {}, {"w": np.ones((1, 3))}),
    "not positive": (W, ALL, OF, {}, {"w": np.array([1.0, 0.0, 1.0])}),
    "not positive and finite": (W, ALL, OF, {}, {"w": np.array(np.inf)}),
    "scales must be .*, got int64": (W, ALL, OF, {}, {"w": np.array(2)}),
    "overflows float32": (W, ALL, OF, {}, {"w": np.array(1e39)}),
    "a scale of 3e.38 overflows": (W, ALL, OF, {}, {"w": np.array(3e38)}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_parts_that_do_not_fit_together_are_refused(message):
    with pytest.raises(ValueError, match=message) as caught:
        Quantized(*REFUSED[message])
    assert "\n" not in str(caught.value)
