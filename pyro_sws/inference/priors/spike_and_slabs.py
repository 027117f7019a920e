"""The paper's prior: a spike at zero and J free Gaussians, learned with the weights."""

from dataclasses import dataclass
from typing import Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.hyperpriors import (
    Beta,
    Dirichlet,
    Free,
    Gamma,
    Normal,
    free_positive,
    free_real,
    free_simplex,
)
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
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
    # "range" spreads the means evenly over the trained weights' range (the paper's choice),
    # "equal_mass" puts as many trained weights between any two neighbours.
    start_means: Literal["range", "equal_mass"] | tuple[float, ...] = "range"
    # Wide enough that every weight is in some slab's reach; 0.25 (the tutorial's) takes three times
    # as many steps to narrow down.
    start_deviation: float = 0.1

    def __post_init__(self) -> None:
        if self.slabs < 1:
            raise ValueError(f"slabs must be at least 1, got {self.slabs}")
        zero = self.zero_proportion
        if isinstance(zero, int | float) and not 0 <= zero < 1:
            raise ValueError(f"zero_proportion must be in [0, 1), got {zero}")
        for name in ("spike_precision", "slab_precision", "start_deviation"):
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if isinstance(self.start_means, tuple) and len(self.start_means) != self.slabs:
            given = len(self.start_means)
            raise ValueError(
                f"start_means gives {given} means for {self.slabs} slabs; give as many"
            )

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        size = (self.slabs,)
        means = _sample(
            group,
            "means",
            free_real(group, self.slabs)
            if self.slab_means == "free"
            else self.slab_means.over(group, size),
        )
        precisions = self._precision(group, "slab_precisions", self.slab_precision, size)
        shares = self._shares(group)
        if self.zero_proportion == 0:
            return MixturePrior(Mixture(means, precisions, shares))
        zero = self._zero(group)
        spike = self._precision(group, "spike_precision", self.spike_precision, ())
        return MixturePrior(
            Mixture(
                means=torch.cat([means.new_zeros(1), means]),
                precisions=torch.cat([spike.view(1), precisions]),
                proportions=torch.cat([zero.view(1), (1 - zero) * shares]),
            )
        )

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the learned sites, given the group's trained weights (N,)."""
        precision = group.constant(self.start_deviation**-2)
        values = {"means": self._starting_means(group, weights)}
        if not isinstance(self.slab_precision, int | float):
            values["slab_precisions"] = precision.repeat(self.slabs)
        if self.slab_shares != "equal":
            values["slab_shares"] = group.constant(1 / self.slabs).repeat(self.slabs)
        if self.zero_proportion != 0:
            if not isinstance(self.spike_precision, int | float):
                values["spike_precision"] = precision
            if isinstance(self.zero_proportion, Beta):
                values["zero_proportion"] = group.constant(self.zero_proportion.mean)
        return {f"{group.name}.{site}": value for site, value in values.items()}

    def _starting_means(self, group: Group, weights: Tensor) -> Tensor:
        if isinstance(self.start_means, tuple):
            return torch.tensor(self.start_means, dtype=group.dtype, device=group.device)
        if self.start_means == "range":
            low, high = weights.aminmax()
            if low == high or self.slabs == 1:  # slabs that start as one never part
                middle, half = (low + high) / 2, self.start_deviation * (self.slabs > 1)
                low, high = middle - half, middle + half
            steps = torch.linspace(0, 1, self.slabs, dtype=group.dtype, device=group.device)
            return low + (high - low) * steps
        ranks = (torch.arange(self.slabs, device=group.device) + 0.5) / self.slabs
        # torch.quantile refuses more than 16 million values.
        return weights.sort().values[(ranks * len(weights)).long()]

    def _zero(self, group: Group) -> Tensor:
        if isinstance(self.zero_proportion, Beta):
            return _sample(group, "zero_proportion", self.zero_proportion.over(group))
        return group.constant(self.zero_proportion)

    def _precision(
        self, group: Group, site: str, spec: float | Gamma | Free, size: tuple[int, ...]
    ) -> Tensor:
        if isinstance(spec, Gamma):
            return _sample(group, site, spec.over(group, size))
        if spec == "free":
            return _sample(group, site, free_positive(group, size))
        return group.constant(spec).expand(size)

    def _shares(self, group: Group) -> Tensor:
        if isinstance(self.slab_shares, Dirichlet):
            return _sample(group, "slab_shares", self.slab_shares.over(group, self.slabs))
        if self.slab_shares == "free":
            return _sample(group, "slab_shares", free_simplex(group, self.slabs))
        return group.constant(1 / self.slabs).expand(self.slabs)


def _sample(group: Group, site: str, density: dist.TorchDistribution) -> Tensor:
    """A hyperparameter of the group; plate dimensions that Pyro's Predictive puts in front go."""
    return pyro.sample(f"{group.name}.{site}", density).reshape(density.event_shape)
