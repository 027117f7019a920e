"""Annealing: a fit's objective eased or sharpened at first, and itself at the end."""

import math
from dataclasses import dataclass, replace

from pyro import poutine
from torch import Tensor

from pyro_sws.inference.joint import Joint
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import WeightPrior, widened


@dataclass(frozen=True)
class Ramp:
    """A factor that goes from ``first`` to 1, its logarithm evenly, and stays there.

    It is 1 from the share ``until`` of the fit's steps on.
    """

    __pydantic_config__ = {"extra": "forbid"}
    first: float
    until: float = 0.5

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.first < math.inf:
            raise ValueError(f"first must be a positive number, got {self.first}")
        if not 0 < self.until <= 1:
            raise ValueError(f"until must be a share of the steps in (0, 1], got {self.until}")

    def at(self, progress: float) -> float:
        """first^(1 - progress / until), and exactly 1 from ``until`` on; progress in [0, 1)."""
        return self.first ** (1 - progress / self.until) if progress < self.until else 1.0


@dataclass(frozen=True)
class Factors:
    """What a step's objective is annealed by; see Annealing."""

    tau: float = 1.0
    deviations: float = 1.0
    hyperpriors: float = 1.0


@dataclass(frozen=True)
class Annealing:
    """Factors on a fit's objective; where all are 1, or None, it is -ELBO itself.

    ``tau``: of the whole complexity cost. ``deviations``: of every component, where log p(weights)
    is computed; the hyperparameters stay what they are, so learned precisions may grow in answer. A
    component that is alone keeps its width. ``hyperpriors``: of the log-density of the
    hyperparameters, besides tau's; a learned noise, which is the likelihood's, has only tau's.
    Raises TypeError for what is no Ramp.
    """

    __pydantic_config__ = {"extra": "forbid"}
    tau: Ramp | None = None
    deviations: Ramp | None = None
    hyperpriors: Ramp | None = None

    def __post_init__(self) -> None:
        for name, ramp in vars(self).items():
            if not isinstance(ramp, Ramp | None):
                raise TypeError(f"annealing.{name} must be a Ramp or None, got {ramp!r}")

    def at(self, progress: float) -> Factors:
        """The factors at a progress in [0, 1)."""
        return Factors(**{name: r.at(progress) for name, r in vars(self).items() if r is not None})


@dataclass(frozen=True)
class AnnealedPrior:
    """A family under hyperpriors of another strength, whose density is of another width."""

    prior: Prior
    factors: Factors

    def __call__(self, group: Group) -> WeightPrior:
        with poutine.scale(scale=self.factors.hyperpriors):
            density = self.prior(group)
        return widened(density, self.factors.deviations)

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        return self.prior.start(group, weights)


def annealed(model: Joint, factors: Factors) -> Joint:
    """The model whose -ELBO is the annealed objective; itself where every factor is 1."""
    if factors == Factors():
        return model
    priors = {name: AnnealedPrior(prior, factors) for name, prior in model.priors.items()}
    return replace(model, tau=factors.tau * model.tau, priors=priors)
