"""A heavy-tailed spike: Laplace, Student-t or horseshoe, as a mixture of Gaussians at zero."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Free, Gamma, Normal
from pyro_sws.inference.priors.initialization import Initialization
from pyro_sws.inference.priors.sites import (
    check_positive,
    check_slab_spec,
    initial_slabs,
    initial_values,
    named,
    sample_precision,
    sample_shares,
    sample_slabs,
    sample_zero,
)
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior

Tail = Literal["laplace", "student_t", "horseshoe"]
TAIL = 1e-3  # probability that the nodes leave out on either side


@dataclass(frozen=True)
class ScaleMixture:
    """The paper's prior with, for its spike, int N(w; 0, v / s) p(v) dv over variances v.

    p(v) is exponential of mean 2 for the Laplace density exp(-|w| sqrt s) sqrt s / 2 (Andrews &
    Mallows 1974), inverse-gamma(degrees / 2, degrees / 2) for Student's t, and that of a squared
    half-Cauchy variable for the horseshoe (Carvalho et al. 2010). The integral is a sum over
    ``nodes`` variances, evenly spaced in log v: a Gaussian mixture again, whose components at 0 are
    one value for quantisation.

    The horseshoe's density is unbounded at 0, where a point estimate would put every weight:
    ``floor``, its least deviation in units of 1 / sqrt s, must be positive.

    Sites: those of SpikeAndSlabs; ``spike_precision`` is s.
    """

    __pydantic_config__ = {"extra": "forbid"}
    tail: Tail = "laplace"
    degrees: float = 4.0  # of freedom, of Student's t
    floor: float = 0.0
    nodes: int = 8
    slabs: int = 16
    zero_proportion: float | Beta = 0.999
    spike_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(5000.0, 2.0))
    slab_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(250.0, 0.1))
    slab_shares: Dirichlet | Free | Literal["equal"] = "free"
    slab_means: Normal | Free = "free"
    initialization: Initialization | tuple[float, ...] = "range"
    start_deviation: float = 0.1

    def __post_init__(self) -> None:
        check_slab_spec(self, self.slabs, spike=True)
        if self.nodes < 2:
            raise ValueError(f"nodes must be at least 2, got {self.nodes}")
        check_positive(self, "degrees")
        if not self.floor >= 0:
            raise ValueError(f"floor must be at least 0, got {self.floor}")
        if self.tail == "horseshoe" and self.floor == 0:
            raise ValueError(
                "floor must be positive for a horseshoe, whose density is unbounded at 0; "
                "0.1 is a tenth of its scale"
            )
        _, _, widest = _mixing(self.tail, self.degrees)
        if not self.floor < widest**0.5:
            raise ValueError(
                f"floor must be below {widest**0.5:.3g}, the widest node's, got {self.floor}"
            )

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        means, precisions = sample_slabs(group, self, self.slabs)
        shares = sample_shares(group, self.slab_shares, self.slabs)
        zero = sample_zero(group, self.zero_proportion)
        spike = sample_precision(group, "spike_precision", self.spike_precision)
        variances, masses = (torch.as_tensor(a).to(means) for a in self.quadrature())
        return MixturePrior(
            Mixture(
                means=torch.cat([means.new_zeros(self.nodes), means]),
                precisions=torch.cat([spike / variances, precisions]),
                proportions=torch.cat([zero * masses, (1 - zero) * shares]),
            )
        )

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the learned sites, given the group's trained weights (N,)."""
        start = initial_slabs(self, group, weights, self.slabs)
        shares = {} if self.slab_shares == "equal" else {"slab_shares": start.shares}
        return initial_values(self, group, start) | named(group, shares)

    def quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Variances (nodes,), evenly spaced in their logarithm, and their masses; they sum to 1."""
        density, low, high = _mixing(self.tail, self.degrees)
        low = max(low, self.floor**2)
        logs = np.linspace(np.log(low), np.log(high), self.nodes)
        masses = density(np.exp(logs)) * np.exp(logs)  # d v = v d log v
        return np.exp(logs), masses / masses.sum()


def _mixing(tail: Tail, degrees: float):
    """The density of the variances, and the ends between which all but 2 TAIL of it lies."""
    if tail == "horseshoe":  # v = x^2 with x half-Cauchy
        cauchy = stats.halfcauchy
        ends = cauchy.ppf([TAIL, 1 - 10 * TAIL]) ** 2  # its tails are so long that fewer nodes stay
        return lambda v: cauchy.pdf(np.sqrt(v)) / (2 * np.sqrt(v)), *ends
    if tail == "laplace":
        variance = stats.expon(scale=2)
    else:
        variance = stats.invgamma(degrees / 2, scale=degrees / 2)
    return variance.pdf, *variance.ppf([TAIL, 1 - TAIL])
