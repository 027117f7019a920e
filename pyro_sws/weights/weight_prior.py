"""The border between a prior and what follows it: a density over flat weights. Torch only."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.slope_table import approximate_slopes


class WeightPrior(Protocol):
    """A density over a group's flat weights (N,), and the values to which it snaps them.

    Implementations are frozen dataclasses with a field ``mixture``, which merging replaces by one
    of fewer components; no other field may depend on how many there are. They may give every weight
    its own scale or zero proportion (by tensor, row or channel): that stays behind this border.
    They may have a method ``approximate_slopes(flat, places=None) -> (N,)`` as MixturePrior has,
    which makes estimates from a sample of the weights less noisy.
    """

    @property
    def mixture(self) -> Mixture:
        """The shape that the group shares, over weights divided by their scale."""
        ...

    def log_prob(self, flat: Tensor, places: slice | Tensor | None = None) -> Tensor:
        """log p(flat) in nats, summed; (N,) -> scalar.

        ``places``, where given, says where in the group the weights in ``flat`` lie.
        """
        ...

    def assign(self, flat: Tensor) -> Tensor:
        """Each weight's index in its tensor's codebook; (N,) -> (N,) int64."""
        ...

    def codebook(self, part: slice) -> Tensor:
        """The distinct values, before scaling, of the tensor that lies in ``part``; (K,)."""
        ...

    def scale(self, part: slice) -> Tensor | None:
        """What the codebook's values are multiplied by, weight by weight, or None for 1; (n,)."""
        ...

    def proportions(self, part: slice) -> Tensor:
        """How probable the codebook's values are in the tensor that lies in ``part``; (K,)."""
        ...

    def sample(self, size: int) -> Tensor:
        """A draw of the group's weights (size,)."""
        ...


@dataclass(frozen=True)
class MixturePrior:
    """Independent weights: each, divided by its scale, under one shared mixture."""

    mixture: Mixture
    scales: Tensor | None = None  # (N,) positive; None means 1

    def log_prob(self, flat: Tensor, places: slice | Tensor | None = None) -> Tensor:
        if self.scales is None:
            return self.mixture.total_log_prob(flat)
        scales = self.scales if places is None else self.scales[places]
        return self.mixture.total_log_prob(flat / scales) - scales.log().sum()

    def approximate_slopes(self, flat: Tensor, places: slice | Tensor | None = None) -> Tensor:
        """About d log p(flat) / d flat, cheaply and without a gradient of its own; (N,) -> (N,)."""
        if self.scales is None:
            return approximate_slopes(self.mixture, flat)
        scales = self.scales.detach()
        scales = scales if places is None else scales[places]
        return approximate_slopes(self.mixture, flat / scales) / scales

    def assign(self, flat: Tensor) -> Tensor:
        return self.mixture.assign(flat if self.scales is None else flat / self.scales)

    def codebook(self, part: slice) -> Tensor:
        return self.mixture.levels

    def scale(self, part: slice) -> Tensor | None:
        return None if self.scales is None else self.scales[part]

    def proportions(self, part: slice) -> Tensor:
        return self.mixture.level_proportions

    def sample(self, size: int) -> Tensor:
        draws = self.mixture.sample((size,))
        return draws if self.scales is None else draws * self.scales
