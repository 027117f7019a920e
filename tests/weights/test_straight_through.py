"""Snapped weights: the values are quantisation's, the gradients those of the network at them."""

import pytest
import torch
from torch import nn
from torch.func import functional_call

from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.tilted_prior import TiltedPrior
from pyro_sws.weights.weight_prior import MixturePrior, snapped

GROUP = Group("all", {"0.weight": (5, 4), "0.bias": (5,), "2.weight": (2, 5)}, torch.float64)
GENERATOR = torch.Generator().manual_seed(0)
SCALES = 0.5 + torch.rand(GROUP.size, generator=GENERATOR, dtype=torch.float64)
OFFSETS = torch.randn(GROUP.size, generator=GENERATOR, dtype=torch.float64)


def mixture(means=None):
    means = torch.tensor([0.0, 0.4, -0.5], dtype=torch.float64) if means is None else means
    precisions = means.new_tensor([400.0, 100.0, 100.0])
    return Mixture(means, precisions, means.new_tensor([0.6, 0.2, 0.2]))


PRIORS = [
    lambda means=None: MixturePrior(mixture(means)),
    lambda means=None: MixturePrior(mixture(means), SCALES),
    lambda means=None: TiltedPrior(mixture(means), OFFSETS),
]


def weights():
    generator = torch.Generator().manual_seed(1)
    return 0.4 * torch.randn(GROUP.size, generator=generator, dtype=torch.float64)


def cost(flat):
    net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2, bias=False)).double()
    inputs = torch.linspace(-1, 1, 24, dtype=torch.float64).view(6, 4)
    return functional_call(net, GROUP.split(flat), (inputs,)).square().sum()


@pytest.mark.parametrize("prior", PRIORS)
def test_the_values_are_the_assigned_ones(prior):
    found, indices = snapped(prior(), GROUP, weights()), prior().assign(weights())
    for part in GROUP.slices.values():
        scale = prior().scale(part)
        expected = prior().codebook(part)[indices[part]] * (1 if scale is None else scale)
        torch.testing.assert_close(found[part], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_weights_gradient_is_the_costs_at_the_snapped_network(prior):
    flat = weights().requires_grad_()
    cost(snapped(prior(), GROUP, flat)).backward()
    at = snapped(prior(), GROUP, weights()).detach().requires_grad_()
    cost(at).backward()
    torch.testing.assert_close(flat.grad, at.grad)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_means_gradient_is_right_by_finite_differences(prior):
    def of(means):
        return cost(snapped(prior(means), GROUP, weights()))

    means = mixture().means.clone().requires_grad_()
    of(means).backward()
    for j, step in enumerate(1e-6 * torch.eye(3, dtype=torch.float64)):
        with torch.no_grad():
            slope = (of(means + step) - of(means - step)) / 2e-6
        torch.testing.assert_close(means.grad[j], slope, rtol=1e-6, atol=1e-7)


def test_of_components_with_one_mean_the_first_gets_the_gradient():
    means = torch.tensor([0.3, 0.0, 0.3], requires_grad=True)
    levels = Mixture(means, torch.ones(3), torch.ones(3) / 3).levels
    assert levels.tolist() == pytest.approx([0.0, 0.3])
    levels.sum().backward()
    assert means.grad.tolist() == [1.0, 1.0, 0.0]
