"""A likelihood that is any function of outputs which returns a Pyro distribution of targets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from pyro_sws.inference.called import called, examples_in, named
from pyro_sws.inference.isolation import NoSites
from pyro_sws.inference.targets import what
from pyro_sws.inference.typed_fields import check_fields

ERRORS = "from_distribution:"  # what they start with


@dataclass(frozen=True)
class FromDistribution:
    """Targets under the Pyro distribution that ``function(outputs)`` returns.

    Its batch_shape is (B,) or (B, ...), of which all but the examples' dimension becomes one event;
    targets have the shape of both, and lie in its support. Scored by the negative log-likelihood
    in nats, the mean over examples. ``compress(..., likelihood=function)`` makes one.

    >>> FromDistribution(lambda outputs: dist.Poisson(outputs.exp()))

    The function samples no sites of its own; for a learned noise write a likelihood.
    """

    __pydantic_config__ = {"extra": "forbid"}
    function: Callable[..., Any]

    score_name: ClassVar[str] = "nll"
    score_unit: ClassVar[str] = "nats"

    def __post_init__(self) -> None:
        check_fields(self, f"{ERRORS} ")

    def __call__(self, outputs: Any) -> dist.TorchDistribution:
        with NoSites(f"the likelihood's function {named(self.function)}", "in it; " + NO_SITES):
            found = called(ERRORS, self.function, outputs)
        if not isinstance(found, TorchDistributionMixin):
            raise ValueError(_no_distribution(self.function, found))
        shape, examples = found.batch_shape, examples_in(outputs)
        if not shape or shape[0] != examples:
            raise ValueError(
                f"{ERRORS} {named(self.function)} must return a distribution of batch_shape "
                f"({examples},) or ({examples}, ...), a row an example, got a "
                f"{type(found).__name__} of batch_shape {tuple(shape)}"
            )
        return found.to_event(len(shape) - 1)

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Any, targets: Tensor) -> None:
        density = self(outputs)
        shape = density.batch_shape + density.event_shape
        if targets.shape != shape:
            raise ValueError(
                f"{ERRORS} targets must have shape {tuple(shape)}, as {named(self.function)} "
                f"says, got {what(targets)}"
            )
        support: Any = density.support
        try:
            inside = support.check(targets)
        except NotImplementedError:  # a support that depends on what is not known
            return
        if not inside.all():
            low, high = targets.double().aminmax()
            raise ValueError(
                f"{ERRORS} targets must be in the support of {named(self.function)}'s "
                f"distribution, {support!r}; got values in {low:g}..{high:g}"
            )

    def check_reading(self, outputs: Any, targets: Tensor) -> None:
        """Raise ValueError where the distribution cannot take the first batch's targets."""
        density = self(outputs)
        found = called(f"{ERRORS} the distribution of", density.log_prob, targets)
        if found.shape != density.batch_shape:
            raise ValueError(
                f"{ERRORS} the log_prob of {named(self.function)}'s distribution must have shape "
                f"{tuple(density.batch_shape)}, got {tuple(found.shape)}"
            )

    def losses(self, outputs: Any, targets: Tensor) -> Tensor:
        return -self(outputs).log_prob(targets).detach().double()

    def score(self, mean_loss: float) -> float:
        return mean_loss


NO_SITES = (
    "a fit would not learn it: write a likelihood with start(), as the pages on priors show, or "
    "Gaussian(noise_precision=Gamma(...))"
)


def _no_distribution(function: Callable, found: object) -> str:
    got = what(found) if isinstance(found, Tensor) else type(found).__name__
    said = f"{ERRORS} {named(function)} must return a Pyro distribution, got {got}"
    if isinstance(found, torch.distributions.Distribution):
        return f"{said} of torch.distributions; take it from pyro.distributions"
    return f"{said}; of a loss function say Loss(function)"
