"""Draws of a mixture component by component: their labels put in order, and how far to trust them.

A mixture does not change when two of its components change places, so a chain may swap them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ComponentDraws:
    """A mixture's components in each draw of several chains; each field (chains, draws, J)."""

    means: Tensor
    deviations: Tensor
    proportions: Tensor
    # (J,) bool: at a fixed level, such as the spike's 0 or a grid's. Such a component keeps its
    # place.
    fixed: Tensor

    @property
    def order(self) -> Tensor:
        """Which component each place has once ``ordered``, draw by draw; (chains, draws, J)."""
        free = (~self.fixed).nonzero().flatten()
        order = torch.arange(len(self.fixed)).expand(self.means.shape).clone()
        order[..., free] = free[self.means[..., free].argsort(dim=-1, stable=True)]
        return order


@dataclass(frozen=True)
class LabelReport:
    """Whether the components that can move, K of them in ascending order, kept their identity."""

    swapped: Tensor  # (chains,) share of a chain's draws that have them in another order than most
    crowded: Tensor  # (K - 1,) share of draws with neighbours nearer than the wider one's deviation
    # (chains, K) each ordered mean's average in a chain less that in all, in its deviations
    # within chains
    apart: Tensor


def ordered(components: ComponentDraws) -> ComponentDraws:
    """The components that can move, by ascending mean in every draw; the others as they are."""
    order = components.order
    return ComponentDraws(
        components.means.gather(-1, order),
        components.deviations.gather(-1, order),
        components.proportions.gather(-1, order),
        components.fixed,
    )


def relabelled(components: ComponentDraws) -> Tensor:
    """Which draws (chains, draws) had the components, as sampled, in another order than most."""
    order = components.order
    orders, counts = order.flatten(0, 1).unique(dim=0, return_counts=True)
    return (order != orders[counts.argmax()]).any(-1)


def label_report(components: ComponentDraws) -> LabelReport:
    """How much the order of the components, as they were sampled, can be relied upon.

    Chains that found different modes are apart; ones that swap labels within a mode are crowded.
    """
    free = ~components.fixed
    sorted_draws = ordered(components)
    means, deviations = sorted_draws.means[..., free], sorted_draws.deviations[..., free]
    wider = torch.maximum(deviations[..., 1:], deviations[..., :-1])
    by_chain = means.mean(1)
    within = (means - by_chain.unsqueeze(1)).square().mean((0, 1)).sqrt()
    tiny = torch.finfo(within.dtype).tiny
    return LabelReport(
        swapped=relabelled(components).double().mean(1),
        crowded=(means.diff(dim=-1) < wider).double().mean((0, 1)),
        apart=(by_chain - by_chain.mean(0)) / within.clamp_min(tiny),
    )
