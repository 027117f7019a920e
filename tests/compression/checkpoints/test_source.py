"""What is wrong with a checkpoint is said from its headers, with the names of tensor and file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_checkpoints import tensors, write_file, write_shards

from pyro_sws.compression.checkpoints.expand import expand
from pyro_sws.compression.checkpoints.shrink import shrink
from pyro_sws.compression.checkpoints.source import checkpoint, digest

INDEX = "model.safetensors.index.json"


def refused(source, tmp_path, error=ValueError):
    """The message; and neither a file nor a folder is left."""
    out = tmp_path / "out.sws"
    with pytest.raises(error) as caught:
        shrink(source, out)
    assert not list(tmp_path.glob("*out.sws*"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_shards_and_a_mapping_have_the_same_tensors(tmp_path):
    (tmp_path / "shards").mkdir()
    sources = write_file(tmp_path), write_shards(tmp_path / "shards"), tensors()
    for source in sources:
        found = checkpoint(source)
        assert {each.name for each in found.stored} == tensors().keys()
        for each in found.stored:
            expected = tensors()[each.name]
            assert (each.shape, each.dtype) == (expected.shape, str(expected.dtype)[6:])
            assert torch.equal(found.read(each), expected)


def test_a_folder_without_an_index_is_all_its_files(tmp_path):
    found = checkpoint(write_shards(tmp_path, index=False))
    assert {each.name for each in found.stored} == tensors().keys()


def test_a_digest_tells_dtype_shape_and_values():
    zeros = [torch.zeros(6), torch.zeros(6).half(), torch.zeros(2, 3), torch.zeros(12).half()]
    ones = [torch.ones(6), torch.zeros(6, dtype=torch.int32)]
    found = {digest(t, checkpoint({"w": t}).stored[0]) for t in (*zeros, *ones)}
    assert len(found) == 6
    again = torch.zeros(3, 2).t()  # equal, in another order in memory
    assert digest(again, checkpoint({"w": again}).stored[0]) in found


def test_a_missing_file_or_folder_is_named(tmp_path):
    assert "there is no" in refused(tmp_path / "nothing.safetensors", tmp_path, FileNotFoundError)
    assert "has no .safetensors files" in refused(tmp_path, tmp_path, FileNotFoundError)


@pytest.mark.parametrize("content", [b"", b"{}", b"PK\x03\x04", b"\xff" * 100])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    message = refused(tmp_path / "model.safetensors", tmp_path)
    assert "model.safetensors is no safetensors file" in message


def test_a_truncated_file_is_refused_before_any_work(tmp_path):
    path = write_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    assert "is no safetensors file that can be read" in refused(path, tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    (write_shards(tmp_path) / "model-2-of-2.safetensors").unlink()
    message = refused(tmp_path, tmp_path, FileNotFoundError)
    assert "names model-2-of-2.safetensors, which is missing" in message


@pytest.mark.parametrize(
    "index, message",
    [
        ("{", "not JSON"),
        ("[]", "has no weight_map"),
        ('{"weight_map": {"w": 3}}', "has no weight_map"),
        ('{"weight_map": {"w": "../model.safetensors"}}', "which is no file of its folder"),
        ('{"weight_map": {"w": "model-1-of-2.safetensors"}}', "has no 'w', which"),
    ],
)
def test_an_index_that_is_wrong_is_refused(tmp_path, index, message):
    (write_shards(tmp_path) / INDEX).write_text(index)
    assert message in refused(tmp_path, tmp_path)


def test_a_name_in_two_shards_is_refused(tmp_path):
    write_shards(tmp_path, index=False)
    save_file({"a.bias": torch.zeros(3)}, str(tmp_path / "z.safetensors"))
    message = refused(tmp_path, tmp_path)
    assert "tensor 'a.bias' is in" in message and "z.safetensors" in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path, value):
    given = tensors()
    given["b.weight"][3, 4] = value
    path = write_file(tmp_path, given)
    message = refused(path, tmp_path)
    assert f"tensor 'b.weight' in {path} holds {value}" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_mask_of_attention_comes_back_bit_for_bit(tmp_path, dtype):
    """It is no weight: 0 where a position is seen, and -inf where it is not."""
    mask = torch.full((6, 6), -float("inf"), dtype=dtype).triu(1)
    shrink({"mask": mask, "w": torch.randn(9, 9)}, tmp_path / "out.sws")
    expand(tmp_path / "out.sws", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    assert back["mask"].dtype == dtype
    assert back["mask"].equal(mask)


def test_infinities_of_a_vector_are_kept(tmp_path):
    vector = torch.tensor([0.0, -float("inf"), float("nan")])
    found = shrink({"mask": vector, "w": torch.ones(2, 2)}, tmp_path / "out.sws")
    assert [row.name for row in found.rows] == ["mask", "w"]


def test_eight_bit_floats_are_refused_by_their_header(tmp_path):
    given = {"w": torch.zeros(4, 4).to(torch.float8_e4m3fn)}
    message = refused(write_file(tmp_path, given), tmp_path)
    assert "tensor 'w' in" in message and "bfloat16" in message and "8" in message
    assert "dtype float8_e4m3fn" in refused(given, tmp_path)


def test_a_tensor_that_is_too_large_is_refused_unread(tmp_path):
    header = json.dumps(
        {"w": {"dtype": "F16", "shape": [1 << 11, (1 << 20)], "data_offsets": [0, 1 << 32]}}
    )
    path = tmp_path / "model.safetensors"
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + (1 << 32))  # sparse: it takes no room
    assert "has 2147483648 elements; a file holds tensors of up to 1073741824" in refused(
        path, tmp_path
    )


def test_nine_dimensions_are_refused(tmp_path):
    assert "has 9 dimensions" in refused({"w": torch.zeros([1] * 9)}, tmp_path)


def test_a_name_that_safetensors_keep_is_refused(tmp_path):
    assert "'__metadata__', which" in refused({"__metadata__": torch.zeros(2)}, tmp_path)


def test_nothing_is_refused(tmp_path):
    assert refused({}, tmp_path) == "source has no tensors"
    assert "model.safetensors has no tensors" in refused(write_file(tmp_path, {}), tmp_path)


@pytest.mark.parametrize(
    "source, message",
    [
        (3, "source must be a .safetensors file, a folder of them, or tensors by name, got int"),
        ({"w": [1.0]}, "source['w'] is of list; give tensors by their names"),
        ({3: torch.zeros(2)}, "source[3] is of Tensor"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, source, message):
    assert message in refused(source, tmp_path, TypeError)


@pytest.mark.parametrize(
    "tensor", [torch.zeros(3, 3).to_sparse(), torch.zeros(3, 3, device="meta")]
)
def test_a_tensor_without_values_of_its_own_is_refused(tmp_path, tensor):
    assert "is sparse, or has no values" in refused({"w": tensor}, tmp_path)
