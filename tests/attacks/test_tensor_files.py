"""Attacks by files of tensors: pickles in their place, headers that lie, indices that stray."""

import json
import pickle
from functools import partial

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from pyro_sws.compression.checkpoints.shrink import shrink
from pyro_sws.compression.checkpoints.source import INDEX, checkpoint
from pyro_sws.runs.inputs import load_tensors
from pyro_sws.runs.posterior_file import read_tensors


class Malicious:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def header(told, values=b"", length=None):
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + values


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS = {
    "a header of 2^60 bytes": header({"w": entry()}, bytes(8), length=1 << 60),
    "values beyond the end": header({"w": entry(offsets=(0, 80), shape=(20,))}, bytes(8)),
    "an end before its start": header({"w": entry(offsets=(8, 0))}, bytes(8)),
    "two tensors in one place": header({"w": entry(), "v": entry()}, bytes(8)),
    "10^9 elements in eight bytes": header({"w": entry(shape=(10**9,))}, bytes(8)),
    "a size whose product overflows": header({"w": entry(shape=(1 << 40, 1 << 40))}, bytes(8)),
    "a negative size": header({"w": entry(shape=(-2,))}, bytes(8)),
    "nesting without end": header(b"[" * 100_000),
    "a pickle": pickle.dumps({"w": [1.0, 2.0]}),
    "nothing": b"",
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_lies_is_refused_by_all_who_read_it(what, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(HEADERS[what])
    with pytest.raises(ValueError, match=r"net\.safetensors"):
        checkpoint(path)
    with pytest.raises(ValueError, match=r"net\.safetensors"):
        load_tensors(nn.Linear(1, 1), path)


def test_a_size_beyond_all_numbers_of_a_tensor_without_values_is_refused(tmp_path):
    """Its header is right: only torch cannot make it."""
    path = tmp_path / "net.safetensors"
    path.write_bytes(header({"w": entry(shape=(0, (1 << 63) + 5), offsets=(0, 0))}))
    for read in (partial(load_tensors, nn.Linear(1, 1)), read_tensors, partial(shrunk, tmp_path)):
        with pytest.raises(ValueError, match=r"net\.safetensors") as caught:
            read(path)
        assert "\n" not in str(caught.value)


def shrunk(folder, path):
    shrink(path, folder / "out.sws", workers=1)


def test_a_name_that_is_there_twice_cannot_smuggle_a_second_tensor(tmp_path):
    row = json.dumps(entry())
    path = tmp_path / "net.safetensors"
    path.write_bytes(header(f'{{"w": {row}, "w": {row}}}'.encode(), bytes(8)))
    try:
        names = [stored.name for stored in checkpoint(path).stored]
    except ValueError:
        return
    assert names == ["w"]


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_offered_as_a_start_is_never_unpickled(protocol, tmp_path):
    made, path = tmp_path / "made", tmp_path / "start.safetensors"
    path.write_bytes(pickle.dumps(Malicious(made), protocol))
    with pytest.raises(ValueError, match=r"start\.safetensors"):
        load_tensors(nn.Linear(1, 1), path)
    assert not made.exists()


@pytest.mark.parametrize("reader", [lambda p: load_tensors(nn.Linear(1, 1), p), checkpoint])
def test_a_torch_checkpoint_offered_as_safetensors_is_never_unpickled(reader, tmp_path):
    made, path = tmp_path / "made", tmp_path / "net.pt"
    torch.save({"weight": Malicious(made)}, path)
    with pytest.raises(ValueError, match=r"net\.pt"):
        reader(path)
    assert not made.exists()


def test_a_start_with_values_that_are_not_finite_is_refused_before_shrinking(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"w": torch.full((20, 20), float("nan"))}, path)
    with pytest.raises(ValueError, match="finite"):
        shrink(path, tmp_path / "net.sws")
    assert not (tmp_path / "net.sws").exists()


@pytest.mark.parametrize("name", ["../out.safetensors", "/etc/hostname", "..", ".", ""])
def test_an_index_reaches_no_file_outside_its_folder(name, tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (tmp_path / "out.safetensors").write_bytes(save({"w": torch.zeros(2, 2)}))
    (folder / INDEX).write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(ValueError, match="no file of its folder"):
        checkpoint(folder)
