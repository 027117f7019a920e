"""Which components count for a block of similar weights; the order that makes blocks similar."""

import torch
from torch import Tensor

from pyro_sws.weights.blocks import LOG_2, SMALLEST_EXPONENT, Components

# Sorting takes as long as this many components: it has to save more.
WORTH_OF_SORTING = 12

# Fewer weights than this are done before it is known whether sorting would pay.
FEWEST_WEIGHTS = 65_536

SAMPLES, SAMPLES_A_BLOCK = 2048, 16


def active(low: Tensor, high: Tensor, components: Components) -> Tensor:
    """Which components count for weights in [low, high]; (B,), (B,) -> (J, B) bool.

    Exact to SMALLEST_EXPONENT: a component's log-joint is a concave parabola, greatest at its mean
    or the end nearer to it, least at one of the ends; the most probable component is everywhere at
    least as probable as the best of the least.
    """
    means = components.means.unsqueeze(1)
    rates, constants = components.rates.unsqueeze(1), components.constants.unsqueeze(1)
    greatest = constants - (rates * (means.clamp(low, high) - means)).square()
    furthest = torch.maximum((low - means).abs(), (high - means).abs())
    least = constants - (rates * furthest).square()
    return ~(greatest < least.amax(0) + SMALLEST_EXPONENT[low.dtype] / LOG_2)  # NaN counts


def pays(w: Tensor, components: Components) -> bool:
    """Whether sorting w would leave few enough components, judged by a sample of the weights."""
    if w.device.type != "cpu" or len(components) <= WORTH_OF_SORTING or len(w) < FEWEST_WEIGHTS:
        return False
    sample = w[:: len(w) // SAMPLES][:SAMPLES].sort().values.view(-1, SAMPLES_A_BLOCK)
    kept = active(sample[:, 0], sample[:, -1], components)
    return bool((~kept).sum(0).float().mean() > WORTH_OF_SORTING)


def order(w: Tensor) -> Tensor:
    """A permutation that sorts w into 256 buckets of equal width; (N,) -> (N,) int64."""
    few = w[:: max(1, len(w) // SAMPLES)].sort().values
    low, high = few[len(few) // 50], few[-1 - len(few) // 50]  # without the outliers
    bucket = (w - low).mul_(255 / (high - low).clamp_min(torch.finfo(w.dtype).tiny))
    return bucket.nan_to_num_(0).clamp_(0, 255).to(torch.uint8).sort().indices
