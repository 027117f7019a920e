"""Biases make up for what the errors of weights add to outputs, in the mean."""

import torch
import torch.nn.functional as F
from torch import nn

from pyro_sws.compression.post_training.codebook import Codebook
from pyro_sws.compression.post_training.sweep import _corrected
from pyro_sws.compression.post_training.tensor import Chosen
from pyro_sws.weights.curvature import Block, Layout


def test_outputs_have_the_mean_that_they_had():
    torch.manual_seed(0)
    layer, inputs = nn.Linear(5, 3), torch.rand(200, 5)
    weight, bias = layer.weight.detach(), layer.bias.detach()
    layout, moments = Layout.plain((3, 5)), (inputs.T @ inputs / 200)[None]
    source = Block(weight, moments, torch.ones(1, 3), layout, inputs.mean(0)[None], "bias")
    own = Block(bias, torch.ones(1, 3), torch.ones(1, 1), Layout.plain((3,)))
    chosen = Chosen((weight / 0.4).round()[None], Codebook(0.4), 0.0, 0.0)
    corrected = _corrected(own, source, chosen).at
    with torch.no_grad():
        before, after = layer(inputs).mean(0), F.linear(inputs, chosen.values[0], corrected).mean(0)
    assert (F.linear(inputs, chosen.values[0], bias).mean(0) - before).abs().max() > 0.02
    assert torch.allclose(after, before, atol=1e-5)
