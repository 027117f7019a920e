"""A group's flat vector and its tensors are two views of the same weights."""

import torch

from pyro_sws.weights.group import Group

GROUP = Group("all", {"a": (2, 3), "b": (), "c": (4,)})


def test_splitting_undoes_flattening():
    tensors = {"a": torch.randn(2, 3), "b": torch.randn(()), "c": torch.randn(4)}
    split = GROUP.split(GROUP.flatten(tensors))
    assert list(split) == ["a", "b", "c"]
    assert all(torch.equal(split[name], tensors[name]) for name in tensors)


def test_slices_cover_the_vector_without_overlap():
    covered = torch.cat([torch.arange(GROUP.size)[part] for part in GROUP.slices.values()])
    assert torch.equal(covered, torch.arange(GROUP.size))


def test_a_plate_dimension_in_front_is_dropped():
    flat = torch.arange(float(GROUP.size))
    assert torch.equal(GROUP.split(flat.unsqueeze(0))["c"], GROUP.split(flat)["c"])
