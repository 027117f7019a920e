"""Networks of differences: they compute what the network does, and their weights are less."""

import copy
import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from pyro_sws.weights.around import around, base_of, fingerprint
from pyro_sws.weights.load import load, tensors_of


class Net(nn.Module):
    """A norm with counts, a tied layer, a mask of bools, an unsaved buffer."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.b = nn.Linear(6, 6, bias=False)
        self.tied = self.b
        self.register_buffer("mask", torch.tensor([True, False] * 3))
        self.register_buffer("scale", torch.tensor(0.5), persistent=False)

    def forward(self, x):
        x = self.norm(self.a(x)) * self.mask
        return self.tied(self.b(x)) * self.scale


@pytest.fixture
def nets():
    torch.manual_seed(0)
    base = Net()
    net = copy.deepcopy(base)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn_like(p))
        net(torch.randn(50, 4))  # moves the norm's statistics and count
    return net.eval(), base.eval()


def test_it_computes_what_the_network_does(nets):
    net, base = nets
    x = torch.randn(30, 4)
    own = around(net, base)
    torch.testing.assert_close(own(x), net(x))
    assert type(own).__name__ == "Net" and not own.training


def test_its_tensors_are_the_differences(nets):
    net, base = nets
    own = tensors_of(around(net, base))
    for name, tensor in tensors_of(net).items():
        if name == "mask":
            assert torch.equal(own[name], tensor)
        elif name == "scale":
            assert own[name] == 0.5
        else:
            assert torch.equal(own[name], tensor - tensors_of(base)[name])


def test_neither_network_is_changed(nets):
    before = [tensors_of(n) for n in nets]
    own = around(*nets)
    with torch.no_grad():
        own.a.weight.zero_()
    for tensors, n in zip(before, nets, strict=True):
        assert all(torch.equal(t, tensors_of(n)[name]) for name, t in tensors.items())


def test_with_differences_of_zero_it_is_the_base(nets):
    net, base = nets
    own = around(net, base)
    with torch.no_grad():
        for tensor in (*own.parameters(), *(b for n, b in own.named_buffers() if "norm" in n)):
            tensor.zero_()
    x = torch.randn(9, 4)
    assert torch.equal(own(x), base(x))


def test_gradients_are_those_of_the_network(nets):
    net, base = nets
    own, x = around(net, base), torch.randn(9, 4)
    for each in (own, net):
        each(x).square().sum().backward()
    torch.testing.assert_close(own.a.weight.grad, net.a.weight.grad)


def test_copies_are_networks_of_differences_too(nets):
    own = around(*nets)
    again, x = copy.deepcopy(own), torch.randn(5, 4)
    assert base_of(again) == base_of(own) == fingerprint(nets[1]) and base_of(nets[0]) == b""
    with torch.no_grad():
        again.a.weight.add_(1)
    assert not torch.equal(again(x), own(x))


def test_the_fingerprint_is_that_of_the_format():
    layer = nn.Linear(2, 1)
    seen = hashlib.blake2b(digest_size=8)
    seen.update(b"('bias', '<f4', (1,))" + layer.bias.detach().numpy().tobytes())
    seen.update(b"('weight', '<f4', (1, 2))" + layer.weight.detach().numpy().tobytes())
    assert fingerprint(layer) == seen.digest()
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.bias.add_(np.spacing(np.float32(other.bias.item())))
    assert fingerprint(other) != seen.digest()


@pytest.mark.parametrize(
    ("net", "base", "words"),
    [
        (
            nn.Linear(2, 3),
            nn.Linear(2, 4),
            r"'weight' has shape \(3, 2\) in net and \(4, 2\)",
        ),
        (nn.Linear(2, 3), nn.Linear(2, 3, bias=False), "the same tensors: bias is in one only"),
    ],
)
def test_a_base_of_another_form_is_refused(net, base, words):
    with pytest.raises(ValueError, match=words):
        around(net, base)


def test_a_base_that_is_no_module_is_refused():
    with pytest.raises(TypeError, match="base is a dict"):
        around(nn.Linear(2, 3), nn.Linear(2, 3).state_dict())


def test_a_plain_file_takes_no_base():
    import pyro_sws as sws

    net = nn.Linear(4, 2)
    x = torch.randn(40, 4)
    data = sws.compress(net, [(x, x[:, :1].gt(0).long()[:, 0])], tau=0.01, epochs=1).data
    with pytest.raises(ValueError, match="holds weights, not differences; leave base= out"):
        load(data, net, base=net)
    with pytest.raises(ValueError, match="one of differences; give a plain one"):
        load(data, around(net, nn.Linear(4, 2)))
