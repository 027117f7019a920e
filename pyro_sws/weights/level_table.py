"""Which level each weight snaps to, looked up in a table: cheap enough for every step."""

import torch
from torch import Tensor

from pyro_sws.weights.mixture import Mixture

NODES = 4096


@torch.no_grad()
def assign_by_table(mixture: Mixture, w: Tensor) -> Tensor:
    """``mixture.assign(w)`` for many weights; (N,) -> (N,) int64.

    The level is a function of one variable, constant but for a few steps. It is computed at NODES
    evenly spaced points over the range of w and holds between two that agree; weights between two
    that do not are assigned one by one. A level whose whole reach lies between two nodes is missed.
    """
    if len(w) <= NODES:
        return mixture.assign(w)
    low, high = w.aminmax()
    step = torch.where(high > low, (high - low) / (NODES - 1), 1e-6)
    nodes = low + step * torch.arange(NODES, dtype=w.dtype, device=w.device)
    levels = mixture.assign(nodes)
    between = torch.where(levels[1:] == levels[:-1], levels[:-1], -1)
    index = between.index_select(0, ((w - low) / step).int().clamp_(0, NODES - 2))
    unsure = (index < 0).nonzero().flatten()
    index[unsure] = mixture.assign(w[unsure])
    return index
