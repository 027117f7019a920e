"""A model or prior run at given values of its sites, without a trace: what each site is scored."""

from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar, cast

import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import scale_and_mask
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import InferDict, Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.unconstrained import Unconstrained, unconstrained

Result = TypeVar("Result")


class Site(TypedDict):
    """What Pyro tells its handlers of a sample site, as far as it is looked at here."""

    name: str
    fn: TorchDistributionMixin
    value: Tensor
    is_observed: bool
    done: bool
    scale: float | Tensor
    mask: bool | Tensor | None
    cond_indep_stack: tuple[CondIndepStackFrame, ...]
    infer: InferDict


class AtPoint(Messenger):
    """Sets latent sites to their values at a point, and keeps each site's log-density.

    Sites that the point lacks are drawn, or, if it is said to be ``whole``, a ValueError.
    """

    def __init__(self, point: Mapping[str, Tensor], whole: bool = False):
        super().__init__()
        self.point, self.whole = point, whole
        self.sampled: dict[str, TorchDistributionMixin] = {}  # the point's sites that were met
        self.log_probs: dict[str, Tensor] = {}  # scaled, as the ELBO counts them

    def _pyro_sample(self, msg: Site) -> None:
        name = msg["name"]
        if msg["is_observed"] or is_a_plates(msg):
            return
        if name in self.point:
            self.sampled[name] = msg["fn"]
            msg["value"], msg["done"] = self.point[name], True
        elif self.whole:
            raise ValueError(f"the point has no value for {name!r}; give the fitted one")

    def _pyro_post_sample(self, msg: Site) -> None:
        if not is_a_plates(msg):
            self.log_probs[msg["name"]] = scored(msg)


def is_a_plates(site: Site) -> bool:
    """Whether it is a plate's own site, which chooses indices: no random variable."""
    return site_is_subsample(cast(Message, site))


def scored(msg: Site) -> Tensor:
    """A site's log-density in nats as the ELBO counts it: scaled, masked, summed."""
    return scale_and_mask(msg["fn"].log_prob(msg["value"]), msg["scale"], msg["mask"]).sum()


def run_at(
    program: Callable[[], Result], values: Mapping[str, Tensor]
) -> tuple[Result, list[Tensor]]:
    """What a program returns where its sites have these values, and each site's log-density.

    In nats, scalars in the order of the sites. Raises ValueError for a site without a value.
    """
    with AtPoint(values, whole=True) as run:
        result = program()
    return result, list(run.log_probs.values())


@torch.no_grad()
def unconstrained_sites(
    program: Callable[[], object], values: Mapping[str, Tensor]
) -> tuple[Unconstrained, Tensor]:
    """The space of the sites that a program samples, and the vector u (D,) of their values there.

    Raises ValueError for a site without a value, not continuous, or outside its support.
    """
    with pyro_step(), poutine.block(), AtPoint(values, whole=True) as run:
        program()
    return unconstrained(run.sampled, values)
