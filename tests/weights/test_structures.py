"""Tensors of a batch in any structure, handled as one tensor would be."""

from collections import UserDict, namedtuple

import pytest
import torch
from torch import nn

from pyro_sws.weights.structures import (
    Structure,
    fed,
    fed_with,
    form,
    joined,
    mapped,
    named_output,
    shape_of,
    tensors_in,
    value_of,
)

A, B = torch.arange(12.0).reshape(4, 3), torch.arange(4)
Pair = namedtuple("Pair", ["first", "second"])
VALUES = {
    "tuple": (A, B),
    "list": [A, B],
    "dict": {"a": A, "b": B},
    "named tuple": Pair(A, B),
    "nested": {"a": (A,), "more": [{"b": B}]},
    "with others": {"a": A, "b": B, "scale": 2.0, "name": "x", "none": None},
    "mapping of another kind": UserDict(a=A, b=B),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("part", [slice(1, 3), torch.tensor([0, 3]), B > 1], ids=str)
def test_a_part_is_that_of_every_tensor(value, part):
    whole = Structure(value)
    found = whole[part]
    assert len(whole) == 4 and len(found) == len(B[part])
    for own, tensor in zip(tensors_in(found), (A, B), strict=True):
        assert torch.equal(own, tensor[part])


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_parts_joined_are_the_whole(value):
    whole = Structure(value)
    again = joined([whole[:1], whole[1:]])
    assert all(map(torch.equal, tensors_in(again), tensors_in(whole)))
    assert form(again) == form(whole) == form(whole[:2])


def test_what_is_no_tensor_of_examples_is_in_every_part():
    value = {"a": A, "temperature": torch.tensor(0.5), "name": "x", "none": None}
    found = Structure(value)[2:].value
    assert found["temperature"] == 0.5 and found["name"] == "x" and found["none"] is None
    assert torch.equal(found["a"], A[2:])


def test_forms_differ_where_parts_cannot_be_joined():
    forms = [form(Structure(v)) for v in ((A, B), (A, A), [A, B], {"a": A, "b": B})]
    assert all(forms[i] != forms[j] for i in range(4) for j in range(i))
    assert form(Structure((A, 1))) != form(Structure((A, 2)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((A, B[:2]), "different lengths, ((4, 3), (2,))"),
        ({"a": torch.tensor(1.0)}, "no tensor of examples"),
        (("x", None), "no tensor of examples (B, ...), only (str, NoneType)"),
    ],
)
def test_what_has_no_one_length_is_refused(value, said):
    with pytest.raises(ValueError, match="inputs have ") as caught:
        Structure(value)
    assert said in str(caught.value)


class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(3.0))

    def forward(self, a, b=0, *, scale=1.0):
        return self.weight * (a.sum(1) + b) * scale


WANTED = 3 * (A.sum(1) + B)


@pytest.mark.parametrize(
    ("inputs", "wanted"),
    [
        (A, 3 * A.sum(1)),
        (Structure((A, B)), WANTED),
        (Structure([A, B]), WANTED),
        (Structure({"b": B, "a": A}), WANTED),
        (Structure({"b": B, "a": A, "scale": 2.0}), 2 * WANTED),
        (Structure({"x": (A, B)}, forward=lambda net, v: net(*v["x"])), WANTED),
    ],
    ids=["tensor", "tuple", "list", "keywords", "a number", "forward"],
)
def test_a_network_is_fed_as_the_structure_says(inputs, wanted):
    net = Weighted()
    assert torch.equal(fed(net, inputs), wanted)
    other = {"weight": torch.tensor(6.0)}
    assert torch.equal(fed_with(net, other, inputs), 2 * wanted)
    assert net.weight == 3 and torch.equal(fed_with(net, {}, inputs), wanted)


def test_a_gradient_reaches_tensors_that_a_forward_function_is_run_with():
    inputs = Structure((A, B), forward=lambda net, v: net(*v))
    weight = torch.tensor(2.0, requires_grad=True)
    fed_with(Weighted(), {"weight": weight}, inputs).sum().backward()
    assert weight.grad == (A.sum(1) + B).sum()


class Shared(nn.Module):
    """One layer at two places, one weight in two layers, and one layer in two lists."""

    def __init__(self):
        super().__init__()
        layer = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).eval()
        self.one, self.two, self.three = layer, layer, nn.Linear(3, 3)
        self.three.weight = layer[0].weight
        self.every = nn.ModuleList([self.three, self.two])

    def forward(self, x):
        return self.every[0](self.two(self.one(x)))


@pytest.mark.parametrize("forward", [None, lambda net, x: net(x)], ids=["itself", "function"])
def test_a_layer_at_two_places_is_exchanged_at_both_and_put_back(forward):
    """By hand: a second network that is filled with the other tensors."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, other = Shared(), Shared()
    inputs = Structure(A, forward=forward)
    given = {name: t.clone() for name, t in net.state_dict().items()}
    tensors = {**dict(other.named_parameters()), **dict(other.named_buffers())}
    before, wanted = net(A), other(A)
    assert torch.equal(fed_with(net, tensors, inputs), wanted) and not torch.equal(before, wanted)
    assert all(torch.equal(given[name], t) for name, t in net.state_dict().items())
    assert torch.equal(fed_with(net, {}, inputs), before)
    some = {name: t for name, t in tensors.items() if name.endswith("weight")}
    fed_with(net, some, inputs)
    assert torch.equal(net(A), before)


def test_logits_among_named_outputs_are_the_output():
    assert named_output({"logits": A, "hidden": B}) is A
    assert named_output(namedtuple("Named", ["hidden", "logits"])(B, A)) is A
    assert named_output({"hidden": B})["hidden"] is B and named_output((A, B)) == (A, B)


def test_mapped_reaches_all_tensors_and_leaves_the_rest():
    found = value_of(mapped(Structure({"a": A, "t": torch.tensor(1.0), "n": 7}), torch.neg))
    assert torch.equal(found["a"], -A) and found["t"] == -1 and found["n"] == 7
    assert torch.equal(mapped(A, torch.neg), -A)


def test_a_shape_is_told_in_a_line():
    assert shape_of({"a": A, "b": [B, 1.0]}) == "{'a': (4, 3), 'b': [(4,), float]}"
