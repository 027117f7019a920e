"""Slabs tied to a grid with learned spacing: values that integer hardware can multiply by."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Free, Gamma, free_positive
from pyro_sws.inference.priors.initialization import Initialization, initialize
from pyro_sws.inference.priors.sites import (
    check_positive,
    named,
    sample,
    sample_precision,
    sample_shares,
    sample_zero,
    spike_and_slabs,
)
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import MixturePrior

MOST_STEPS = {"even": 2048, "powers_of_two": 16}  # integers that float16 holds exactly


@dataclass(frozen=True)
class Grid:
    """Means at spacing x (-steps .. -1, 0, 1 .. steps), or spacing x (0, +-1, +-2, +-4, ...).

    The file holds the integers and the spacing, so that a layer can be computed in integers (or
    shifts) and scaled once. As powers of two: Zhou et al. 2017 (INQ); evenly spaced with a learned
    step: Esser et al. 2020 (LSQ). Widths are absolute, which keeps the spacing from shrinking.

    Sites: ``spacing`` (), ``slab_precisions`` (2 steps,), ``slab_shares`` (2 steps,),
    ``spike_precision`` () and ``zero_proportion`` (), each only where it is learned.
    """

    __pydantic_config__ = {"extra": "forbid"}
    steps: int = 8  # on either side of 0
    kind: Literal["even", "powers_of_two"] = "even"
    zero_proportion: float | Beta = 0.999
    spike_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(5000.0, 2.0))
    slab_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(250.0, 0.1))
    slab_shares: Dirichlet | Free | Literal["equal"] = "free"
    # The spacing starts such that the outermost of so many slabs' starting means is on the grid.
    initialization: Initialization = "range"
    start_deviation: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        most = MOST_STEPS[self.kind]
        if not 1 <= self.steps <= most:
            raise ValueError(
                f"steps must be in 1..{most} on a grid of {self.kind}, got {self.steps}"
            )
        if isinstance(self.zero_proportion, int | float) and not 0 < self.zero_proportion < 1:
            raise ValueError(f"zero_proportion must be in (0, 1), got {self.zero_proportion}")
        check_positive(self, "spike_precision", "slab_precision", "start_deviation")

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        levels = self._levels(group)
        spacing = sample(group, "spacing", free_positive(group))
        precisions = sample_precision(group, "slab_precisions", self.slab_precision, (len(levels),))
        shares = sample_shares(group, self.slab_shares, len(levels))
        zero = sample_zero(group, self.zero_proportion)
        spike = sample_precision(group, "spike_precision", self.spike_precision)
        # In units of the spacing: the values are integers, and the spacing is their scale.
        unit = spacing.square()
        mixture = spike_and_slabs(zero, spike * unit, levels, precisions * unit, shares)
        return MixturePrior(mixture, spacing.expand(group.size), fixed_levels=True)

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the learned sites, given the group's trained weights (N,)."""
        levels = self._levels(group)
        values = weights.detach().double()
        start = initialize(self.initialization, values, len(levels), self.start_deviation)
        reach = start.means.abs().max().clamp_min(self.start_deviation)
        sites = {"spacing": reach / levels.max()}
        if not isinstance(self.slab_precision, int | float):
            sites["slab_precisions"] = start.deviations.mean().repeat(len(levels)) ** -2
        if self.slab_shares != "equal":
            sites["slab_shares"] = group.constant(1 / len(levels)).repeat(len(levels))
        if isinstance(self.zero_proportion, Beta):
            sites["zero_proportion"] = group.constant(self.zero_proportion.mean)
        if not isinstance(self.spike_precision, int | float):
            sites["spike_precision"] = start.spike_deviation**-2
        return named(group, sites)

    def _levels(self, group: Group) -> Tensor:
        """The grid without 0, ascending, in units of the spacing; (2 steps,)."""
        steps = torch.arange(self.steps, dtype=group.dtype, device=group.device)
        positive = steps + 1 if self.kind == "even" else 2**steps
        return torch.cat([-positive.flip(0), positive])
