"""A mixture's slopes and assignments, looked up in a table over the weights' range. Torch only."""

import torch
from torch import Tensor

from pyro_sws.weights.density.malloc import keep_freed_memory
from pyro_sws.weights.mixture import Mixture

SLOPE_NODES = 2048  # exact slopes; over a range of 1.4 that is 7 a deviation of 0.005
ASSIGNED_NODES = 4096  # exact assignments; a component's reach is seldom narrower than their gap
FINER = 32  # entries between two nodes, on the straight line


@torch.no_grad()
def approximate_slopes(mixture: Mixture, w: Tensor) -> Tensor:
    """About d log p(w) / dw, weight by weight; w (N,) -> (N,), without a gradient of its own.

    log p is a function of one variable: its slope is computed at SLOPE_NODES evenly spaced points
    over the range of w, and read off for the nearest of FINER entries between them. What that
    misses grows as components get narrower than the nodes are apart; use it where only noise
    depends on it.
    """
    if len(w) == 0:
        return torch.empty_like(w)
    keep_freed_memory(w)
    nodes, entries = _nodes_and_entries(w)
    return _read(_slopes(mixture, nodes), entries)


@torch.no_grad()
def tilted_slopes(
    mixture: Mixture, w: Tensor, offsets: Tensor, log_ratios: Tensor | None = None
) -> Tensor:
    """The same where the first component, a spike at 0, differs from weight to weight.

    Its proportion is exp(offsets) times and its precision exp(log_ratios) times the mixture's.
    Between it and the rest, whose log-density and slope are functions of one variable, the weight's
    own responsibility decides.
    """
    if len(w) == 0:
        return torch.empty_like(w)
    keep_freed_memory(w)
    precision = mixture.precisions[0]
    spike_slope = w * -precision
    if log_ratios is not None:
        spike_slope *= log_ratios.exp()
    if len(mixture) == 1:
        return spike_slope
    rest = Mixture(*(values[1:] for values in vars(mixture).values()))
    nodes, entries = _nodes_and_entries(w)
    log_joint = mixture.component_log_prob(nodes)
    log_odds = _read(log_joint[:, 0] - log_joint[:, 1:].logsumexp(-1), entries).add_(offsets)
    if log_ratios is not None:
        log_odds += 0.5 * (log_ratios - precision * log_ratios.expm1() * w.square())
    return torch.lerp(_read(_slopes(rest, nodes), entries), spike_slope, log_odds.sigmoid_())


def _nodes_and_entries(w: Tensor) -> tuple[Tensor, Tensor]:
    """Evenly spaced nodes over the range of w, and each weight's entry in a table over them."""
    low, high = w.aminmax()
    step = torch.where(high > low, (high - low) / (SLOPE_NODES - 1), 1e-6)
    nodes = low + step * torch.arange(SLOPE_NODES, dtype=w.dtype, device=w.device)
    entries = (w - low).mul_(FINER / step).int()
    return nodes, entries.clamp_(0, (SLOPE_NODES - 1) * FINER - 1)


def _slopes(mixture: Mixture, nodes: Tensor) -> Tensor:
    pull = mixture.precisions * (mixture.means - nodes.unsqueeze(-1))
    return (mixture.responsibilities(nodes) * pull).sum(-1)


def _read(values: Tensor, entries: Tensor) -> Tensor:
    """Values at the nodes, read off on the straight lines between them."""
    between = torch.arange(FINER, dtype=values.dtype, device=values.device)
    between = (between + 0.5) / FINER
    table = torch.lerp(values[:-1, None], values[1:, None], between).view(-1)
    return table.index_select(0, entries)


@torch.no_grad()
def assign_by_table(mixture: Mixture, w: Tensor) -> Tensor:
    """``mixture.assign(w)`` for many weights; (N,) -> (N,) int64.

    The assignment is a function of one variable, constant but for a few steps. It is computed at
    ASSIGNED_NODES evenly spaced points over the range of w and holds between two that agree;
    weights between two that do not are assigned one by one. A component whose whole reach lies
    between two nodes is missed.
    """
    if len(w) <= ASSIGNED_NODES:
        return mixture.assign(w)
    low, high = w.aminmax()
    step = torch.where(high > low, (high - low) / (ASSIGNED_NODES - 1), 1e-6)
    nodes = low + step * torch.arange(ASSIGNED_NODES, dtype=w.dtype, device=w.device)
    assigned = mixture.assign(nodes)
    between = torch.where(assigned[1:] == assigned[:-1], assigned[:-1], -1)
    index = between.index_select(0, ((w - low) / step).int().clamp_(0, ASSIGNED_NODES - 2))
    unsure = (index < 0).nonzero().flatten()
    index[unsure] = mixture.assign(w[unsure])
    return index
