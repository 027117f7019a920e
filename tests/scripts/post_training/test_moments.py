"""Second moments of a layer's inputs, by what the layer itself computes: E (w'x)^2 = w' M w."""

import pytest
import torch
from torch import nn


@pytest.fixture
def moments(script):
    return script("post_training.moments")


LAYERS = {
    "linear": (lambda: nn.Linear(7, 4, bias=False), (7,)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 5, 2, 2, bias=False), (3, 12)),
    "conv2d": (lambda: nn.Conv2d(3, 4, (3, 2), (1, 2), (1, 0), bias=False), (3, 8, 9)),
    "dilated": (lambda: nn.Conv2d(2, 4, 3, 1, 2, dilation=2, bias=False), (2, 9, 9)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_moments_give_the_power_of_the_outputs(moments, kind):
    build, shape = LAYERS[kind]
    torch.manual_seed(0)
    net = nn.Sequential(build())
    inputs = torch.randn(250, *shape)  # several parts, one of them shorter
    (moment,) = moments.moments(net, "0", inputs).values()
    rows = net[0].weight.detach().double().flatten(1)
    power = net(inputs).detach().double().square().transpose(0, 1).flatten(1).mean(1)
    torch.testing.assert_close(((rows @ moment) * rows).sum(1), power, rtol=1e-5, atol=0)


def test_a_gru_reads_its_inputs_and_the_states_before(moments):
    torch.manual_seed(0)
    gru = nn.GRU(3, 5, batch_first=True)
    inputs = torch.randn(40, 6, 3)
    found = moments.moments(nn.Sequential(gru), "0", inputs)
    cell, state, total = nn.GRUCell(3, 5), torch.zeros(40, 5), torch.zeros(5, 5)
    cell.load_state_dict({n.removesuffix("_l0"): t for n, t in gru.state_dict().items()})
    with torch.no_grad():
        for t in range(6):
            total += state.T @ state / 240
            state = cell(inputs[:, t], state)
    torch.testing.assert_close(found["0.weight_hh_l0"].float(), total)
    rows = inputs.flatten(0, 1)
    torch.testing.assert_close(found["0.weight_ih_l0"].float(), rows.T @ rows / 240)


def test_layers_are_in_the_order_in_which_they_are_computed(moments):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(3, 2), nn.Linear(4, 3)

        def forward(self, inputs):
            return self.last(self.first(inputs))

    assert moments.layers(Backwards(), torch.zeros(1, 4)) == ["first", "last"]
