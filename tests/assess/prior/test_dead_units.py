"""Dead units: counted by module, channel and call, on all inputs that went by."""

import pytest
import torch
from torch import nn

from pyro_sws.assess.prior.dead_units import watch_units


def dead_share(net, *batches):
    with watch_units(net) as units, torch.no_grad():
        for inputs in batches:
            net(inputs)
    return units.dead_share


def layer(weight, bias=0.0):
    """Linear from one input: unit i is weight[i] x + bias."""
    net = nn.Linear(1, len(weight))
    with torch.no_grad():
        net.weight.copy_(torch.tensor(weight).view(-1, 1))
        net.bias.fill_(bias)
    return net


POSITIVE, NEGATIVE = torch.tensor([[1.0], [2.0]]), torch.tensor([[-1.0]])


def test_a_unit_that_is_0_on_every_input_is_dead():
    net = nn.Sequential(layer([1.0, 1.0, -1.0, 0.0]), nn.ReLU())
    assert dead_share(net, POSITIVE) == 0.5
    assert dead_share(net, NEGATIVE) == 0.75


def test_one_input_of_any_batch_brings_a_unit_to_life():
    net = nn.Sequential(layer([1.0, 1.0, -1.0, 0.0]), nn.ReLU())
    assert dead_share(net, POSITIVE, NEGATIVE) == dead_share(net, NEGATIVE, POSITIVE) == 0.25


def test_a_bias_that_is_very_negative_kills_all_units():
    net = nn.Sequential(layer([1.0, 2.0, 3.0], bias=-1e6), nn.ReLU6(), nn.Linear(3, 2))
    assert dead_share(net, POSITIVE) == 1


@pytest.mark.parametrize("other", [nn.Tanh(), nn.LeakyReLU(), nn.GELU(), nn.Identity()])
def test_what_does_not_rectify_has_no_dead_units(other):
    assert dead_share(nn.Sequential(layer([-1.0]), other), POSITIVE) is None


def test_a_module_that_is_used_twice_has_two_sets_of_units():
    relu = nn.ReLU()
    net = nn.Sequential(layer([1.0, -1.0]), relu, nn.Linear(2, 1), relu)
    with torch.no_grad():
        net[2].weight.fill_(-1.0)
        net[2].bias.zero_()
    assert dead_share(net, POSITIVE, POSITIVE) == pytest.approx(2 / 3)


def test_a_channel_is_one_unit_wherever_it_is_alive():
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        net[0].bias.zero_()
    image = torch.zeros(3, 1, 4, 5)
    assert dead_share(net, image) == 1
    image[1, 0, 2, 3] = 1.0
    assert dead_share(net, image) == 0.5


def test_a_linear_layer_over_a_sequence_has_its_units_last():
    net = nn.Sequential(layer([1.0, -1.0, 0.0]), nn.ReLU())
    assert dead_share(net, torch.ones(2, 7, 1)) == pytest.approx(2 / 3)


def test_no_hook_is_left_behind():
    net = nn.Sequential(layer([1.0]), nn.ReLU())
    with pytest.raises(RuntimeError), watch_units(net):
        net(torch.zeros(1, 5))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
