"""The paper's prior: a spike at zero and J free Gaussians, learned with the weights."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Free, Gamma, Normal
from pyro_sws.inference.priors.initialization import Initialization
from pyro_sws.inference.priors.sites import (
    check_slab_spec,
    initial_slabs,
    initial_values,
    named,
    sample_shares,
    sample_slabs,
    with_spike,
)
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import MixturePrior


@dataclass(frozen=True)
class SpikeAndSlabs:
    """p(w) = z N(w; 0, 1/s) + (1 - z) sum_j share[j] N(w; mean[j], 1/p[j]), j = 1..slabs.

    Ullrich et al. 2017, eq. 5 and sections 3, 4.1 and appendix B. Wherever a field takes a number,
    a hyperprior or "free": the number is fixed, what has a hyperprior is learned under it, and what
    is free is learned with none. The Gammas' default values are those of the authors' tutorial.

    Sites, all prefixed "<group>.": ``means`` (J,), ``spike_precision`` (), ``slab_precisions``
    (J,), ``zero_proportion`` (), ``slab_shares`` (J,), each only where it is learned.
    """

    __pydantic_config__ = {"extra": "forbid"}
    slabs: int = 16
    # Fixed, as in the paper: 266k weights would swamp any Beta worth writing. 0 means no spike.
    zero_proportion: float | Beta = 0.999
    spike_precision: float | Gamma | Free = Gamma(5000.0, 2.0)
    slab_precision: float | Gamma | Free = Gamma(250.0, 0.1)
    slab_shares: Dirichlet | Free | Literal["equal"] = "free"
    slab_means: Normal | Free = "free"
    # "range", the paper's choice; see initialization.py for the others. Or the means themselves.
    initialization: Initialization | tuple[float, ...] = "range"
    # Wide enough that every weight is in some slab's reach; 0.25 (the tutorial's) takes three times
    # as many steps to narrow down.
    start_deviation: float = 0.1

    def __post_init__(self) -> None:
        check_slab_spec(self, self.slabs)

    @property
    def mean_zero(self) -> float:
        """The zero proportion, or the mean of its hyperprior."""
        zero = self.zero_proportion
        return zero.mean if isinstance(zero, Beta) else zero

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        means, precisions = sample_slabs(group, self, self.slabs)
        shares = sample_shares(group, self.slab_shares, self.slabs)
        return MixturePrior(with_spike(group, self, means, precisions, shares))

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the learned sites, given the group's trained weights (N,)."""
        start = initial_slabs(self, group, weights, self.slabs)
        shares = {} if self.slab_shares == "equal" else {"slab_shares": start.shares}
        return initial_values(self, group, start) | named(group, shares)
