"""Scores of batches whose examples have different numbers of targets, as of sequences."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pyro_sws as sws
from pyro_sws.inference.evaluation import evaluate_network

GENERATOR = torch.Generator().manual_seed(0)
LONG, SHORT = torch.randn(3, 7, 4, generator=GENERATOR), torch.randn(3, 2, 4, generator=GENERATOR)
FLOAT32 = torch.device("cpu"), torch.float32


def real(shape, scale):
    return scale * torch.randn(*shape[:-1], 1, generator=GENERATOR)


def counts(shape, scale):
    return torch.poisson(torch.full((*shape[:-1], 1), scale), generator=GENERATOR)


def shares(shape, scale):
    return (scale * torch.randn(*shape[:-1], 3, generator=GENERATOR)).softmax(-1)


def pairs(shape, scale):
    return real(shape, scale).squeeze(-1)


def squared(outputs, targets):
    return F.mse_loss(outputs, targets).sqrt()


def poisson(outputs, targets):
    return -torch.distributions.Poisson(outputs.exp()).log_prob(targets).mean()


def gaussian(outputs, targets):
    return F.gaussian_nll_loss(outputs[..., 0], targets, outputs[..., 1].exp(), full=True)


@pytest.mark.parametrize(
    ("likelihood", "targets", "size", "own"),
    [
        (sws.Gaussian(), real, 1, squared),
        (sws.StudentT(), real, 1, squared),
        (sws.Laplace(), real, 1, F.l1_loss),
        (sws.Poisson(), counts, 1, poisson),
        (sws.HeteroscedasticGaussian(score="nll"), pairs, 2, gaussian),
        (sws.SoftCategorical(score="nll"), shares, 3, F.cross_entropy),
    ],
    ids=lambda x: type(x).__name__ if hasattr(x, "score_name") else None,
)
def test_a_score_weighs_each_target_alike(likelihood, targets, size, own):
    """Torch's own losses of all targets at once, whatever sequences they are of."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Linear(4, size)
    batches = [(LONG, targets(LONG.shape, 4.0)), (SHORT, targets(SHORT.shape, 1.0))]
    outputs = torch.cat([net(inputs).flatten(0, 1) for inputs, _ in batches])
    wanted = own(outputs, torch.cat([wanted.flatten(0, 1) for _, wanted in batches]))
    found = evaluate_network(net, likelihood, batches, FLOAT32)
    assert found.score == pytest.approx(wanted.item(), rel=1e-5)
