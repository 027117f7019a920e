"""Slabs without a fixed number: a truncated Dirichlet process over their shares."""

from dataclasses import dataclass, field

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ExpTransform
from torch import Tensor

from pyro_sws.inference.hyperpriors import Beta, Free, Gamma, Normal
from pyro_sws.inference.priors.initialization import Initialization
from pyro_sws.inference.priors.sites import (
    check_slab_spec,
    initial_slabs,
    initial_values,
    named,
    sample,
    sample_slabs,
    with_spike,
)
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import MixturePrior


@dataclass(frozen=True)
class DirichletProcess:
    """share[k] = v[k] prod_(l<k) (1 - v[l]),  v[k] ~ Beta(1, concentration ~ Gamma).

    Sethuraman 1994; truncated as by Ishwaran & James 2001: the last slab has what is left. A point
    estimate of sticks and concentration depends on the coordinates it is found in: as (v,
    concentration) it has no maximum or moves with the truncation. Here the sites are the logarithms
    of the hazards h = -log(1 - v), which are exponential with rate ``concentration``, and of the
    concentration. There the maximum exists, an unused stick's hazard is its expectation
    1 / concentration, and all unused sticks together leave the concentration's estimate (shape + k
    used) / (rate + sum of the used hazards), whatever the truncation (as the mean field of Blei &
    Jordan 2006 does).

    Sites: ``log_hazards`` (truncation - 1,), ``log_concentration`` (), and those of SpikeAndSlabs
    without ``slab_shares``.
    """

    __pydantic_config__ = {"extra": "forbid"}
    truncation: int = 20  # slabs at most
    concentration: Gamma = field(default_factory=lambda: Gamma(1.0, 1.0))
    zero_proportion: float | Beta = 0.999
    spike_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(5000.0, 2.0))
    slab_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(250.0, 0.1))
    slab_means: Normal | Free = "free"
    initialization: Initialization | tuple[float, ...] = "range"
    start_deviation: float = 0.1

    def __post_init__(self) -> None:
        check_slab_spec(self, self.truncation, "truncation")

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        means, precisions = sample_slabs(group, self, self.truncation)
        rate = sample(group, "log_concentration", logarithm(self.concentration.over(group))).exp()
        hazards = dist.Exponential(rate).expand((self.truncation - 1,)).to_event(1)
        log_hazards = sample(group, "log_hazards", logarithm(hazards))
        return MixturePrior(with_spike(group, self, means, precisions, broken(log_hazards.exp())))

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the learned sites, given the group's trained weights (N,)."""
        initial = initial_slabs(self, group, weights, self.truncation)
        # h[k] = log(what is left before stick k / what is left after it)
        left = initial.shares.flip(0).cumsum(0).flip(0)
        hazards = (left[:-1] / left[1:]).log()
        more = {
            "log_hazards": hazards.log(),
            "log_concentration": group.constant(self.concentration.mean).log(),
        }
        return initial_values(self, group, initial) | named(group, more)


def broken(hazards: Tensor) -> Tensor:
    """Hazards (T - 1,) -> shares (T,) of the pieces that sticks of 1 - exp(-hazard) break off."""
    gone = torch.cat([hazards.new_zeros(1), hazards.cumsum(0)])
    pieces = -torch.expm1(-hazards)
    return (-gone).exp() * torch.cat([pieces, pieces.new_ones(1)])


def logarithm(density: dist.TorchDistribution) -> dist.TorchDistribution:
    """The density of log x, where x has ``density``: with the Jacobian."""
    return dist.TransformedDistribution(density, [ExpTransform().inv])
