"""Bounds on the rate: bits that codes of known merit take, and what bounds what.

Those of counts take a vector of them, one for each symbol of the alphabet, those that are 0
included, in which n is the sum and K the length. None says what one real file takes, and a code
with context can go below all of them.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln, xlogy


def empirical_entropy_bits(counts: np.ndarray) -> float:
    """n H = sum_k c_k log2(n / c_k): the memoryless floor, for any code with one static table."""
    c = _checked(counts)
    return _bits(xlogy(c.sum(), c.sum()) - xlogy(c, c).sum())


def enumerative_bits(counts: np.ndarray) -> float:
    """log2 of n! / prod c_k! (which arrangement) and of binom(n + K - 1, K - 1) (which counts).

    Cover 1973. The exact length when all counts, then all arrangements of them, are equally likely.
    """
    c = _checked(counts)
    n, k = c.sum(), len(c)
    arrangement = gammaln(n + 1) - gammaln(c + 1).sum()
    return _bits(arrangement + gammaln(n + k) - gammaln(n + 1) - gammaln(k))


def nml_bits(counts: np.ndarray) -> float:
    """n H + log2 C(K, n): the normalised maximum likelihood code (Shtarkov 1987).

    C(K, n) sums the maximal likelihood over all sequences. No code that does not know the source
    has a smaller worst-case excess over n H than log2 C(K, n).
    """
    c = _checked(counts)
    return empirical_entropy_bits(c) + _bits(log_parametric_complexity(len(c), int(c.sum())))


def kt_bits(counts: np.ndarray) -> float:
    """The Dirichlet-1/2 mixture's length, which adaptive coding reaches without any table.

    -log2 of Gamma(K/2) / Gamma(n + K/2) prod_k Gamma(c_k + 1/2) / Gamma(1/2); Krichevsky & Trofimov
    1981. The coder's own length differs from it: it makes a binary estimate at each node of a tree.
    """
    c = _checked(counts)
    n, k = c.sum(), len(c)
    seen = gammaln(c + 0.5).sum() - k * gammaln(0.5)
    return _bits(gammaln(n + k / 2) - gammaln(k / 2) - seen)


def rate_distortion_bits(entropy_bits: float, distortion: float, n: int) -> float:
    """Shannon's lower bound: n (h - 1/2 log2(2 pi e D)), at least 0; Cover & Thomas 2006, ch. 10.

    No code, of any length of blocks, gives n independent weights of differential entropy h bits
    each to within a mean squared error D in fewer bits. It bounds codes for weights that are drawn
    from that density, not for these; and a network does not care for squared errors: a diagnostic.
    Scalar quantisation with entropy coding is at most 0.754 bits a weight above the least rate at
    D (Ziv 1985).
    """
    if not distortion > 0 or n < 0:
        raise ValueError(f"distortion must be positive and n at least 0, got {distortion} and {n}")
    return max(0.0, n * (entropy_bits - 0.5 * math.log2(2 * math.pi * math.e * distortion)))


def permutation_slack_bits(units: Sequence[int]) -> float:
    """sum log2 u! over layers of u hidden units: what the freedom of their order is worth.

    So many networks compute the same function; a code for the function alone could save so much of
    one for the weights in a given order, and rewriting units into another order no more.
    """
    if any(u < 0 for u in units):
        raise ValueError(f"numbers of units must be at least 0, got {list(units)}")
    return _bits(sum(float(gammaln(u + 1)) for u in units))


def log_parametric_complexity(levels: int, n: int) -> float:
    """ln C(K, n) for K levels and n symbols, by the recurrence of Kontkanen & Myllymaki 2007.

    C(k + 2) = C(k + 1) + (n / k) C(k), kept as ratios of neighbours: C itself outgrows a double.
    """
    log_complexity, ratio = 0.0, 1.0
    for k in range(levels - 1):  # from C(k + 1) to C(k + 2)
        ratio = 1 + n / k / ratio if k else _binary_complexity(n)
        log_complexity += math.log(ratio)
    return log_complexity


def _binary_complexity(n: int) -> float:
    """C(2, n) = sum_h binom(n, h) (h / n)^h (1 - h / n)^(n - h); n terms of at most 1."""
    h = np.arange(n + 1.0)
    log_binomial = gammaln(n + 1) - gammaln(h + 1) - gammaln(n - h + 1)
    log_likelihood = xlogy(h, h) + xlogy(n - h, n - h) - xlogy(n, n)
    return float(np.exp(log_binomial + log_likelihood).sum())


def _bits(nats: float) -> float:
    """Nats to bits; lengths that are 0 come out as 0, not as a rounding error below it."""
    return max(0.0, float(nats) / math.log(2))


def _checked(counts: np.ndarray) -> np.ndarray:
    c = np.asarray(counts)
    if c.ndim != 1 or not c.size:
        raise ValueError(f"counts must be a vector, one a symbol; got shape {c.shape}")
    if not np.isfinite(c).all() or (c < 0).any() or (c != np.floor(c)).any():
        raise ValueError(f"counts must be whole numbers from 0, got {c}")
    return c.astype(np.float64)
