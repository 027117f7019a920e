"""Guides: the family of posteriors that a fit chooses from."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor

from pyro_sws.inference.joint import Joint


class Guide(Protocol):
    """A Pyro guide, with the point that stands for it.

    A guide with spread must scale its own sites by the model's tau, and say so by an attribute
    ``carries_tau = True``: else -ELBO is not E[error] + tau KL, and ``fit`` refuses it.
    """

    def __call__(self, *args: Any) -> Any:
        """Sample every latent site of the model."""
        ...

    def median(self) -> Mapping[str, Tensor]:
        """Site name -> point estimate."""
        ...


def delta_guide(model: Joint, start: Mapping[str, Tensor] | None = None) -> "DeltaGuide":
    """A point mass at every latent, so that -ELBO is the description length in nats.

    The point is a maximum of the joint in *constrained* space (no Jacobian), found by steps in
    unconstrained space. Starts at the network's own weights and each prior's start; ``start``
    overrides them site by site. Raises ValueError for a hyperprior under which no maximum exists.
    """
    specs = {f"group {name!r}": prior for name, prior in model.priors.items()}
    for owner, spec in {**specs, "likelihood": model.likelihood}.items():
        for reason in _without_mode(spec):
            raise ValueError(f"{owner}: no point estimate exists: {reason}")
    # AutoDelta's own start, the median of prior draws, destroys a trained network. Its parameters
    # share memory with the values, and a fit writes into them.
    values = {
        site: value.detach().clone() for site, value in {**model.start(), **(start or {})}.items()
    }
    return DeltaGuide(model, init_loc_fn=init_to_value(values=values))


class DeltaGuide(AutoDelta):
    """AutoDelta whose parameters have names of their own in Pyro's global store.

    Under AutoDelta's one name a second guide silently starts from the first one's fitted values.
    """

    _made = itertools.count()

    def __init__(self, model: Joint, init_loc_fn: Callable):
        super().__init__(model, init_loc_fn)
        self._pyro_name = f"delta_guide_{next(self._made)}"


GUIDES: dict[str, Callable[[Joint], Guide]] = {"delta": delta_guide}


def _without_mode(spec: object) -> list[str]:
    """The reasons why some hyperprior among a spec's fields has no mode."""
    if not dataclasses.is_dataclass(spec):
        return []
    values = [getattr(spec, field.name) for field in dataclasses.fields(spec)]
    reasons = [value.without_mode() for value in values if hasattr(value, "without_mode")]
    return [reason for reason in reasons if reason]
