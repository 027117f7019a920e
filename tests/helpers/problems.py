"""Small problems that the inference tests share: a network, data, and priors over it."""

import torch
from torch import nn

from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule

ONE_GROUP = SpikeAndSlabs(slabs=3, start_deviation=0.3)
EVERY_HYPERPRIOR = SpikeAndSlabs(
    slabs=2,
    zero_proportion=Beta(20.0, 5.0),
    spike_precision=Gamma(50.0, 0.5),
    slab_precision=Gamma(8.0, 0.3),
    slab_shares=Dirichlet(2.0),
    start_deviation=0.3,
)
TWO_GROUPS = [Rule(EVERY_HYPERPRIOR, "0.*", "first"), Rule(ONE_GROUP, "*", "rest")]


def classifier(seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A network of 67 parameters, 60 points, 3 classes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    inputs = torch.randn(60, 4, generator=generator)
    return net, inputs, (inputs[:, :3].argmax(1))
