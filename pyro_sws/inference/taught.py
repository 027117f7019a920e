"""A likelihood that a fit mixes with what another network predicts: soft targets of any kind."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.typed_fields import check_fields


class Teachable(Protocol):
    """A likelihood that says how far its predictions agree with those of a teacher."""

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution: ...

    def agreement(self, own: dist.TorchDistribution, teacher: Tensor, targets: Tensor) -> Tensor:
        """The expected log-density under ``own`` of what the teacher predicts; (B,), in nats.

        Up to a constant. ``own`` is what it made of the network's outputs, ``teacher`` are
        the teacher's outputs (B, ...), and ``targets`` say what is ignored.
        """
        ...


@dataclass(frozen=True)
class Taught:
    """A likelihood, and soft targets while fitting (Hinton et al. 2015).

    The fit's log-density of an example is (1 - share) times that of its targets plus share times
    the expected one of targets that the teacher predicts: the network as it is given. Of 0/1
    targets these are its probabilities, of counts its rates, of real ones its means, where a noise
    that is learned is learned from the targets alone. Scores, certificate and the report's
    description are of targets alone; all else is the likelihood's own.

    For class labels say Distilled, which has a temperature. Raises ValueError for a likelihood
    without a teacher's meaning: a loss, or a distribution of one's own.
    """

    likelihood: Any  # any likelihood that has an ``agreement``, see Teachable
    share: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self, "taught: ")
        if not hasattr(self.likelihood, "agreement"):
            kind = type(self.likelihood).__name__
            hint = (
                "say Distilled() for class labels"
                if hasattr(self.likelihood, "softened")
                else (
                    "it has no prediction that a network could learn from another; take it as it is"
                )
            )
            raise ValueError(f"taught: {kind} cannot have soft targets of a teacher: {hint}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"taught: share must be in [0, 1], got {self.share}")

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return self.likelihood(outputs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "likelihood":  # as copies and pickles look for
            raise AttributeError(name)
        return getattr(self.likelihood, name)

    def at(self, dispersion: float) -> "Taught":
        """The same of a likelihood with the noise of this dispersion, where it has one."""
        own = getattr(self.likelihood, "at", None)
        return self if own is None else replace(self, likelihood=own(dispersion))

    def softened(self, share: float) -> "Taught":
        """Itself: it says its own share."""
        return self

    def taught(self, outputs: Tensor, teacher: Tensor) -> dist.TorchDistribution:
        """The fit's density of targets, given the teacher's outputs on the same inputs."""
        return TaughtDensity(self.likelihood, self.likelihood(outputs), teacher, self.share)


class TaughtDensity(dist.TorchDistribution):
    """A distribution of targets whose log-density is mixed with its agreement with a teacher."""

    arg_constraints: dict[str, dist.constraints.Constraint] = {}

    def __init__(self, spec: Teachable, own: dist.TorchDistribution, teacher: Tensor, share: float):
        self.spec, self.own, self.teacher, self.share = spec, own, teacher.detach(), share
        super().__init__(own.batch_shape, own.event_shape, validate_args=False)

    @dist.constraints.dependent_property
    def support(self):
        return self.own.support

    def expand(self, batch_shape, _instance=None):
        if torch.Size(batch_shape) == self.batch_shape:
            return self
        return dist.ExpandedDistribution(self, torch.Size(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        soft = self.spec.agreement(self.own, self.teacher, value)
        return (1 - self.share) * self.own.log_prob(value) + self.share * soft

    def sample(self, sample_shape=()):
        return self.own.sample(sample_shape)
