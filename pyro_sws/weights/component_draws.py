"""Draws of a mixture component by component: their labels put in order. Torch only.

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
    fixed: Tensor  # (J,) bool: of a fixed mean, such as the spike's 0 or a grid's: it never moves

    @property
    def order(self) -> Tensor:
        """Which component each one is once ``ordered``, draw by draw; (chains, draws, J)."""
        free = (~self.fixed).nonzero().flatten()
        order = torch.arange(len(self.fixed)).expand(self.means.shape).clone()
        order[..., free] = free[self.means[..., free].argsort(dim=-1, stable=True)]
        return order


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
