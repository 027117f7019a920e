"""The .sws file: exact round trips, where its bits go, and what ``decode`` allows."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from checksums import with_checksum
from coded_networks import architectures, everything, lenet_like, networks, two_layers
from hypothesis import given, settings
from hypothesis import strategies as st

from pyro_sws.codec.coders import CODERS
from pyro_sws.codec.container import Layout, decode, encode, inspect
from pyro_sws.codec.header import raw_codings
from pyro_sws.codec.symbols import RAW_DTYPES, Quantized

NOTHING = Quantized({}, {}, {})


# What goes in comes out


@settings(max_examples=25)
@given(networks(), st.sampled_from(list(CODERS)))
def test_a_file_gives_back_exactly_what_was_encoded(quantized, coder):
    data = encode(quantized, coder=coder)
    assert decode(data) == quantized
    assert encode(decode(data), coder=coder) == data


@settings(max_examples=25)
@given(st.data())
def test_a_file_with_a_fingerprint_gives_back_the_same(data):
    quantized = data.draw(networks())
    architecture = data.draw(architectures(quantized))
    short = encode(quantized, architecture=architecture)
    assert decode(short, architecture=architecture) == quantized


@settings(max_examples=25)
@given(networks())
def test_a_layout_tells_shapes_and_accounts_for_every_bit(quantized):
    data = encode(quantized)
    layout = inspect(data)
    assert sum(layout.bits.values()) == 8 * len(data) and min(layout.bits.values()) >= 0
    assert {n: t.shape for n, t in layout.tensors.items()} == {
        n: a.shape for part in (quantized.symbols, quantized.raw) for n, a in part.items()
    }
    assert layout.bits["raw"] == 8 * sum(length for _, length in raw_codings(quantized).values())


@settings(max_examples=25)
@given(networks())
def test_inspect_sees_what_decode_gives(quantized):
    data = encode(quantized)
    layout, found = inspect(data), decode(data)
    assert list(layout.codebooks) == list(found.codebooks)
    for name, values in found.codebooks.items():
        assert values.tobytes() == layout.codebooks[name].tobytes()
    for name, stored in layout.tensors.items():
        assert stored.codebook == found.codebook_of.get(name)
        scale = found.scales.get(name)
        assert stored.scale_shape == (None if scale is None else scale.shape)


@pytest.mark.parametrize("quantized", [NOTHING, two_layers(), everything(), lenet_like()])
@pytest.mark.parametrize("coder", CODERS)
def test_examples_come_back(quantized, coder):
    assert decode(encode(quantized, coder=coder)) == quantized


@pytest.mark.parametrize("dtype", RAW_DTYPES)
def test_every_raw_dtype_is_kept(dtype):
    values = np.array([[1, 0, 1]]).astype(dtype)
    found = decode(encode(Quantized({}, {}, {}, {"b": values}))).raw["b"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.slow
def test_both_implementations_write_the_same_file(monkeypatch):
    pytest.importorskip("numba")
    for quantized in (two_layers(), lenet_like()):
        files = set()
        for name in ("python", "numba"):
            monkeypatch.setenv("PYRO_SWS_CODEC", name)
            files.add(encode(quantized))
        assert len(files) == 1


@pytest.mark.integration
def test_a_file_is_written_and_read_without_numba():
    """As on a machine that does not have it: importing it fails."""
    program = (
        "import sys; sys.modules['numba'] = None; sys.path.insert(0, 'tests/helpers')\n"
        "from coded_networks import two_layers as net\n"
        "from pyro_sws.codec.container import decode, encode\n"
        "assert decode(encode(net())) == net()\n"
    )
    environment = {**os.environ, "PYRO_SWS_CODEC": "python"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)


# The bytes


def test_the_smallest_file_is_twelve_bytes():
    assert encode(NOTHING) == with_checksum(b"SWS\x02\0\0\0\0")


def test_a_file_is_what_the_documentation_says():
    """By hand: one tensor "w" of a single 1, and the codebook 0, 1 of float16.

    The codebook's cases: all 10 bits of fraction left out, of 0..10; in order, of two; no value
    below zero, of 0..2; a zero, of two; then exponent 15 of 1..30. As one number: 3824 of 3960.
    """
    book = np.array([0, 1], dtype=np.float16)
    data = encode(Quantized({"w": np.array([1], dtype=np.uint8)}, {"all": book}, {"w": "all"}))
    start = b"SWS\x02" + bytes([0, 1, 0x01, 1]) + b"w" + bytes([1, 1, 8, 2])
    length = len(data) - len(start) - 1 - 4
    assert data[: len(start) + 1] == start + bytes([length])
    payload = data[len(start) + 1 : -4]
    assert 3824 / 3960 < int.from_bytes(payload, "big") / 256**length < 3825 / 3960
    assert data == with_checksum(data[:-4])


def test_a_tensor_of_one_level_costs_its_header_alone():
    def held(n):
        tensors = {"w": np.zeros((n, 100), dtype=np.uint8)}
        return encode(Quantized(tensors, {"c": np.array([0.5])}, {"w": "c"}))

    assert len(held(1)) == len(held(100))


def test_symbols_are_coded_in_the_order_of_their_values():
    """A codebook in another order costs its values' order, not a bit for the symbols."""
    held = lenet_like()
    order = np.array([3, 0, 5, 1, 4, 2])
    symbols = {n: np.argsort(order)[s].astype(np.uint8) for n, s in held.symbols.items()}
    shuffled = Quantized(symbols, {"all": held.codebooks["all"][order]}, held.codebook_of)
    in_order, other = inspect(encode(held)).bits, inspect(encode(shuffled)).bits
    assert abs(in_order["symbols"] - other["symbols"]) <= 8
    assert in_order["codebooks"] < other["codebooks"]


def test_a_layout_says_what_is_in_the_file():
    layout = inspect(encode(everything()))
    assert isinstance(layout, Layout)
    assert (layout.version, layout.coder) == (4, "context")
    conv = layout.tensors["features.0.wêight"]
    assert (conv.shape, conv.dtype, conv.codebook) == ((4, 3, 3, 3), "float32", "conv")
    assert conv.scale_shape == (4, 1, 1, 1)
    assert layout.tensors["raw bool"].codebook is None
    assert set(layout.bits) == {"header", "codebooks", "scales", "symbols", "raw", "checksum"}
    np.testing.assert_array_equal(layout.codebooks["one"], [0.5])


def test_a_layout_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        inspect(encode(NOTHING)).version = 2


def test_an_unknown_coder_is_refused():
    with pytest.raises(ValueError, match="unknown coder 'huffman'; choose from context, order0"):
        encode(NOTHING, coder="huffman")
