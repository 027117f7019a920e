"""Bounds on how far outputs move: exact where they can be, and never beaten on many inputs."""

import copy

import pytest
import torch
from torch import nn

import pyro_sws as sws
from pyro_sws.assess.point.bounded_change import change_bound


def moved(net, share=0.05, seed=0):
    """The network with other weights near its own, as snapping gives."""
    other, generator = copy.deepcopy(net), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(share * p.std(correction=0) * torch.randn(p.shape, generator=generator))
    return other


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.pool, self.mean = nn.MaxPool2d(3, stride=2), nn.AdaptiveAvgPool2d(2)
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        x = self.norm(self.first(x)).relu()
        x = torch.relu(self.second(x)) + x
        return self.last(self.mean(self.pool(x)).flatten(1))


def networks():
    torch.manual_seed(0)
    linear = nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 4))
    deep = nn.Sequential(
        nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 4)
    )
    residual = Residual()
    with torch.no_grad():
        residual.norm.running_mean.normal_()
        residual.norm.running_var.uniform_(0.5, 2)
        residual.norm.weight.normal_()  # of both signs
    return {"linear": (linear, (6,)), "deep": (deep, (6,)), "residual": (residual, (2, 8, 8))}


NETWORKS = networks()


def around(inputs, radius, seed):
    generator = torch.Generator().manual_seed(seed)
    return inputs + radius * (2 * torch.rand(inputs.shape, generator=generator) - 1)


@torch.no_grad()
def change(net, other, inputs):
    one, two = (copy.deepcopy(each).double().eval() for each in (net, other))
    return two(inputs.double()) - one(inputs.double())


@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_inputs_themselves_it_is_the_change(name):
    net, shape = NETWORKS[name]
    inputs = torch.randn(50, *shape)
    found, exact = change_bound(net, moved(net), inputs), change(net, moved(net), inputs)
    torch.testing.assert_close(found.low, exact, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.high, exact, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.change, exact)


def test_of_one_linear_layer_the_interval_is_reached_at_corners():
    net = nn.Linear(3, 2)
    inputs, radius = torch.randn(5, 3), 0.25
    found = change_bound(net, moved(net), inputs, radius)
    corners = torch.cartesian_prod(*[torch.tensor([-radius, radius])] * 3)
    at = torch.stack([change(net, moved(net), inputs + corner) for corner in corners])
    torch.testing.assert_close(found.low, at.amin(0), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found.high, at.amax(0), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("radius", [0.01, 0.3])
def test_no_input_within_the_radius_is_beyond_it(name, radius):
    net, shape = NETWORKS[name]
    inputs = torch.randn(40, *shape)
    other = moved(net)
    found = change_bound(net, other, inputs, radius)
    for seed in range(25):
        seen = change(net, other, around(inputs.double(), radius, seed))
        assert (found.low <= seen + 1e-9).all() and (seen <= found.high + 1e-9).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("share", [0.001, 0.05, 0.5])
def test_no_change_is_longer_than_the_norm_on_ten_thousand_inputs(name, share):
    net, shape = NETWORKS[name]
    inputs = torch.randn(10_000 if len(shape) == 1 else 500, *shape)
    other = moved(net, share)
    found = change_bound(net, other, inputs)
    assert (change(net, other, inputs).norm(dim=1) <= found.norm * (1 + 1e-9)).all()


def test_of_one_linear_layer_the_norm_is_the_changes_length():
    net = nn.Linear(5, 3)
    found = change_bound(net, moved(net), torch.randn(20, 5))
    torch.testing.assert_close(found.norm, found.change.norm(dim=1))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_provably_stays_stays(name):
    net, shape = NETWORKS[name]
    inputs = torch.randn(300, *shape)
    other = moved(net, 0.01)
    found = change_bound(net, other, inputs)
    stays = found.outputs.argmax(1) == (found.outputs + found.change).argmax(1)
    assert torch.equal(found.unchanged, stays)
    assert stays[found.unchanged_by_norm].all()
    assert found.unchanged_by_norm.any() or name == "residual"


def test_a_network_against_itself_does_not_move():
    net, shape = NETWORKS["residual"]
    found = change_bound(net, net, torch.randn(5, *shape), radius=0.0)
    assert not found.low.any() and not found.high.any() and not found.norm.any()


def test_networks_and_inputs_are_left_as_they_are():
    net, shape = NETWORKS["deep"]
    before = copy.deepcopy(net.state_dict())
    inputs = torch.randn(5, *shape)
    change_bound(net, moved(net), inputs)
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert inputs.dtype == torch.float32


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.Sequential(nn.Linear(3, 2), nn.GELU()), "'1', a GELU, is not understood"),
        (nn.Sequential(nn.Linear(3, 2), nn.Softmax(1)), "'1', a Softmax, is not understood"),
        (nn.Sequential(nn.Linear(3, 2), nn.LeakyReLU(2.0)), "'1', a LeakyReLU, is not understood"),
    ],
)
def test_what_is_not_understood_is_refused(net, words):
    with pytest.raises(ValueError, match=words):
        change_bound(net, net, torch.randn(4, 3))


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="radius must be at least 0"):
        change_bound(nn.Linear(3, 2), nn.Linear(3, 2), torch.randn(4, 3), radius=-1)


def test_it_is_of_a_decoded_network():
    net, shape = NETWORKS["deep"]
    x = torch.randn(200, *shape)
    data = sws.compress(net, [(x, net(x).argmax(1))], tau=0.01, epochs=1).data
    found = sws.change_bound(net, sws.load(data, into=net), x)
    assert (found.change.norm(dim=1) <= found.norm * (1 + 1e-9)).all()
