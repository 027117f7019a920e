"""A checkpoint back as safetensors: dtypes as they were, and nothing of what is hostile."""

import numpy as np
import pytest
import torch
from checkpoint_files import envelope, parts, whole
from coded_networks import everything, fingerprinted, two_layers
from safetensors.torch import load_file

from pyro_sws.codec.container import FormatError, encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.checkpoints.expand import expand


def expanded(folder, data, **settings):
    (folder / "m.sws").write_bytes(data)
    expand(folder / "m.sws", folder / "back.safetensors", **settings)
    return load_file(folder / "back.safetensors")


def test_tensors_come_back_in_the_dtypes_of_the_table(tmp_path):
    back, expected = expanded(tmp_path, whole()), {}
    for quantized, dtypes in parts():
        for (name, values), dtype in zip(quantized.tensors().items(), dtypes, strict=True):
            tensor = torch.from_numpy(np.array(values))
            expected[name] = tensor if dtype is None else tensor.to(getattr(torch, dtype))
    expected |= {"head": expected["embedding"], "other norm": expected["norm"]}
    assert back.keys() == expected.keys()
    for name, tensor in expected.items():
        assert back[name].dtype == tensor.dtype, name
        assert torch.equal(back[name], tensor), name


def test_a_file_of_one_network_is_expanded_too(tmp_path):
    back = expanded(tmp_path, encode(everything()))
    for name, values in everything().tensors().items():
        assert back[name].numpy().dtype == values.dtype
        np.testing.assert_array_equal(back[name].numpy(), values)


def test_progress_is_told_in_weights(tmp_path):
    told = []
    expanded(tmp_path, whole(), callback=told.append)
    assert len(told) == 3 and told[-1].done == told[-1].total


def refused(folder, data, error, message, **settings):
    with pytest.raises(error, match=message) as caught:
        expanded(folder, data, **settings)
    assert "m.sws: " in str(caught.value)
    assert [path.name for path in folder.iterdir()] == ["m.sws"]


def test_a_value_that_a_dtype_does_not_have_is_refused(tmp_path):
    held = Quantized(
        {"w": np.zeros(2, np.uint8)}, {"w": np.array([70000.0], np.float32)}, {"w": "w"}
    )
    refused(tmp_path, envelope([(held, ["float16"])]), FormatError, "'w' has values that float16")


def test_a_damaged_file_leaves_nothing(tmp_path):
    data = bytearray(whole())
    data[-30] ^= 1
    refused(tmp_path, bytes(data), FormatError, "altered or truncated")


def test_the_limit_is_kept(tmp_path):
    refused(tmp_path, whole(), FormatError, "max_weights allows", max_weights=500)


def test_a_file_without_names_is_refused(tmp_path):
    quantized, architecture = fingerprinted()
    data = encode(quantized, architecture=architecture)
    refused(tmp_path, data, ValueError, "has a fingerprint in place of names")


def test_a_name_that_safetensors_keep_is_refused(tmp_path):
    held = Quantized({}, {}, {}, {"__metadata__": np.ones(2, np.float32)})
    refused(tmp_path, envelope([(held, [None])]), ValueError, "'__metadata__', which safetensors")


def test_a_file_of_another_kind_is_refused(tmp_path):
    refused(tmp_path, b"PK\x03\x04", FormatError, "not a .sws file")
    with pytest.raises(FileNotFoundError):
        expand(tmp_path / "none.sws", tmp_path / "back.safetensors")


def test_the_old_file_stays_where_it_fails(tmp_path):
    (tmp_path / "back.safetensors").write_bytes(b"old")
    with pytest.raises(FormatError):
        expanded(tmp_path, encode(two_layers())[:-1])
    assert (tmp_path / "back.safetensors").read_bytes() == b"old"
