"""The order-0 code: adaptive statistics of a tensor's symbols, no neighbours and no table.

"Is it the zero symbol?" for each weight, then for those that are not, which half of the remaining
symbols, down a balanced binary tree. The decisions of one node, in the order of the weights, are
one sequence for the arithmetic coder, so each node has an estimator of its own. Its prior comes in
two forms: Beta(1/2, 1/2), best for few or unequal symbols, and spread, Beta(a/2, b/2) for a and b
symbols below, which makes the whole tree the estimator of Krichevsky & Trofimov (1981).
"""

import math

import numpy as np

from pyro_sws.codec.arithmetic import LEAST
from pyro_sws.codec.stream import Stream


def code(
    stream: Stream,
    symbols: np.ndarray,
    levels: int,
    zero: int | None,
    spread: bool,
    least: int = LEAST,
) -> None:
    """Code 1-d symbols of at least two levels; reading, they are written in place."""

    def tree(symbols: np.ndarray, first: int, last: int) -> np.ndarray:
        """Symbols first..last-1: a bit each for the upper half, then the lower, then the upper."""
        if last - first < 2 or not symbols.size:
            return np.full_like(symbols, first)
        middle = _middle(first, last)
        prior = (middle - first, last - first) if spread else (1, 2)
        upper = stream.sequence((symbols >= middle).view(np.uint8), *prior, least=least).view(bool)
        symbols[~upper] = tree(symbols[~upper], first, middle)
        symbols[upper] = tree(symbols[upper], middle, last)
        return symbols

    if zero is None:
        symbols[:] = tree(symbols, 0, levels)
        return
    nonzero = stream.sequence((symbols != zero).view(np.uint8), least=least).view(bool)
    ranks = symbols[nonzero]
    np.subtract(ranks, ranks > zero, out=ranks)
    ranks = tree(ranks, 0, levels - 1)
    np.add(ranks, ranks >= zero, out=ranks)
    symbols[:] = zero
    symbols[nonzero] = ranks


def shorter(counts: np.ndarray, zero: int | None) -> tuple[bool, float]:
    """Which prior is shorter for symbols with these counts, and how many bits it takes."""
    whole, spread = (ideal_bits(counts, zero, spread) for spread in (False, True))
    return spread < whole, min(spread, whole)


def ideal_bits(counts: np.ndarray, zero: int | None, spread: bool) -> float:
    """The length in bits that exact arithmetic would reach."""
    if zero is None or len(counts) < 2:
        return _tree_bits(counts, spread)
    others = np.delete(counts, zero)
    return beta_bits(int(counts[zero]), int(others.sum())) + _tree_bits(others, spread)


def beta_bits(zeros: int, ones: int, a: float = 0.5, b: float = 0.5) -> float:
    """-log2 of B(n0 + a, n1 + b) / B(a, b): bits of a sequence under a Beta(a, b) prior."""
    nats = _log_beta(a, b) - _log_beta(zeros + a, ones + b)
    return max(0.0, nats / math.log(2))  # an empty sequence is 0 up to rounding


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _middle(first: int, last: int) -> int:
    return (first + last + 1) // 2


def _tree_bits(counts: np.ndarray, spread: bool) -> float:
    if len(counts) < 2 or not counts.any():
        return 0.0
    middle = _middle(0, len(counts))
    lower, upper = counts[:middle], counts[middle:]
    prior = (len(lower) / 2, len(upper) / 2) if spread else (0.5, 0.5)
    below = _tree_bits(lower, spread) + _tree_bits(upper, spread)
    return beta_bits(int(lower.sum()), int(upper.sum()), *prior) + below
