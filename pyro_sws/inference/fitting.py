"""How a fit goes: its passes, learning rates and their schedule, annealing. Values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pyro_sws.inference.annealing import Annealing
from pyro_sws.inference.plain_numbers import count, instance, real, shown

Schedule = Callable[[float], float]  # progress in [0, 1) -> factor on every rate

SCHEDULES: dict[str, Schedule] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}


@dataclass(frozen=True)
class Rates:
    """Adam's learning rate by kind of site; a site is of the kind that its name ends with.

    The paper uses 5e-4 for every mixture parameter; the defaults are its authors' tutorial's. Too
    fast and the mixture collapses before the weights can follow, too slow and it never narrows.
    """

    __pydantic_config__ = {"extra": "forbid"}
    weights: float = 1e-3
    means: float = 1e-4  # of the components
    precisions: float = 3e-3  # of the logarithm
    proportions: float = 3e-3  # of the logits; also the slabs' shares, and what they depend on
    other: float = 1e-3  # of every other site
    deviations: float = 1e-2  # of a guide's own deviations, of their logarithm; and of low ranks

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            object.__setattr__(self, name, real(f"rates.{name}", rate))
            if not 0 <= rate < math.inf:
                raise ValueError(f"rates.{name} must be a number >= 0, got {rate}")

    def of(self, site: str) -> float:
        """The rate of a site such as "all.spike_precision"."""
        kinds = {
            "weights": self.weights,
            "means": self.means,
            "precision": self.precisions,
            "precisions": self.precisions,
            "proportion": self.proportions,
            "proportions": self.proportions,
            "shares": self.proportions,
            "effects": self.proportions,
            "hazards": self.proportions,
            "gammas": self.proportions,
            "concentration": self.proportions,
            "deviation": self.deviations,
            "factor": self.deviations,
        }
        return kinds.get(site.rsplit(".", 1)[-1].rsplit("_", 1)[-1], self.other)


@dataclass(frozen=True)
class Fitting:
    """How ``fit`` goes. Raises ValueError for a number that cannot be and an unknown schedule.

    TypeError for rates and annealing that are no Rates and no Annealing.
    """

    __pydantic_config__ = {"extra": "forbid", "arbitrary_types_allowed": True}
    epochs: int = 60  # passes through the training data; 0: the network is snapped as it is
    rates: Rates = Rates()  # learning rates, by kind of site
    schedule: Literal["constant", "cosine"] | Schedule = "cosine"  # factor on all rates
    annealing: Annealing = Annealing()  # of the objective
    # Steps from one move of the mixture's hyperparameters to the next, so many times as fast.
    hyperparameters_every: int = 1

    def __post_init__(self) -> None:
        for name, least in (("epochs", 0), ("hyperparameters_every", 1)):
            object.__setattr__(self, name, count(name, getattr(self, name), least))
        instance("rates", self.rates, Rates)
        instance("annealing", self.annealing, Annealing)
        if not callable(self.schedule) and self.schedule not in list(SCHEDULES):
            choices = ", ".join(sorted(SCHEDULES))
            raise ValueError(f"unknown schedule {shown(self.schedule)}; choose from {choices}")

    @property
    def factor(self) -> Schedule:
        """The schedule as a function of progress in [0, 1)."""
        return self.schedule if callable(self.schedule) else SCHEDULES[self.schedule]
