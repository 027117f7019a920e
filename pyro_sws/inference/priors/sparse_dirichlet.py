"""Too many slabs under a Dirichlet of small concentration: an overfitted finite mixture."""

from dataclasses import dataclass, field

import pyro.distributions as dist
from torch import Tensor

from pyro_sws.inference.hyperpriors import Beta, Free, Gamma, Normal
from pyro_sws.inference.priors.dirichlet_process import logarithm
from pyro_sws.inference.priors.initialization import Initialization
from pyro_sws.inference.priors.sites import (
    check_positive,
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
class SparseDirichlet:
    """share ~ Dirichlet(concentration / slabs, ...): slabs without weights keep hardly any share.

    Rousseau & Mengersen 2011; for large ``slabs`` it tends to the Dirichlet process. Concentrations
    below 1 a slab have no maximum in the simplex. Here share[k] = g[k] / sum g with independent
    g[k] ~ Gamma(concentration / slabs, 1), and the sites are log g: there every concentration has
    one maximum, at which a slab without weights has g = concentration / slabs.

    Sites: ``log_gammas`` (J,), and those of SpikeAndSlabs without ``slab_shares``.
    """

    __pydantic_config__ = {"extra": "forbid"}
    slabs: int = 20
    concentration: float = 1.0  # in all, over the slabs; counts as so many weights
    zero_proportion: float | Beta = 0.999
    spike_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(5000.0, 2.0))
    slab_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(250.0, 0.1))
    slab_means: Normal | Free = "free"
    initialization: Initialization | tuple[float, ...] = "range"
    start_deviation: float = 0.1

    def __post_init__(self) -> None:
        check_slab_spec(self, self.slabs)
        check_positive(self, "concentration")

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        means, precisions = sample_slabs(group, self, self.slabs)
        shape = group.constant(self.concentration / self.slabs).expand(self.slabs)
        gammas = dist.Gamma(shape, group.constant(1.0)).to_event(1)
        shares = sample(group, "log_gammas", logarithm(gammas)).softmax(0)
        return MixturePrior(with_spike(group, self, means, precisions, shares))

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the learned sites, given the group's trained weights (N,)."""
        initial = initial_slabs(self, group, weights, self.slabs)
        gammas = {"log_gammas": (initial.shares * self.concentration).log()}
        return initial_values(self, group, initial) | named(group, gammas)
