"""Units of which a rectifier leaves nothing: they are idle, though they have weights."""

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from sparse_networks import (
    KINDS,
    arbitrary,
    filled,
    given,
    largest_difference,
    layers,
    network,
    nonzero,
    sparse,
    weights,
)
from torch import nn

from pyro_sws.rewriting.rewrite import rewrite

SEEDS = st.integers(0, 2**32 - 1)
NEGATIVE = {  # unit 1 of the first layer, and unit 0 of the second, can only be negative
    "0.weight": [[1.0, -1.0], [-2.0, -1.0]],
    "0.bias": [0.5, -0.5],
    "2.weight": [[-1.0, -2.0], [1.0, 3.0]],
    "2.bias": [0.0, -1.0],
    "4.weight": [[1.0, 2.0]],
    "4.bias": [1.0],
}


def test_what_a_rectifier_always_makes_zero_is_dropped():
    q = given(NEGATIVE)
    r = rewrite(layers(2, 2, 2, 1), q, length=nonzero)
    assert weights(r.quantized) == weights(q) | {
        "2.weight": [[0.0, 0.0], [1.0, 3.0]],
        "4.weight": [[0.0, 2.0]],
    }
    assert r.dropped == 1


def test_inputs_that_are_never_negative_make_more_units_zero():
    q, net = given(NEGATIVE), layers(2, 2, 2, 1)
    r = rewrite(net, q, length=nonzero, nonnegative_inputs=True)
    assert weights(r.quantized)["0.weight"] == [[1.0, -1.0], [0.0, 0.0]]
    assert r.dropped == 2
    inputs = torch.rand(50, 2).double()
    assert largest_difference(filled(net, q), r.network, inputs) == 0


def test_a_smooth_activation_of_a_negative_sum_is_not_zero():
    q = given(NEGATIVE)
    net = layers(2, 2, 2, 1, act=nn.Softplus)
    r = rewrite(net, q, length=nonzero, nonnegative_inputs=True)
    assert weights(r.quantized) == weights(q)


@settings(max_examples=20)
@drawn(seed=SEEDS, salt=SEEDS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.slow
def test_the_function_stays_on_inputs_that_are_never_negative(kind, seed, salt):
    net, inputs = network(kind)
    q = sparse(net, seed, density=0.1)
    r = rewrite(net, q, length=arbitrary(salt), nonnegative_inputs=True)
    assert largest_difference(filled(net, q), r.network, inputs.abs()) < 1e-11
