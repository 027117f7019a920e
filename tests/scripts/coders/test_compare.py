"""The comparison of coders on networks made up here: no data, no nncodec."""

import json
import sys

import numpy as np
import pytest
import torch

from pyro_sws.codec.coders import CODERS, Plane
from pyro_sws.codec.container import decode, encode, inspect
from pyro_sws.codec.symbols import Quantized
from pyro_sws.weights.load import fill

BOOK = np.array([-0.5, 0, 0.25, 1], dtype=np.float16)


def sparse(shape, seed, share=0.05):
    rng = np.random.default_rng(seed)
    others = rng.choice([0, 2, 3], shape)
    return np.where(rng.random(shape) < share, others, 1).astype(np.uint8)


def small():
    shapes = {"a.weight": (6, 20), "a.bias": (6,), "b.weight": (4, 6), "b.bias": (4,)}
    symbols = {name: sparse(shape, i, 0.3) for i, (name, shape) in enumerate(shapes.items())}
    return Quantized(symbols, {"all": BOOK}, dict.fromkeys(symbols, "all"))


@pytest.mark.integration
@pytest.mark.slow
def test_every_coder_gets_a_row_and_the_file_a_network_of_its_own(script, monkeypatch, tmp_path):
    (tmp_path / "small.sws").write_bytes(encode(small()))
    coders = [*CODERS, "csr_huffman_2017", "xz", "zlib"]
    command = f"compare.py --networks --file own={tmp_path}/small.sws --out {tmp_path}"
    monkeypatch.setattr(sys, "argv", [*command.split(), "--coders", *coders])
    script("coders.compare").main()
    found = json.loads((tmp_path / "coders.json").read_text())
    row = found.pop("own")
    assert list(found) == ["_about"] and str(tmp_path) not in found["_about"]["command"]
    assert row["weights"] == small().size and row["nonzero"] == small().nonzero
    for coder in coders:
        assert row[coder]["of"] == "as_they_are"  # no network is known to rewrite
        assert 0 < row[coder]["payload_bytes"] < row[coder]["bytes"]
        assert min(row[coder]["encode_seconds"], row[coder]["decode_seconds"]) > 0
    assert row["order0"]["bytes"] == len(encode(small(), coder="order0"))


def test_what_surrounds_the_symbols_grows_with_the_codebook_alone(script):
    module = script("coders.compare")
    data = encode(small(), coder="order0")
    around = module.bytes_without_symbols(small())
    assert around == len(data) - inspect(data).bits["symbols"] // 8
    zeros = {name: np.ones_like(symbols) for name, symbols in small().symbols.items()}
    fewer = Quantized(zeros, small().codebooks, small().codebook_of)
    assert module.bytes_without_symbols(fewer) == around


def test_the_entropy_is_that_of_each_tensor(script):
    symbols = {"half": np.array([0, 1] * 8, dtype=np.uint8), "one": np.zeros(9, dtype=np.uint8)}
    quantized = Quantized(symbols, {"all": BOOK}, dict.fromkeys(symbols, "all"))
    assert script("coders.compare").order0_entropy_bytes(quantized) == 2


def test_coders_outside_the_format_see_ranks_of_values(script):
    symbols = np.array([0, 1, 2, 3], dtype=np.uint8)
    quantized = Quantized({"w": symbols}, {"all": BOOK[[1, 3, 0, 2]]}, {"w": "all"})
    indices = script("coders.compare").in_order_of_values(quantized)
    assert indices.tensors[0].tolist() == [1, 3, 0, 2]
    assert indices.planes == [Plane((4,), 4, 1)]


def test_zeros_stay_zeros_whatever_the_clusters_are(script):
    rng = np.random.default_rng(0)
    values = np.where(rng.random((40, 30)) < 0.2, rng.normal(size=(40, 30)), 0)
    symbols, book = script("coders.networks").cluster(values.astype(np.float32), 8)
    np.testing.assert_array_equal(book[symbols] == 0, values == 0)
    assert book.dtype == np.float16 and len(book) == 9 and (np.diff(book) > 0).all()
    nonzero = values != 0
    centres = book[book != 0]  # oracle: each value has the nearest of the other clusters' means
    nearest = np.abs(values[nonzero, None] - centres).argmin(-1)
    np.testing.assert_array_equal(book[symbols][nonzero], centres[nearest])


@pytest.mark.parametrize("values", [np.zeros(5), np.array([0.0, 2.0, 2.0]), np.array([1.0, -1.0])])
def test_fewer_values_than_clusters_are_kept_exactly(script, values):
    symbols, book = script("coders.networks").cluster(values, 8)
    np.testing.assert_array_equal(book[symbols], values)


@pytest.mark.parametrize("structure", ["lenet_300_100", "lenet_5_caffe"])
def test_a_known_network_takes_the_names_of_its_structure(script, structure):
    module = script("coders.networks")
    net = getattr(module, structure)()
    shapes = [tuple(values.shape) for values in net.state_dict().values()]
    symbols = {f"t{i}": sparse(shape, i) for i, shape in enumerate(shapes)}
    quantized = Quantized(symbols, {"all": BOOK}, dict.fromkeys(symbols, "all"))
    given = module.fitted(quantized)
    with torch.no_grad():
        fill(net, given.quantized.tensors())
    assert given.structure is getattr(module, structure)
    np.testing.assert_array_equal(net[-1].bias.detach(), BOOK[symbols[f"t{len(shapes) - 1}"]])
    assert decode(encode(given.quantized)) == given.quantized


SHAPES = [(), (5,), (1, 4), (3, 4), (4, 3, 2), (2, 3, 2, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_nncodec_is_given_leads_back(script, shape):
    worker = script("coders.nncodec_worker")
    values = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    for code in range(len(worker.LAYOUTS)):
        laid = worker.laid_out(values, code)
        assert laid.ndim >= 1
        np.testing.assert_array_equal(worker.restored(laid, shape, code), values)


class Plain:
    """In nncodec's place: units of two bytes for the size, then name and values, unpacked."""

    def compress(self, tensors, **settings):
        ((name, values),) = tensors.items()
        data = name.encode() + values.ravel().astype(np.uint8).tobytes()
        units = [b"", b"", b"", data]
        return bytearray(b"".join((len(u) + 2).to_bytes(2, "big") + u for u in units))

    def decompress(self, stream):
        found, at = {}, 6
        while at < len(stream):
            size = int.from_bytes(stream[at : at + 2], "big")
            unit = bytes(stream[at + 2 : at + size])
            found[unit[:1].decode()] = np.frombuffer(unit[1:], dtype=np.uint8).astype(np.int32)
            at += size
        return found


@pytest.mark.parametrize("shapes", [SHAPES, SHAPES[2:], [(0, 3), (4,), ()], [(0,)], []], ids=str)
def test_tensors_of_one_stream_come_back_under_every_plan(script, monkeypatch, shapes):
    worker = script("coders.nncodec_worker")
    monkeypatch.setattr(worker, "codec", Plain)
    tensors = [np.arange(int(np.prod(s)), dtype=np.int32).reshape(s) for s in shapes]
    for plan in [*worker.plans(tensors), *worker.plain(tensors)]:
        found = worker.decode(worker.encode(tensors, plan), shapes)
        assert len(found) == len(tensors)
        for values, expected in zip(found, tensors, strict=True):
            np.testing.assert_array_equal(values, expected)


def test_a_folder_that_is_no_environment_is_left_alone(script, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="no Python environment"):
        script("coders.nncodec").prepared(tmp_path)
    assert (tmp_path / "mine.txt").exists()
