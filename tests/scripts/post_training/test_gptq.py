"""GPTQ beside rounding: the limit of independent inputs, and the error of dependent ones."""

import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture
def gptq(script):
    return script("post_training.gptq")


def error(weights, snapped, moment):
    difference = weights - snapped
    return np.einsum("ri,ij,rj->", difference, moment, difference)


def test_with_independent_inputs_it_is_rounding(gptq):
    weights = np.random.RandomState(0).randn(20, 30)
    moment = np.diag(np.random.RandomState(1).rand(30) + 0.1)
    found = gptq.with_feedback(weights, moment, 0.3)
    np.testing.assert_array_equal(found, np.rint(weights / 0.3))


def test_with_dependent_inputs_the_outputs_err_by_less(gptq):
    generator = np.random.RandomState(0)
    weights = generator.randn(20, 30)
    inputs = generator.randn(500, 4) @ generator.randn(4, 30) + 0.1 * generator.randn(500, 30)
    moment = inputs.T @ inputs / 500
    fed_back = error(weights, 0.5 * gptq.with_feedback(weights, moment, 0.5), moment)
    assert fed_back < 0.5 * error(weights, 0.5 * np.rint(weights / 0.5), moment)


def test_two_inputs_that_are_the_same_share_the_error(gptq):
    """Of 0.4 and 0.4 in steps of 1, rounding loses 0.8: one of the two must become 1."""
    found = gptq.with_feedback(np.array([[0.4, 0.4]]), np.ones((2, 2)), 1.0)
    assert sorted(found[0]) == [0, 1]


def test_weights_of_inputs_that_are_never_there_are_zero(gptq):
    found = gptq.with_feedback(np.full((2, 3), 5.0), np.diag([1.0, 0.0, 1.0]), 1.0)
    np.testing.assert_array_equal(found, [[5, 0, 5]] * 2)


def test_a_network_is_left_as_it_was(gptq):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    steps = dict.fromkeys(before, 0.1)
    found = gptq.multiples(net, torch.randn(50, 4), steps)
    assert {name: v.shape for name, v in found.items()} == {n: t.shape for n, t in before.items()}
    for name, tensor in net.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
