"""Uniform grids: what a file decodes to, and what a step is a multiple of."""

import numpy as np
import pytest
import torch
from torch import nn

import pyro_sws as sws


@pytest.fixture
def grids(script):
    return script("post_training.grids")


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)).eval()


def test_a_file_decodes_to_multiples_of_the_steps(grids):
    network = net()
    tensors = grids.coded(network)
    steps = grids.Grid("rms", 0.5).steps(tensors)
    multiples = {name: grids.rounded(v, steps[name]) for name, v in tensors.items()}
    decoded = sws.load(sws.encode(grids.quantized(network, multiples, steps)), into=network)
    for name, parameter in decoded.named_parameters():
        expected = multiples[name] * steps[name]
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=2**-11)


@pytest.mark.parametrize(
    "unit, size", [("rms", lambda w: (w**2).mean() ** 0.5), ("absmax", lambda w: abs(w).max())]
)
def test_a_step_is_in_units_of_its_tensor(grids, unit, size):
    tensors = grids.coded(net())
    steps = grids.Grid(unit, 0.25).steps(tensors)
    assert steps["2.weight"] == pytest.approx(0.25 * size(tensors["2.weight"]))


def test_many_fine_steps_keep_their_values_apart(grids):
    network = nn.Linear(300, 20, bias=False)
    multiples = {"weight": np.arange(6000).reshape(20, 300)}
    decoded = sws.decode(sws.encode(grids.quantized(network, multiples, {"weight": 1e-4})))
    np.testing.assert_allclose(decoded.tensors()["weight"], 1e-4 * multiples["weight"], rtol=1e-6)
