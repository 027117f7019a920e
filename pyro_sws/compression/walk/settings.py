"""How a walk goes, and how long it may take. Values."""

import math
from dataclasses import dataclass, replace
from typing import Literal

from pyro_sws.inference.plain_numbers import count, instance, real

NARROWEST, WIDEST = 1e-6, 1.0  # widths at which a walk can set out


@dataclass(frozen=True)
class WalkRates:
    """Adam's learning rates of a walk, by kind of site; ``other`` is a learned noise's.

    ``weights`` is in units of each tensor's own root mean square, and divided by the root of the
    budget's optimiser steps: about how far a weight wanders in all of them that nothing holds.
    ``means`` is in the mixture's units, and ``scales`` of the logarithms of matrices' and kernels'
    scales, where the prior has those.
    """

    __pydantic_config__ = {"extra": "forbid"}
    weights: float = 5.0
    means: float = 3e-3
    scales: float = 1e-3
    other: float = 1e-3

    def __post_init__(self) -> None:
        for name, rate in vars(self).items():
            object.__setattr__(self, name, real(f"walk.rates.{name}", rate))
            if not 0 <= rate < math.inf:
                raise ValueError(f"walk.rates.{name} must be a number >= 0, got {rate}")

    def over(self, steps: int) -> "WalkRates":
        """The rates of a walk of so many optimiser steps."""
        return replace(self, weights=self.weights / steps**0.5)


@dataclass(frozen=True)
class Walk:
    """How ``walk`` goes: no number here is in units of a network, a data set or an epoch.

    Raises ValueError for a number that cannot be.
    """

    __pydantic_config__ = {"extra": "forbid"}
    width: float = 0.03  # of all components at the start, in root mean squares of the weights
    growth: float = 1.5  # factor on the width from step to step, where nothing is lost
    steps: int = 40  # widths that the budget is for, about
    zero: float = 0.7  # the least proportion that 0 has
    # Exponent on the share of all other values, for their proportion: the walk expects fewer of
    # them than there are. With 1 it is empirical Bayes.
    sparser: float = 2.0
    following: float = 0.2  # of the way to those proportions, in logarithms, that one change goes
    decay: float = 0.1  # of the rates, at the end of each step
    # tau, the weight of the prior's cost, is this times the root of the number of training examples
    # and of the width: the noise of the error cost's gradient grows as the first, and the pull of a
    # component falls as the square of the second.
    pull: float = 8e-4
    soft_targets: float = 0.5  # share of what the network itself predicts, in labels, see Distilled
    rates: WalkRates = WalkRates()  # Adam's learning rates
    # What is sought: the shortest file within the tolerance, or the least certificate or whole
    # description, whatever the tolerance; see ``Objective``.
    objective: Literal["bytes", "certificate", "mdl"] = "bytes"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", count("walk.steps", self.steps))
        instance("walk.rates", self.rates, WalkRates)
        if self.objective not in ("bytes", "certificate", "mdl"):
            raise ValueError(
                f"walk.objective must be bytes, certificate or mdl, got {self.objective!r}"
            )
        for name in ("width", "growth", "zero", "sparser", "following", "decay", "pull"):
            object.__setattr__(self, name, real(f"walk.{name}", getattr(self, name)))
        if not NARROWEST <= self.width <= WIDEST:
            raise ValueError(
                f"walk.width must be in [{NARROWEST:g}, {WIDEST:g}] root mean squares of the "
                f"weights, got {self.width:g}"
            )
        if not 0 < self.pull < math.inf:
            raise ValueError(f"walk.pull must be a positive number, got {self.pull}")
        if not 1 < self.growth < math.inf:
            raise ValueError(f"walk.growth must be more than 1, got {self.growth}")
        if not 0 <= self.zero < 1:
            raise ValueError(f"walk.zero must be in [0, 1), got {self.zero}")
        object.__setattr__(self, "soft_targets", real("walk.soft_targets", self.soft_targets))
        if not 0 <= self.soft_targets <= 1:
            raise ValueError(f"walk.soft_targets must be in [0, 1], got {self.soft_targets}")
        if not 1 <= self.sparser < math.inf:
            raise ValueError(f"walk.sparser must be a number >= 1, got {self.sparser}")
        for name in ("following", "decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"walk.{name} must be in (0, 1], got {getattr(self, name)}")


@dataclass(frozen=True)
class Budget:
    """How long a walk may take: whichever is less. None: no such limit, but one there must be.

    ``minutes`` are of the walk's own clock, so that what it reaches depends on the machine;
    ``passes`` are through the training data. Raises ValueError for a number that cannot be.
    """

    __pydantic_config__ = {"extra": "forbid"}
    passes: float | None = 60.0
    minutes: float | None = 5.0

    def __post_init__(self) -> None:
        if self.passes is None and self.minutes is None:
            raise ValueError("budget: give passes or minutes; without a limit a walk has no end")
        for name in ("passes", "minutes"):
            value = getattr(self, name)
            if value is None:
                continue
            object.__setattr__(self, name, real(f"budget.{name}", value))
            if not 0 < value < math.inf:
                raise ValueError(f"budget.{name} must be a positive number, got {value}")

    def steps(
        self, pass_steps: int, step_seconds: float, taken: int = 0, seconds: float = 0.0
    ) -> int:
        """Optimiser steps in all, of ``pass_steps`` a pass, where each takes so many seconds.

        ``taken`` of them have been in the first ``seconds``.
        """
        limits = []
        if self.passes is not None:
            limits.append(self.passes * pass_steps)
        if self.minutes is not None:
            limits.append(taken + max(0.0, 60 * self.minutes - seconds) / step_seconds)
        return max(1, int(min(limits)))
