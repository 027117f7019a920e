"""docs/format.md says all of formats 2 to 4: a reader made from it reads what is written."""

import math
import re
import zlib
from pathlib import Path

import format2_reader
import numpy as np
import pytest
from coded_networks import (
    draw_symbols,
    everything,
    folded_norms,
    networks,
    on_grids,
    two_layers,
)
from format2_reader import read
from hypothesis import given, settings

from pyro_sws.codec import container, mixing, order0
from pyro_sws.codec import tensor_layout as geometry
from pyro_sws.codec.coders import EXPECTING
from pyro_sws.codec.container import decode, encode, ordered
from pyro_sws.codec.header import fingerprint
from pyro_sws.codec.symbols import Quantized

pytestmark = pytest.mark.integration

DOCUMENT = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def blobs(shape, density, levels, seed):
    """Symbols as training leaves them: nonzeros in patches, many of a neighbour's sign, dead units.

    The zero is the middle symbol.
    """
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=(shape[0], math.prod(shape[1:])))
    for _ in range(2):
        rough = rough + np.roll(rough, 1, 1) + 0.5 * np.roll(rough, 1, 0)
    rough[::4] = 0  # dead
    away = np.abs(rough) > np.quantile(np.abs(rough), 1 - density)
    places = np.clip(np.rint(rough), -(levels // 2), (levels - 1) // 2)
    places = np.where(places == 0, -1, places)
    return (np.where(away, places, 0) + levels // 2).astype(np.uint16).reshape(shape)


def with_layers(layers, levels=9, shuffled=False):
    """Weights and biases of layers {name: (shape, density)}, one codebook for all."""
    book = (np.arange(levels) - levels // 2).astype(np.float16) * np.float16(0.0625)
    order = np.random.default_rng(0).permutation(levels) if shuffled else np.arange(levels)
    symbols = {}
    for seed, (name, (shape, density)) in enumerate(layers.items()):
        symbols[f"{name}.weight"] = blobs(shape, density, levels, seed)
        symbols[f"{name}.bias"] = blobs((shape[0], 1), 0.5, levels, 99 - seed)[:, 0]
    places = np.argsort(order)
    symbols = {name: places[s].astype(np.uint16) for name, s in symbols.items()}
    return Quantized(symbols, {"all": book[order]}, dict.fromkeys(symbols, "all"))


def convolutional():
    """As LeNet-5: kernels of 5 x 5, then a matrix fed by channels of 4 x 4; and statistics."""
    layers = {"conv1": ((6, 1, 5, 5), 0.4), "conv2": ((12, 6, 5, 5), 0.1)}
    held = with_layers(layers | {"fc1": ((20, 12 * 16), 0.05), "fc2": ((10, 20), 0.3)})
    raw = {"bn.weight": np.ones(10), "bn.bias": np.zeros(9, np.float32)}
    raw |= {"bn.running_mean": np.ones(10, np.float16), "bn.running_var": np.ones((10, 1))}
    raw["bn.num_batches_tracked"] = np.array(7)
    return Quantized(held.symbols, held.codebooks, held.codebook_of, raw)


def connected():
    """As LeNet-300-100: the first layer sees images of 28 x 28."""
    layers = {"0": ((6, 784), 0.08), "2": ((10, 6), 0.3)}
    return with_layers(layers, shuffled=True)


def coloured():
    """Three images of 6 x 6 side by side, few values, then one row without neighbours."""
    return with_layers({"a": ((40, 108), 0.3), "b": ((1, 40), 0.9)}, levels=2)


def without_zero():
    """Signs alone; and 40 values in no order."""
    book = (-1.0) ** np.arange(40) * (1 + np.arange(40))
    symbols = {"s": blobs((20, 50), 0.5, 2, 1), "v": draw_symbols((8, 4, 3, 3), 40, 2.0)}
    books = {"s": np.array([-1, 1], np.float32), "v": book}
    return Quantized(symbols, books, {"s": "s", "v": "v"})


def busy_rows():
    """More nonzeros in a column, and rows, than are told apart; and no more values than allowed."""
    symbols = {"a": blobs((100, 5), 0.9, 5, 3), "b": draw_symbols((300, 3), 1024, 1.5)}
    books = {"a": np.arange(5, dtype=np.float32) - 2, "b": np.arange(1024, dtype=np.float64) - 9}
    return Quantized(symbols, books, {"a": "a", "b": "b"})


def extremes():
    """Codebooks with the largest and smallest values and -0, in order and not; used and not."""
    books = {}
    for dtype in (np.float16, np.float32, np.float64):
        limits = np.finfo(dtype)
        values = [limits.min, -1, -limits.smallest_subnormal, -0.0, limits.tiny, 1, limits.max]
        for kind, taken in (("all", slice(None)), ("back", slice(None, None, -1))):
            books[f"{kind} {dtype.__name__}"] = np.array(values, dtype)[taken]
            books[f"{kind} {dtype.__name__} below"] = np.array(values[:3], dtype)[taken]
    symbols = {name: draw_symbols((6, 4), len(values), 1.0) for name, values in books.items()}
    books |= {"unused": np.array([3], np.float32), "zero": np.zeros(1), "none": np.zeros(0)}
    return Quantized(symbols, books, {name: name for name in symbols})


NETWORKS = [
    folded_norms,
    on_grids,
    two_layers,
    everything,
    convolutional,
    connected,
    coloured,
    without_zero,
    busy_rows,
]
EXAMPLES = {make.__name__: make for make in [*NETWORKS, extremes]}


def architecture_of(quantized):
    return {n: a.shape for n, a in {**quantized.symbols, **quantized.raw}.items()}


def assert_read_alike(quantized, data, architecture=None):
    symbols, codebooks, scales, raw = read(data, architecture)
    assert symbols == {n: s.ravel().tolist() for n, s in quantized.symbols.items()}
    for found, part in ((codebooks, "codebooks"), (scales, "scales"), (raw, "raw")):
        arrays = getattr(quantized, part)
        assert found == {n: (a.dtype.name, a.shape, a.tobytes()) for n, a in arrays.items()}
    assert decode(data, architecture=architecture) == quantized


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_read_alike(name):
    quantized = EXAMPLES[name]()
    assert_read_alike(quantized, encode(quantized))


@pytest.mark.parametrize("name", EXAMPLES)
def test_files_that_expect_are_read_alike(name, monkeypatch):
    monkeypatch.setattr(order0, "shorter", lambda counts, zero: (False, math.inf))
    quantized = EXAMPLES[name]()
    data = container._file(quantized, ordered(quantized), EXPECTING, 4, None)
    assert data[3] == 4
    assert_read_alike(quantized, data)


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("spread", [False, True])
def test_order_0_is_read_alike_with_either_prior(name, spread, monkeypatch):
    monkeypatch.setattr(order0, "shorter", lambda counts, zero: (spread, 0.0))
    quantized = EXAMPLES[name]()
    assert_read_alike(quantized, encode(quantized, "order0"))


@pytest.mark.parametrize("name", EXAMPLES)
def test_contexts_are_read_alike_where_order_0_is_shorter(name, monkeypatch):
    monkeypatch.setattr(order0, "shorter", lambda counts, zero: (False, math.inf))
    quantized = EXAMPLES[name]()
    assert_read_alike(quantized, encode(quantized))


def test_a_longest_row_is_read_alike_as_a_column(monkeypatch):
    """From 65,537 columns on; in a test, 100 are long."""
    assert geometry.LONGEST_ROW == format2_reader.LONGEST_ROW
    monkeypatch.setattr(order0, "shorter", lambda counts, zero: (False, math.inf))
    monkeypatch.setattr(geometry, "LONGEST_ROW", 100)
    monkeypatch.setattr(format2_reader, "LONGEST_ROW", 100)
    for quantized in (two_layers(), coloured()):
        assert_read_alike(quantized, encode(quantized))


@settings(max_examples=15)
@given(networks())
def test_what_the_library_writes_is_read_alike(quantized):
    assert_read_alike(quantized, encode(quantized))


@settings(max_examples=15)
@given(networks())
def test_what_the_library_writes_with_contexts_throughout_is_read_alike(quantized):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order0, "shorter", lambda counts, zero: (False, math.inf))
        data = encode(quantized)
    assert_read_alike(quantized, data)


# A fingerprint


def held_in_part(quantized, names):
    """A network with these tensors alone, the last of them raw."""
    *coded, raw = names
    symbols = {name: quantized.symbols[name] for name in coded}
    books = {name: quantized.codebook_of[name] for name in coded}
    return Quantized(symbols, quantized.codebooks, books, {raw: quantized.dequantize()[raw]})


@pytest.mark.parametrize("make", [connected, convolutional, folded_norms])
def test_a_file_with_a_fingerprint_is_read_alike(make):
    quantized = make()
    architecture = architecture_of(quantized)
    data = encode(quantized, architecture=architecture)
    assert format2_reader.fingerprint(architecture) == fingerprint(architecture)
    assert_read_alike(quantized, data, architecture)
    assert len(data) < len(encode(quantized))


@pytest.mark.parametrize("chosen", [slice(None), slice(1, None, 2), slice(None, None, -1)])
def test_some_tensors_of_an_architecture_are_read_alike(chosen):
    quantized = two_layers()
    part = held_in_part(quantized, list(quantized.symbols)[chosen])
    architecture = architecture_of(quantized)
    assert_read_alike(part, encode(part, architecture=architecture), architecture)


def test_long_names_and_shapes_have_one_fingerprint():
    architecture = {"wê" * 99: (1000, 1, 300), "": (), "b": (0,)}
    assert format2_reader.fingerprint(architecture) == fingerprint(architecture)


# The document itself


def values_by_hand():
    book = np.array([0, 1], dtype=np.float32)
    return Quantized({"w": np.array([1], dtype=np.uint8)}, {"c": book}, {"w": "c"})


def hexadecimal(section):
    """The bytes of a section's first indented block, left of the words."""
    block = re.search(r"(?:^ {4}.*\n)+", DOCUMENT[DOCUMENT.index(section) :], re.MULTILINE)
    lines = [re.split(r" {3,}", line.strip())[0] for line in block[0].splitlines()]
    return bytes.fromhex("".join(lines))


def test_the_whole_file_of_the_document_is_what_is_written():
    assert encode(values_by_hand()) == hexadecimal("## A whole file")
    assert decode(hexadecimal("in format 1:")) == values_by_hand()


def test_the_tables_are_those_of_the_document():
    squash, stretch, _, _ = mixing.tables()
    assert squash == [format2_reader.squash(x) for x in range(-3071, 3072)]
    assert stretch == [format2_reader.stretch(p) for p in range(65536)]
    for table, dtype in ((squash, "<u2"), (stretch, "<i2")):
        assert f"{zlib.crc32(np.array(table, dtype).tobytes()):08x}" in DOCUMENT


def test_no_value_of_the_tables_is_where_doubles_could_differ():
    """Doubles are within 1e-10 of these values."""
    squashed = [65536 / (1 + math.exp(-x / 256)) for x in range(-3071, 3072)]
    stretched = [256 * math.log(p / (65536 - p)) for p in range(1, 65536)]
    for values in (squashed, stretched):
        assert min(abs(value % 1 - 0.5) for value in values) > 1e-7
