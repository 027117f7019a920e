"""Snapped weights for the forward pass, with gradients that go past the rounding. Torch only."""

import torch
from torch import Tensor

from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import WeightPrior


def snapped(prior: WeightPrior, group: Group, flat: Tensor) -> Tensor:
    """The values to which a group's weights snap; (N,) -> (N,).

    In the weights the gradient is the identity's (Bengio et al. 2013, sec. 2), wherever they are: a
    weight that is held at 0 feels what it would be good for. In the means it is exact.
    """
    flat = flat.reshape(group.size)
    with torch.no_grad():
        assign = getattr(prior, "assign_by_table", prior.assign)
        index = assign(flat)
    values = torch.cat([_values(prior, part, index[part]) for part in group.slices.values()])
    return values + (flat - flat.detach())


def _values(prior: WeightPrior, part: slice, index: Tensor) -> Tensor:
    values = prior.codebook(part).index_select(0, index)
    scale = prior.scale(part)
    return values if scale is None else values * scale
