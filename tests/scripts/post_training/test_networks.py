"""How close a network stays to another, in closed form; forms that compute the same."""

import math

import pytest
import torch
from torch import nn


@pytest.fixture
def networks(script):
    return script("post_training.networks")


class Says(nn.Module):
    """The same logits for each input."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, inputs):
        return self.logits.expand(len(inputs), -1)


def test_the_divergence_is_that_of_the_two_distributions(networks):
    inputs = torch.zeros(300, 1)
    judge = networks.Judge(Says(math.log(0.8), math.log(0.2)), inputs, lambda x: x.log_softmax(-1))
    found = judge.of(Says(0.0, 0.1))
    p, q = (0.8, 0.2), torch.tensor([0.0, 0.1]).softmax(0).tolist()
    assert found.kl_nats == pytest.approx(
        sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), rel=1e-5
    )
    assert found.disagreement_percent == 100
    assert judge.of(Says(1.0, 0.0)).disagreement_percent == 0


def test_all_forms_compute_the_same(networks):
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-1, 1), norm.running_var.uniform_(0.5, 2)
    nn.init.uniform_(norm.weight, 0.5, 2)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), norm, nn.ReLU()).eval()
    case = networks.Case(net, torch.zeros(0), None, None)
    assert list(case.forms) == [networks.GIVEN, networks.AFFINE, networks.FUSED]
    inputs = torch.randn(5, 2, 8, 8)
    for form in case.forms.values():
        torch.testing.assert_close(form(inputs), net(inputs), rtol=1e-4, atol=1e-5)


def test_a_network_without_norms_has_one_form(networks):
    net = nn.Sequential(nn.Linear(3, 2))
    assert dict(networks.Case(net, torch.zeros(0), None, None).forms) == {networks.GIVEN: net}
