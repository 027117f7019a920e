"""One pass over all the weights: compiled, or in blocks, sorted where that leaves less to do."""

import torch
from torch import Tensor

from pyro_sws.weights.density import compiled as compiled_density
from pyro_sws.weights.density.blocks import (
    LOG_2,
    SMALLEST_EXPONENT,
    Buffers,
    Components,
    DensityResult,
    Requested,
    add_block,
    block_size,
    slices,
)
from pyro_sws.weights.density.malloc import keep_freed_memory

# What a pass holds beyond inputs and gradients (an order, say) is for this many weights at most.
CHUNK_SIZE = 1 << 20

# A block of sorted weights: narrow enough to skip components, wide enough to be worth a call.
# Should they all count, the buffers still have so many numbers at most.
SORTED_BLOCK = 16_384
LARGEST_BUFFER = 1 << 21


def blockwise(
    w: Tensor,
    components: Components,
    requested: Requested,
    compiled: bool = False,
    upstream: Tensor | None = None,
    offsets: Tensor | None = None,
) -> DensityResult:
    """Log-densities of w (N,) and the sums that their gradients need; ``upstream`` (N,) weighs.

    ``offsets`` (N,), in nats, are added to the first component's log-joint.
    """
    keep_freed_memory(w)
    compiled = compiled and upstream is None
    if compiled:
        try:
            return _all_chunks(w, components, requested, compiled, None, offsets)
        except Exception as error:  # whatever stops the compiler, the portable way remains
            compiled_density.remember_failure(w.device.type, error)
    return _all_chunks(w, components, requested, False, upstream, offsets)


def _all_chunks(
    w: Tensor,
    components: Components,
    requested: Requested,
    compiled: bool,
    upstream: Tensor | None,
    offsets: Tensor | None,
) -> DensityResult:
    result = DensityResult.empty(w, len(components), requested)
    for chunk in slices(len(w), CHUNK_SIZE):
        here = result.at(chunk)
        factors = None if upstream is None else upstream[chunk]
        tilt = None if offsets is None else offsets[chunk].contiguous()
        part = w[chunk].contiguous()
        # Which components count for sorted weights is only known where all have one offset.
        if not compiled and tilt is None and sorting_pays(part, components):
            _add_sorted(here, part, components, factors)
            continue
        done = compiled_density.add_rows(here, part, components, tilt) if compiled else 0
        _add_in_order(here, part, done, components, factors, tilt)
    return result


def _add_in_order(
    result: DensityResult,
    w: Tensor,
    start: int,
    components: Components,
    upstream: Tensor | None,
    offsets: Tensor | None,
) -> None:
    size = block_size(len(components))
    buffers = Buffers(w, len(components) * min(size, len(w) - start))
    for block in slices(len(w), size, start):
        scale = None if upstream is None else upstream[block]
        tilt = None if offsets is None else offsets[block]
        add_block(result, w[block], block, components, buffers, upstream=scale, offsets=tilt)


def _add_sorted(
    result: DensityResult, w: Tensor, components: Components, upstream: Tensor | None
) -> None:
    order = bucket_order(w)
    ordered = w.index_select(0, order)
    factors = None if upstream is None else upstream.index_select(0, order)
    part = DensityResult(
        result.total,
        None if result.values is None else torch.empty_like(ordered),
        None if result.w_gradient is None else torch.empty_like(ordered),
        result.sums,
        None,
    )
    size = min(SORTED_BLOCK, LARGEST_BUFFER // len(components), len(w))
    buffers = Buffers(w, len(components) * size)
    for block, index in _active_by_block(ordered, size, components):
        scale = None if factors is None else factors[block]
        add_block(part, ordered[block], block, components, buffers, index, scale)
    homes = ((result.values, part.values), (result.w_gradient, part.w_gradient))
    for whole, ordered_part in homes:
        if whole is not None and ordered_part is not None:
            whole.scatter_(0, order, ordered_part)


def _active_by_block(
    ordered: Tensor, size: int, components: Components
) -> list[tuple[slice, Tensor]]:
    """The blocks of sorted weights, and the components (K,) that count in each."""
    blocks = slices(len(ordered), size)
    ends = torch.stack([torch.stack(ordered[block].aminmax()) for block in blocks])
    kept = active(ends[:, 0], ends[:, 1], components)
    indices = kept.T.nonzero()[:, 1].split(kept.sum(0).tolist())
    return list(zip(blocks, indices, strict=True))


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
    scales, constants = components.scales.unsqueeze(1), components.constants.unsqueeze(1)
    greatest = constants - (scales * (means.clamp(low, high) - means)).square()
    furthest = torch.maximum((low - means).abs(), (high - means).abs())
    least = constants - (scales * furthest).square()
    return ~(greatest < least.amax(0) + SMALLEST_EXPONENT[low.dtype] / LOG_2)  # NaN counts


def sorting_pays(w: Tensor, components: Components) -> bool:
    """Whether sorting w would leave few enough components, judged by a sample of the weights."""
    if w.device.type != "cpu" or len(components) <= WORTH_OF_SORTING or len(w) < FEWEST_WEIGHTS:
        return False
    sample = w[:: len(w) // SAMPLES][:SAMPLES].sort().values.view(-1, SAMPLES_A_BLOCK)
    kept = active(sample[:, 0], sample[:, -1], components)
    return bool((~kept).sum(0).float().mean() > WORTH_OF_SORTING)


def bucket_order(w: Tensor) -> Tensor:
    """A permutation that sorts w into 256 buckets of equal width; (N,) -> (N,) int64."""
    few = w[:: max(1, len(w) // SAMPLES)].sort().values
    low, high = few[len(few) // 50], few[-1 - len(few) // 50]  # without the outliers
    bucket = (w - low).mul_(255 / (high - low).clamp_min(torch.finfo(w.dtype).tiny))
    return bucket.nan_to_num_(0).clamp_(0, 255).to(torch.uint8).sort().indices
