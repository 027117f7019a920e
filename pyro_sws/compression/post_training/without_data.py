"""Which multiple of a step each weight takes where there is no data: the fewest bits at an error.

Without data the curvature is the identity, in units of each tensor's own mean square: what is lost
is the relative squared error ||dw||^2 / ||w||^2. A weight's symbol then depends on its magnitude
alone, so that all is decided on a histogram of magnitudes: of the leading bits of float32s, which
are all bits of half-precision weights. The errors that are told of are exact all the same.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pyro_sws.codec.symbols import MAX_LEVELS

TOLERANCE = 0.005  # ||dw||^2 / ||w||^2 of each tensor
LEAST = 1e-6  # tolerance: below it a file of half-precision weights is no shorter than they are
DROPPED = (
    13  # bits of a float32 that do not tell bins apart; float16 and bfloat16 have none of them
)
BINS = 1 << (32 - DROPPED)  # one half of them for weights below 0
BLOCK = 1 << 21  # weights that are worked on at once
# What a bit is worth, in squared steps: where rounding errors are uniform, and an error of
# step^2 / 12 falls by 2 ln 2 of itself with each bit.
BIT = math.log(2) / 6
PASSES = 3  # over the symbols, each at the rates that the one before led to
NARROWINGS = 24  # halvings of the interval in which the step lies, in logarithms
PSEUDOCOUNT = 0.5  # of a symbol that no weight takes
TIGHTENED = 0.98  # of the tolerance, where rounding to the tensor's own dtype adds to the error
ATTEMPTS = 4
INSIDE = 1 - 2.0**-20  # of a dtype's largest number: so that products do not round beyond it


@dataclass(frozen=True, eq=False)
class OnGrid:
    """A tensor as multiples of a step."""

    symbols: np.ndarray  # places in the codebook, unsigned, in the tensor's shape
    codebook: np.ndarray  # whole numbers, ascending
    step: np.float32
    relative_error: float  # ||dw||^2 / ||w||^2, of values in the tensor's own dtype


def on_grid(tensor: Tensor, tolerance: float) -> OnGrid | None:
    """The tensor with the fewest bits, by order-0 entropy, at a relative squared error.

    Args:
        tensor: floats of any shape, without NaN.
        tolerance: at most this much is the error; see ``check_tolerance``.

    Returns:
        None where a grid has no room for the weights: they are infinite, their magnitudes, or the
        step, are beyond float32, or more different symbols would be needed than a codebook has.
    """
    if any(part.isinf().any() for part in _blocks(tensor)):
        return None
    if tensor.dtype == torch.float64 and not _in_float32(tensor):
        return None
    sizes = Sizes.of(tensor)
    if not sizes.power:
        zeros = np.zeros(tuple(tensor.shape), np.uint8)
        return OnGrid(zeros, np.zeros(1, np.float16), np.float32(1), 0.0)
    aim = tolerance
    for _ in range(ATTEMPTS):
        chosen = _chosen(sizes, aim, torch.finfo(tensor.dtype).max * INSIDE)
        found = None if chosen is None else _applied(tensor, sizes, chosen)
        if found is None or found.relative_error <= tolerance:
            return found
        aim *= TIGHTENED * tolerance / found.relative_error
    return None


def check_tolerance(tolerance: float) -> None:
    """Raise ValueError for one that is not a number in [LEAST, 1)."""
    if not LEAST <= tolerance < 1:
        raise ValueError(
            f"tolerance is the relative squared error of each tensor's weights, at least {LEAST:g} "
            f"and below 1, got {tolerance}"
        )


@dataclass(frozen=True, eq=False)
class Sizes:
    """Weights by the leading bits of their float32s; arrays are over the bins that have some."""

    bins: np.ndarray  # of 0..BINS - 1, ascending
    counts: np.ndarray
    totals: np.ndarray  # sums of |w|
    squares: np.ndarray  # sums of w^2

    @staticmethod
    def of(tensor: Tensor) -> "Sizes":
        """A histogram of all weights, block by block."""
        sums = np.zeros((3, BINS))
        for part in _blocks(tensor):
            at, size = bins_of(part), part.double().abs().numpy()
            sums[0] += np.bincount(at, minlength=BINS)
            sums[1] += np.bincount(at, size, BINS)
            sums[2] += np.bincount(at, size * size, BINS)
        bins = np.flatnonzero(sums[0])
        return Sizes(bins, *sums[:, bins])

    @property
    def power(self) -> float:
        """||w||^2"""
        return float(self.squares.sum())

    @property
    def signs(self) -> np.ndarray:
        """1 or -1"""
        return np.where(self.bins < BINS // 2, 1, -1)

    def unsigned(self) -> "Sizes":
        """Weights of both signs together."""
        bins, place = np.unique(self.bins % (BINS // 2), return_inverse=True)
        sums = [np.bincount(place, each) for each in (self.counts, self.totals, self.squares)]
        return Sizes(bins, *sums)


@dataclass(frozen=True, eq=False)
class Multiples:
    """Of each bin of magnitudes: which multiple of the step it becomes."""

    multiples: np.ndarray  # whole numbers >= 0
    step: float
    relative_error: float


def bins_of(part: Tensor) -> np.ndarray:
    """The bin of each weight of a vector."""
    return (part.float().numpy().view(np.uint32) >> DROPPED).astype(np.int64)


def _in_float32(tensor: Tensor) -> bool:
    largest = float(tensor.abs().max()) if tensor.numel() else 0.0
    known = torch.finfo(torch.float32)
    return largest == 0 or known.tiny <= largest <= known.max * INSIDE


def _blocks(tensor: Tensor) -> Iterator[Tensor]:
    yield from tensor.detach().cpu().reshape(-1).split(BLOCK)


def _chosen(sizes: Sizes, tolerance: float, largest: float) -> tuple[np.ndarray, float] | None:
    """Multiples of all bins, signed, and the step; None where float32 does not hold the step."""
    whole = sizes.unsigned()
    best = _widest(whole, tolerance, largest)
    if best is None or not np.finfo(np.float32).tiny <= best.step:
        return None
    place = np.searchsorted(whole.bins, sizes.bins % (BINS // 2))
    return sizes.signs * best.multiples[place] + 0.0, best.step  # -0.0 becomes 0.0


def _widest(sizes: Sizes, tolerance: float, largest: float) -> Multiples | None:
    """The largest step whose error is within the tolerance, or nearly: by bisection."""
    means = sizes.totals / sizes.counts
    # A step at which errors of at most half of it are within, and one that leaves only zeros.
    low = 2 * math.sqrt(tolerance * sizes.power / sizes.counts.sum())
    high = 2 * float(means.max()) / math.sqrt(BIT)
    best = None
    while best is None and low > 0:
        tried = _at_step(sizes, means, low, largest)
        best, low = (tried, low) if tried.relative_error <= tolerance else (None, low / 2)
    low, high = math.log(low or 1), math.log(max(low, high))
    for _ in range(NARROWINGS if best is not None else 0):
        middle = (low + high) / 2
        tried = _at_step(sizes, means, math.exp(middle), largest)
        if tried.relative_error <= tolerance:
            best, low = tried, middle
        else:
            high = middle
    return best


def _at_step(sizes: Sizes, means: np.ndarray, step: float, largest: float) -> Multiples:
    """The multiples of least squared error and bits, and the step that then suits them best."""
    nearest = np.minimum(np.rint(means / step), np.floor(largest / step))
    multiples = nearest
    for _ in range(PASSES):
        bits = _bits(multiples, sizes.counts)
        multiples, least = np.zeros_like(nearest), (means / step) ** 2 + BIT * bits(0)
        for tried in (nearest, nearest - 1, nearest - 2):
            cost = (means / step - tried) ** 2 + BIT * bits(tried)
            better = (cost < least) & (tried > 0)
            multiples, least = np.where(better, tried, multiples), np.where(better, cost, least)
    kept = float((sizes.totals * multiples).sum())
    if kept:
        along = float((sizes.counts * multiples**2).sum())
        step = min(kept / along, largest / float(multiples.max()))
    return Multiples(multiples, step, error_of(sizes, multiples * step))


def _bits(multiples: np.ndarray, counts: np.ndarray) -> Callable[[ArrayLike], np.ndarray]:
    """What multiples cost, as a function of arrays of them, where so many weights take these."""
    levels, place = np.unique(multiples, return_inverse=True)
    taken = np.bincount(place, counts) + PSEUDOCOUNT
    cost = np.log2(taken.sum() / taken) + (levels > 0)  # and a bit for the sign
    unseen = math.log2(taken.sum() / PSEUDOCOUNT) + 1

    def bits(tried: ArrayLike) -> np.ndarray:
        at = np.minimum(np.searchsorted(levels, tried), len(levels) - 1)
        return np.where(levels[at] == tried, cost[at], unseen)

    return bits


def error_of(sizes: Sizes, values: np.ndarray) -> float:
    """||w - v||^2 / ||w||^2 where the weights of a bin have the magnitude v."""
    squares = sizes.squares - 2 * values * sizes.totals + values**2 * sizes.counts
    return max(0.0, float(squares.sum())) / sizes.power


def _applied(tensor: Tensor, sizes: Sizes, chosen: tuple[np.ndarray, float]) -> OnGrid | None:
    multiples, step = chosen[0], np.float32(chosen[1])
    levels, place = np.unique(multiples, return_inverse=True)
    exact = np.abs(levels).max() <= 1 << 11  # float16 has whole numbers up to it
    codebook = levels.astype(np.float16 if exact else np.float32)
    if len(codebook) > MAX_LEVELS or np.abs(levels).max() >= 1 << 24:
        return None
    values = torch.from_numpy(codebook.astype(np.float32)[place] * step)
    stored = values.to(tensor.dtype).double().abs().numpy()
    table = np.zeros(BINS, np.uint8 if len(codebook) <= 256 else np.uint16)
    table[sizes.bins] = place
    symbols = np.empty(tensor.numel(), table.dtype)
    for i, part in enumerate(_blocks(tensor)):
        symbols[i * BLOCK : i * BLOCK + len(part)] = table[bins_of(part)]
    error = error_of(sizes, stored)
    return OnGrid(symbols.reshape(tuple(tensor.shape)), codebook, step, error)
