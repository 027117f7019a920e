"""A spike whose proportion and width differ from weight to weight, and shared slabs. Torch only."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.weights.lookup_tables import tilted_slopes
from pyro_sws.weights.mixture import Mixture


@dataclass(frozen=True)
class TiltedPrior:
    """p(w_i) = [z e^o_i N(w_i; 0, e^-r_i / s) + S(w_i)] / [z e^o_i + 1 - z].

    z and s are proportion and precision of the mixture's first component, a spike at 0; S is the
    sum of its other components. The log-odds of weight i to be the spike's are log z/(1 - z) + o_i.
    """

    mixture: Mixture
    offsets: Tensor  # o (N,), in nats
    log_ratios: Tensor | None = None  # r (N,), of the spike's precision; None means 0

    def log_prob(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        offsets, ratios = self._at(indices)
        log_z, log_rest = self._log_split()
        normaliser = torch.logaddexp(log_z + offsets, log_rest)
        tilt = self._tilt(flat, offsets, ratios)
        return self.mixture.total_log_prob(flat, tilt) - normaliser.sum()

    def approximate_slopes(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        """About d log p(flat) / d flat, cheaply and without a gradient of its own; (N,) -> (N,)."""
        offsets, ratios = self._at(indices)
        return tilted_slopes(self.mixture, flat, offsets, ratios)

    def assign(self, flat: Tensor) -> Tensor:
        return self.mixture.assign(flat, self._tilt(flat, self.offsets, self.log_ratios))

    def responsibilities(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        """p(codebook value k | weight); (n,) -> (n, K)."""
        return self.mixture.level_responsibilities(flat, self._tilt(flat, *self._at(indices)))

    def codebook(self, part: slice) -> Tensor:
        return self.mixture.levels

    def scale(self, part: slice) -> Tensor | None:
        return None

    def zero_proportions(self, part: slice) -> Tensor:
        """Each weight's own prior probability of being the spike's; (n,)."""
        log_z, log_rest = self._log_split()
        return (self.offsets[part] + log_z - log_rest).sigmoid()

    def proportions(self, part: slice) -> Tensor:
        """The tensor's mean: the spike's proportion averaged over its weights."""
        own = self.zero_proportions(part).mean()
        rest = self.mixture.proportions[1:]
        shares = torch.cat([own.view(1), rest * (1 - own) / rest.sum()])
        return replace(self.mixture, proportions=shares).level_proportions

    @torch.no_grad()
    def sample(self, size: int) -> Tensor:
        whole = slice(0, size)
        at_zero = torch.rand_like(self.offsets) < self.zero_proportions(whole)
        spread = torch.zeros_like(self.offsets) if self.log_ratios is None else self.log_ratios
        spike = torch.randn_like(self.offsets) * (self.mixture.precisions[0] * spread.exp()).rsqrt()
        if len(self.mixture) == 1:
            return spike
        slabs = Mixture(*(values[1:] for values in vars(self.mixture).values()))
        return torch.where(at_zero, spike, slabs.sample((size,)))

    def _log_split(self) -> tuple[Tensor, Tensor]:
        """log z and log(1 - z); the latter from the others, which may be few, or none: -inf."""
        proportions = self.mixture.proportions
        return proportions[0].log(), proportions[1:].sum().log()

    def _at(self, indices: slice | Tensor | None) -> tuple[Tensor, Tensor | None]:
        ratios = None if self.log_ratios is None else _taken(self.log_ratios, indices)
        return _taken(self.offsets, indices), ratios

    def _tilt(self, flat: Tensor, offsets: Tensor, ratios: Tensor | None) -> Tensor:
        """What is added to the spike's log-joint, weight by weight: a wider or narrower one too."""
        if ratios is None:
            return offsets
        return offsets + 0.5 * (
            ratios - ratios.expm1() * self.mixture.precisions[0] * flat.square()
        )


def _taken(values: Tensor, indices: slice | Tensor | None) -> Tensor:
    if isinstance(indices, Tensor):
        return values.index_select(0, indices)  # its gradient is much faster than indexing's
    return values if indices is None else values[indices]
