"""A network's own curvature, against products that are run and densities that are known."""

import pytest
import torch
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.curvature_of import curvature
from pyro_sws.inference.joint import joint

EXAMPLES = 20


def of(net, inputs, likelihood="gaussian", **settings):
    model = joint(net, sws.SpikeAndSlabs(slabs=3), likelihood, len(inputs))
    return curvature(model, [(part, None) for part in inputs.split(7)], **settings)


def moved_by_hand(net, name, inputs, seed=0):
    """A change of one tensor, and half the squared change of the outputs, the mean of examples."""
    generator = torch.Generator().manual_seed(seed)
    tensor = dict(net.named_parameters())[name].detach()
    changed = tensor + torch.randn(tensor.shape, generator=generator)
    with torch.no_grad():
        before = net(inputs)
        after = torch.func.functional_call(net, {name: changed}, inputs)
    return changed, (after - before).double().square().sum() / 2 / len(inputs)


PRODUCTS = {
    "linear": (nn.Linear(3, 4), (3,)),
    "linear of sequences": (nn.Linear(3, 4), (5, 3)),
    "linear of one output": (nn.Linear(3, 1), (3,)),
    "linear of one input": (nn.Linear(1, 4), (1,)),
    "without bias": (nn.Linear(3, 4, bias=False), (5, 3)),
    "conv1d": (nn.Conv1d(4, 6, 3, padding=2), (4, 9)),
    "conv2d": (nn.Conv2d(2, 3, (3, 2), stride=2, padding=(1, 0)), (2, 7, 6)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, dilation=2), (4, 7, 6)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3), (3, 5, 5)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 5, 5)),
    "same": (nn.Conv1d(2, 3, 3, padding="same", dilation=2), (2, 6)),
    "1 x 1": (nn.Conv2d(4, 3, 1), (4, 3, 3)),
    "conv3d": (nn.Conv3d(2, 3, 2, stride=(1, 2, 1)), (2, 4, 5, 3)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1), (4, 4, 3)),
    "transposed in groups": (
        nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, dilation=2, groups=2),
        (4, 5),
    ),
    "transposed and cropped": (nn.ConvTranspose1d(2, 3, 2, padding=2), (2, 7)),
}


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_change_costs_half_the_squared_change_of_the_products(product):
    net, shape = PRODUCTS[product]
    inputs = torch.randn(EXAMPLES, *shape, generator=torch.Generator().manual_seed(1))
    found = of(net, inputs, rows=False)
    changed, expected = moved_by_hand(net, "weight", inputs)
    cost = found.cost({"weight": changed}).double()
    torch.testing.assert_close(cost, expected, rtol=1e-4, atol=1e-6)
    assert found.examples == EXAMPLES
    assert found.blocks["weight"].moments.dim() == 3
