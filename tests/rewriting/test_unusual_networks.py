"""Rewriting networks whose forward does more than compute one tensor."""

import numpy as np
import pytest
import torch
from sparse_networks import given, largest_difference, layers, nonzero, sparse
from torch import nn

from pyro_sws.rewriting.rewrite import rewrite


class Around(nn.Module):
    """Three layers, and what ``last`` makes of the input and the output."""

    def __init__(self, last):
        super().__init__()
        self.body, self.last = layers(6, 8, 8, 3), last

    def forward(self, x):
        return self.last(self, x, self.body(x))


def test_outputs_of_any_structure_are_compared():
    net = Around(lambda m, x, y: {"out": (y, [x]), "text": "kept"})
    found = rewrite(net, sparse(net), example=torch.ones(2, 6).double(), length=nonzero)
    assert found.dropped > 0 and 0 <= found.largest_difference < 1e-12


def test_noise_in_the_forward_is_the_same_for_both():
    net = Around(lambda m, x, y: y + torch.rand_like(y))
    found = rewrite(net, sparse(net), example=torch.ones(2, 6).double(), length=nonzero)
    assert found.dropped > 0 and found.largest_difference < 1e-12


def test_an_example_without_rows_compares_nothing():
    net = layers(6, 8, 3)
    found = rewrite(net, sparse(net), example=torch.zeros(0, 6).double(), length=nonzero)
    assert found.dropped > 0 and found.largest_difference == 0


def test_tracing_leaves_nothing_in_the_network():
    def noted(m, x, y):
        m.seen = y
        return y

    net = Around(noted)
    net.last = noted
    found = rewrite(net, sparse(net), length=nonzero)
    assert found.dropped > 0 and not hasattr(found.network, "seen")


class Cache(list):
    """State that lies in no attribute of a module."""


def test_a_network_that_remembers_its_first_input_is_compared_from_the_same_state():
    def remembered(m, x, y):
        if not m.cache:
            m.cache.append(y)
        return m.cache[0]

    net = Around(remembered)
    net.cache = Cache()
    found = rewrite(net, sparse(net), example=torch.ones(2, 6).double(), length=nonzero)
    assert found.dropped > 0 and 0 <= found.largest_difference < 1e-12
    assert found.network.cache == net.cache == []


def test_what_a_forward_writes_into_buffers_is_taken_back():
    def counted(m, x, y):
        m.seen.add_(x.sum())
        return y

    net = Around(counted)
    net.register_buffer("seen", torch.zeros((), dtype=torch.float64))
    found = rewrite(net, sparse(net), example=torch.ones(2, 6).double(), length=nonzero)
    assert found.dropped > 0 and found.largest_difference < 1e-12
    assert found.network.seen == net.seen == 0


def test_modules_that_keep_lists_of_their_own_weights_are_rewritten_around():
    """An LSTM does, and a scripted module's attributes are not Python's."""

    def recurrent(m, x, y):
        return m.lstm(y.unsqueeze(1))[0] + m.scripted(y).unsqueeze(1)

    net = Around(recurrent)
    net.lstm = nn.LSTM(3, 3, batch_first=True).double()
    with pytest.deprecated_call():
        net.scripted = torch.jit.trace(nn.Linear(3, 3).double(), torch.ones(1, 3).double())
    q = sparse(net)
    found = rewrite(net, q, example=torch.ones(2, 6).double(), length=nonzero)
    state = found.network.state_dict()
    assert all(np.array_equal(state[n].numpy(), v) for n, v in found.quantized.tensors().items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_constants_meet_thresholds_as_the_networks_own_precision_does(dtype):
    """The bias 0.50001 is 0.5 in half precision, which Hardshrink makes 0."""
    net = nn.Sequential(nn.Linear(2, 1), nn.Hardshrink(0.5), nn.Linear(1, 1)).to(dtype)
    values = {"0.weight": [[0.0, 0.0]], "0.bias": [0.50001], "2.weight": [[1.0]], "2.bias": [0.0]}
    quantized = given({name: np.array(v, np.float32) for name, v in values.items()})
    found = rewrite(net, quantized, length=nonzero)
    plain = rewrite(net, quantized, length=lambda q: 0).network  # nothing is shorter
    assert largest_difference(plain, found.network, torch.ones(1, 2, dtype=dtype)) == 0


def test_a_network_that_refuses_other_inputs_than_its_own_is_compared_on_the_example():
    def checked(m, x, y):
        if m.known is not None and not torch.equal(x, m.known):
            raise ValueError("other inputs")
        return y

    net, x = Around(checked), torch.rand(2, 6).double()
    net.known = None
    assert rewrite(net, sparse(net), example=x, length=nonzero).dropped > 0
