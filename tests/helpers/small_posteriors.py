"""A posterior of 60 weights in two tensors, of which the mixture is known."""

import torch

from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior

DOUBLE = {"dtype": torch.float64}
GROUP = Group("all", {"a": (4, 10), "b": (20,)}, torch.float64)
# Two components at 0, and means that float16 holds exactly.
MEANS, DEVIATIONS, SHARES = [0.0, 0.5, 0.0, -0.25], [0.05, 0.1, 0.2, 0.1], [0.6, 0.2, 0.1, 0.1]


def mixture(means=MEANS, deviations=DEVIATIONS, shares=SHARES):
    means, deviations, shares = (torch.tensor(x, **DOUBLE) for x in (means, deviations, shares))
    return Mixture(means, deviations**-2, shares)


def weights(size=60):
    return 0.3 * torch.randn(size, generator=torch.Generator().manual_seed(0), **DOUBLE)


def posterior(prior, flat=None, group=GROUP):
    flat = weights(group.size) if flat is None else flat
    return Posterior({"all": group}, {"all.weights": flat}, {"all": prior}, {}, 1.0)
