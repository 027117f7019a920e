"""Hyperparameters that several groups have together: sites named "shared.<name>"."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_sws.inference.at_point import Site
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import WeightPrior

SHARED = "shared"  # no group's name


def is_shared(site: str) -> bool:
    """Whether a site of this name belongs to all groups that sample it."""
    return site.startswith(f"{SHARED}.")


class SharedSites(Messenger):
    """Inside, the first group samples a shared site, and the others have its value, at no cost.

    Raises ValueError where another group would sample it from another density.
    """

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, tuple[TorchDistributionMixin, Tensor]] = {}

    def _pyro_sample(self, msg: Site) -> None:
        if msg["name"] not in self.known:
            return
        density, value = self.known[msg["name"]]
        _check_same(msg["name"], density, msg["fn"], value)
        msg["value"], msg["done"] = value, True
        msg["stop"] = True  # type: ignore[typeddict-unknown-key]  # handlers outside have seen it

    def _pyro_post_sample(self, msg: Site) -> None:
        if is_shared(msg["name"]):
            self.known.setdefault(msg["name"], (msg["fn"], msg["value"]))


@dataclass(frozen=True)
class AtShared:
    """A group's prior given the values of what it shares with others, which are then no sites."""

    prior: Callable[[Group], WeightPrior]
    shared: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, group: Group) -> WeightPrior:
        return poutine.condition(self.prior, data=dict(self.shared))(group)

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        start = self.prior.start(group, weights)  # type: ignore[attr-defined]  # a Prior
        return {site: value for site, value in start.items() if site not in self.shared}


@torch.no_grad()
def _check_same(
    site: str, first: TorchDistributionMixin, other: TorchDistributionMixin, value: Tensor
) -> None:
    same = first.shape() == other.shape()
    if not same or not torch.allclose(first.log_prob(value), other.log_prob(value)):
        raise ValueError(
            f"site {site!r} has one density in one group and another in the next; what groups "
            "share has one name and one density, and what is a group's own begins with its name"
        )
