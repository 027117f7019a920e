"""Which of a group's weights a step evaluates the prior on: a rank's part, a random sample."""

import math
from dataclasses import dataclass

import torch
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor

from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.isolation import RefusedInTrace
from pyro_sws.weights.weight_prior import WeightPrior


@dataclass(frozen=True)
class Subset:
    """A rank's part of a group's weights, and the sample of it that stands for the whole part."""

    part: slice
    ranks: int
    sample: Tensor | None = None  # (K,) indices into the part; None for all of it

    def estimate(self, prior: WeightPrior, flat: Tensor) -> Tensor:
        """The part's own log p(flat), times ``ranks``: the mean over the ranks is log p(flat).

        With S a sample of K of the part's n weights, and constants c_i near the slopes of log p,

            sum_i c_i w_i  +  n/K sum_(i in S) [ log p(w_i) - c_i w_i ]

        whose expectation over S, and that of its gradient, is exact whatever c is. With c = 0, for
        a prior without ``approximate_slopes``, it is Ullrich et al. 2017, app. C, eq. 13: there a
        weight gets n/K times its slope in one step and nothing in the next, which Adam takes for
        noise. With the slopes, only the hyperparameters' gradients feel the sampling.
        """
        own = flat if self.ranks == 1 else flat[self.part]  # a slice's gradient is a copy
        if self.sample is None:
            return self.ranks * prior.log_prob(own, self.part)
        seen = own.index_select(0, self.sample)  # its gradient is much faster than indexing's
        value = prior.log_prob(seen, self.sample + self.part.start)
        factor = len(own) / len(seen)
        slopes_of = getattr(prior, "approximate_slopes", None)
        if slopes_of is None:
            return self.ranks * factor * value
        slopes = slopes_of(own.detach(), self.part)
        believed = slopes.index_select(0, self.sample) @ seen
        return self.ranks * (slopes @ own + factor * (value - believed))


def draw_subset(
    size: int, fraction: float | None, ranks: Ranks, device: torch.device
) -> Subset | None:
    """Where a step evaluates the prior of a group of ``size`` weights, or None for everywhere.

    Of the rank's n weights, K = fraction n (rounded up) in a systematic random sample: the indices
    floor((k + u) n / K), k = 0..K-1, for one u uniform in [0, 1). Each weight is in it with
    probability K / n. Raises ValueError in a Markov chain.
    """
    if fraction is None and ranks.count == 1:
        return None
    if fraction is not None and fraction < 1:  # 1: all of them, whatever u is
        _refuse_chains()
    part = ranks.weights(size)
    n = part.stop - part.start
    if fraction is None:
        return Subset(part, ranks.count)
    u = torch.rand((), dtype=torch.float64, device=device)  # by a rank without weights too
    if n == 0:
        return Subset(part, ranks.count)
    k = math.ceil(fraction * n)
    indices = (torch.arange(k, dtype=torch.float64, device=device) + u) * (n / k)
    return Subset(part, ranks.count, indices.long().clamp_(max=n - 1))  # rounding can reach n


def _refuse_chains() -> None:
    """Raise ValueError inside HMC or NUTS, whose steps need one density all along."""
    handlers = {type(handler) for handler in _PYRO_STACK}
    # Pyro's chains alone run a model under the enumeration of discrete sites and no guide's replay.
    if EnumMessenger in handlers and ReplayMessenger not in handlers:
        raise RefusedInTrace(
            "prior_subsample estimates the prior anew in every evaluation, and a chain needs one "
            "density; run NUTS on joint(...) without it"
        )
