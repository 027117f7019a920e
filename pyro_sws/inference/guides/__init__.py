"""Guides: the family of posteriors that a fit chooses from."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from torch import Tensor

from pyro_sws.inference.guides.delta import DeltaGuide, delta_guide, laplace_guide
from pyro_sws.inference.guides.gaussian import (
    GaussianGuide,
    delta_normal_guide,
    low_rank_guide,
    normal_guide,
)
from pyro_sws.inference.guides.laplace import Laplace
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import Spread

__all__ = [
    "GUIDES",
    "DeltaGuide",
    "GaussianGuide",
    "Guide",
    "Laplace",
    "Spread",
    "delta_guide",
    "delta_normal_guide",
    "guide_maker",
    "laplace_guide",
    "low_rank_guide",
    "normal_guide",
]


class Guide(Protocol):
    """A Pyro guide, with the point that stands for it.

    A guide with spread must scale its own sites by the model's tau, and say so by an attribute
    ``carries_tau = True``: else -ELBO is not E[error] + tau KL, and ``fit`` refuses it, but at
    tau = 1, where any of Pyro's own guides will do.

    It may have a method ``spread(posterior, batches) -> Spread | None``, called when the fit is
    done; an attribute ``weights_have_spread``, whether that gives deviations of the weights; and
    ``kl_is_finite``, whether -ELBO at tau = 1 is a code length.
    """

    def __call__(self, *args: Any) -> object:
        """Sample every latent site of the model."""
        ...

    def median(self) -> Mapping[str, Tensor]:
        """Site name -> point estimate."""
        ...


GUIDES: dict[str, Callable[[Joint], Guide]] = {
    "delta": delta_guide,
    "delta_normal": delta_normal_guide,
    "normal": normal_guide,
    "low_rank": low_rank_guide,
    "laplace": laplace_guide,
}


def guide_maker(guide: str | Callable[[Joint], Guide]) -> Callable[[Joint], Guide]:
    """What makes a guide for a model: a function as it is, or by its name in GUIDES."""
    if callable(guide):
        return guide
    if not isinstance(guide, str) or guide not in GUIDES:
        raise ValueError(f"unknown guide {guide!r}; choose from {', '.join(sorted(GUIDES))}")
    return GUIDES[guide]
