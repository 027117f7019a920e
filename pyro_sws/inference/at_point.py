"""A model or prior run at given values of its sites, without a trace: what each site is scored."""

from collections.abc import Mapping
from typing import Any

from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor


class AtPoint(Messenger):
    """Sets latent sites to their values at a point, and keeps each site's log-density.

    Sites that the point lacks are drawn, or, if it is said to be ``whole``, a ValueError.
    """

    def __init__(self, point: Mapping[str, Tensor], whole: bool = False):
        super().__init__()
        self.point, self.whole = point, whole
        self.sampled: dict[str, Any] = {}  # sites of the point -> their distributions
        self.log_probs: dict[str, Tensor] = {}  # scaled, as the ELBO counts them

    def _pyro_sample(self, msg):
        name = msg["name"]
        if msg["is_observed"] or site_is_subsample(msg):
            return
        if name in self.point:
            self.sampled[name] = msg["fn"]
            msg["value"], msg["done"] = self.point[name], True
        elif self.whole:
            raise ValueError(f"the point has no value for {name!r}; give the fitted one")

    def _pyro_post_sample(self, msg):
        if not site_is_subsample(msg):  # a plate's own site: no random variable
            self.log_probs[msg["name"]] = scored(msg)


def scored(msg: Any) -> Tensor:
    """A site's log-density in nats as the ELBO counts it: scaled, masked, summed."""
    return scale_and_mask(msg["fn"].log_prob(msg["value"]), msg["scale"], msg["mask"]).sum()
