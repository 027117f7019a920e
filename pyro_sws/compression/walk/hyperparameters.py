"""The hyperparameters given a walk's weights: on the way they were annealed and counted."""

import math
from collections.abc import Iterable

import torch

from pyro_sws.inference.fit import posterior_at
from pyro_sws.inference.guides.given_weights import GivenWeights
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import Posterior

STEPS, RATE = 200, 0.05  # of Adam, in unconstrained space
# It is there where so many steps gain no more than this: a standard deviation away is half a nat.
PATIENCE, LEAST_NATS = 20, 0.1


@torch.enable_grad()
def most_probable(model: Joint, walked: Posterior, batches: Iterable) -> Posterior:
    """The posterior at the walk's weights, with the hyperparameters most probable given those.

    A maximum in constrained space, as the delta guide's, near each prior's start.
    """
    point = {**model.start(), **walked.point}
    energy = GivenWeights(model, point, batches)
    at, least = energy.start.clone().requires_grad_(), math.inf
    best = energy.start
    optimiser = torch.optim.Adam([at], RATE)
    lowest: list[float] = []  # after each step
    for _ in range(STEPS if len(at) else 0):
        if len(lowest) > PATIENCE and lowest[-PATIENCE - 1] - least < LEAST_NATS:
            break
        optimiser.zero_grad()
        with pyro_step():
            cost = energy.potential(at) + energy.space.with_jacobian(at)[1]
        if cost.item() < least:
            best, least = at.detach().clone(), cost.item()
        lowest.append(least)
        cost.backward()
        optimiser.step()
    values = energy.space.constrained(best)
    return posterior_at(model, point | {site: v.to(point[site]) for site, v in values.items()})
