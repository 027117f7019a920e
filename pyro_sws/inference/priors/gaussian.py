"""One Gaussian: ridge, the baseline that pulls weights to zero and knows no clusters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.priors.sites import check_positive, named, sample_precision
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import UniformlyQuantized


@dataclass(frozen=True)
class GaussianPrior:
    """p(w) = N(w; 0, 1 / precision): weight decay of precision / 2 a squared weight.

    Nothing gathers the weights at values, so they are rounded to an evenly spaced grid of ``steps``
    values on either side of 0, out to ``reach`` deviations. For comparison only: such files are
    large.

    Site ``precision`` (), where it has a hyperprior.
    """

    __pydantic_config__ = {"extra": "forbid"}
    precision: float | Gamma = 400.0  # free, it would grow without bound as the weights shrink
    steps: int = 15
    reach: float = 6.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive(self, "precision", "reach")
        if not 1 <= self.steps <= 2048:
            raise ValueError(f"steps must be in 1..2048, got {self.steps}")

    def __call__(self, group: Group) -> UniformlyQuantized:
        """Sample the precision, if it has a hyperprior; return the density that it defines."""
        precision = sample_precision(group, "precision", self.precision)
        spacing = precision.rsqrt() * self.reach / self.steps
        unit = Mixture(
            means=torch.zeros(1, dtype=group.dtype, device=group.device),
            precisions=(precision * spacing.square()).view(1),
            proportions=torch.ones(1, dtype=group.dtype, device=group.device),
        )
        return UniformlyQuantized(unit, spacing.expand(group.size), self.steps)

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """The trained weights' own precision, where it is learned."""
        if not isinstance(self.precision, Gamma):
            return {}
        square = weights.double().square().mean()
        mean = torch.tensor(self.precision.mean, dtype=torch.float64)
        return named(group, {"precision": 1 / square if square > 0 else mean})
