"""Hyperpriors: frozen specs that become Pyro distributions over a group's mixture parameters."""

import math
from dataclasses import dataclass
from typing import Literal

import pyro.distributions as dist
import torch

from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group

Free = Literal["free"]  # learned without a hyperprior: maximum likelihood, as for the paper's means


def _positive(spec: object) -> None:
    """Raise ValueError where a field of the spec is no positive number."""
    kind = type(spec).__name__
    check_fields(spec, f"{kind}: ")
    for name, value in vars(spec).items():
        if not 0 < value < math.inf:
            raise ValueError(f"{kind}: {name} must be a positive number, got {value!r}")


@dataclass(frozen=True)
class Gamma:
    """Density rate^shape / Gamma(shape) x^(shape - 1) exp(-rate x) of a precision x.

    Ullrich et al. 2017, appendix B.1. Its mode is (shape - 1) / rate. On n weights' precision it
    acts like 2 (shape - 1) further weights.
    """

    __pydantic_config__ = {"extra": "forbid"}
    shape: float
    rate: float

    def __post_init__(self) -> None:
        _positive(self)

    @property
    def mean(self) -> float:
        return self.shape / self.rate

    def over(self, group: Group, size: tuple[int, ...] = ()) -> dist.TorchDistribution:
        gamma = dist.Gamma(group.constant(self.shape), group.constant(self.rate))
        return gamma.expand(size).to_event(len(size))

    def without_mode(self) -> str | None:
        """Why a point estimate under this density runs away, or None where it does not."""
        if self.shape < 1:
            return f"Gamma of shape {self.shape:g} grows without bound at 0; use a shape >= 1"
        return None


@dataclass(frozen=True)
class Beta:
    """Beta density of the zero proportion; ``zeros`` and ``nonzeros`` act as counted weights.

    Ullrich et al. 2017, appendix B.2. A network's own weights outvote it unless its counts are as
    large as theirs.
    """

    __pydantic_config__ = {"extra": "forbid"}
    zeros: float
    nonzeros: float

    def __post_init__(self) -> None:
        _positive(self)

    @property
    def mean(self) -> float:
        return self.zeros / (self.zeros + self.nonzeros)

    def over(self, group: Group) -> dist.TorchDistribution:
        return dist.Beta(group.constant(self.zeros), group.constant(self.nonzeros))

    def without_mode(self) -> str | None:
        if min(self.zeros, self.nonzeros) < 1:
            return (
                f"Beta({self.zeros:g}, {self.nonzeros:g}) grows without bound at an edge; "
                "use counts >= 1"
            )
        return None


@dataclass(frozen=True)
class Dirichlet:
    """Symmetric Dirichlet density of the slabs' shares (an alternative named in appendix B.2)."""

    __pydantic_config__ = {"extra": "forbid"}
    concentration: float

    def __post_init__(self) -> None:
        _positive(self)

    def over(self, group: Group, size: int) -> dist.TorchDistribution:
        return dist.Dirichlet(group.constant(self.concentration).expand(size))

    def without_mode(self) -> str | None:
        if self.concentration < 1:
            return (
                f"Dirichlet of concentration {self.concentration:g} has no maximum in the simplex; "
                "use a concentration >= 1 and let merging choose the number of components"
            )
        return None


@dataclass(frozen=True)
class Normal:
    """Normal density of the slabs' means, centred at 0."""

    __pydantic_config__ = {"extra": "forbid"}
    deviation: float

    def __post_init__(self) -> None:
        _positive(self)

    def over(self, group: Group, size: tuple[int, ...]) -> dist.TorchDistribution:
        normal = dist.Normal(group.constant(0.0), group.constant(self.deviation))
        return normal.expand(size).to_event(len(size))

    def without_mode(self) -> str | None:
        return None


# A free parameter has log-density 0 on its whole support. What the mask hides is only drawn from:
# it gives Pyro's tracing a value of the right shape, and has no other meaning.


def free_real(group: Group, size: int) -> dist.TorchDistribution:
    """Log-density 0 of ``size`` real numbers: improper."""
    return Normal(1.0).over(group, (size,)).mask(False)


def free_positive(group: Group, size: tuple[int, ...] = ()) -> dist.TorchDistribution:
    """Log-density 0 of positive numbers of this shape: improper."""
    return Gamma(1.0, 1.0).over(group, size).mask(False)


def free_simplex(group: Group, size: int) -> dist.TorchDistribution:
    """Log-density 0 of ``size`` proportions that sum to 1."""
    return dist.Dirichlet(torch.ones(size, dtype=group.dtype, device=group.device)).mask(False)
