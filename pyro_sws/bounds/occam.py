"""Bounds on the error: what a file's length and its training errors prove about unseen data.

Let the decoder be fixed before n independent examples are drawn, and L(h) be the length in bits of
a prefix-free description of the classifier h. Then with probability 1 - delta over the examples
the bounds hold for all h at once: by Kraft's inequality h may be charged delta 2^-L(h). How h was
found costs nothing. Errors are k wrong out of n; bounds are fractions in 0..1.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.special import gammaln, logsumexp, xlog1py, xlogy


def occam_bound(errors: int, samples: int, description_bits: float, delta: float = 0.05) -> float:
    """sup { r : P[Bin(n, r) <= k] >= delta 2^-L }: the tightest of the three.

    Langford 2005, thm. 3.3; docs/theory.md, eq. 11.

    With L = 0 it is the one-sided interval of Clopper & Pearson 1934, for a test set.
    """
    _check(errors, samples, description_bits, delta)
    return binomial_tail_inverse(errors, samples, -_price(description_bits, delta))


def kl_inverse_bound(
    errors: int, samples: int, description_bits: float, delta: float = 0.05
) -> float:
    """max { r : kl(k / n, r) <= (L ln 2 + ln 1/delta) / n }: Chernoff's bound on the same tail."""
    _check(errors, samples, description_bits, delta)
    return kl_inverse(errors / samples, _price(description_bits, delta) / samples)


def hoeffding_bound(
    errors: int, samples: int, description_bits: float, delta: float = 0.05
) -> float:
    """k / n + sqrt((L ln 2 + ln 1/delta) / 2n): the loosest, in closed form; at most 1."""
    _check(errors, samples, description_bits, delta)
    return min(1.0, errors / samples + math.sqrt(_price(description_bits, delta) / (2 * samples)))


def kl_inverse(q: float, nats: float) -> float:
    """max { r >= q : kl(q, r) <= nats }, for the mean q of losses in [0, 1]. Maurer 2004, thm. 1.

    Hoeffding's (1963) bound on the tail holds for any losses in [0, 1], not for 0 and 1 alone.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a mean of losses in [0, 1] is in [0, 1], got {q}")
    if not nats >= 0:
        raise ValueError(f"nats must be at least 0, got {nats}")
    return 1.0 if q == 1 else _last(lambda r: _kl(q, r) <= nats, q, 1.0)


def bounded_loss_bound(
    mean: float, low: float, high: float, samples: int, description_bits: float, delta: float = 0.05
) -> float:
    """A bound on the expectation of losses in [low, high], in their unit, whose mean is ``mean``.

    ``kl_inverse`` of the losses' place between low and high.
    """
    _check(0, samples, description_bits, delta)
    if not low < high or not low <= mean <= high:
        raise ValueError(f"low <= mean <= high must hold, got {low}, {mean} and {high}")
    share = min(1.0, max(0.0, (mean - low) / (high - low)))
    bound = kl_inverse(share, _price(description_bits, delta) / samples)
    return low + (high - low) * bound


def description_bits(n_bytes: int, self_delimiting: bool) -> float:
    """The length in bits of a prefix-free description of a file of ``n_bytes``.

    A format that does not say where its files end pays for the byte count, in Elias's gamma code.
    """
    if n_bytes < 1:
        raise ValueError(f"a file has at least 1 byte, got {n_bytes}")
    return 8.0 * n_bytes + (0 if self_delimiting else 2 * (n_bytes.bit_length() - 1) + 1)


def binomial_tail_inverse(k: int, n: int, log_delta: float) -> float:
    """sup { r : P[Bin(n, r) <= k] >= exp(log_delta) }, rounded up by at most one float.

    In logs throughout: for a file of 1 kB the probability is e^-5000, and no double holds it.
    """
    if not 0 <= k <= n or n < 1:
        raise ValueError(f"k must be in 0..n with n at least 1, got {k} of {n}")
    if log_delta > 0 or math.isnan(log_delta):
        raise ValueError(f"log_delta must be at most 0, got {log_delta}")
    if k == n:
        return 1.0
    first = max(0, k - 60 * math.isqrt(n) - 1000)  # terms before it are bounded by a series
    j = np.arange(float(first), k + 1.0)
    log_binomial = gammaln(n + 1) - gammaln(j + 1) - gammaln(n - j + 1)

    def likely(r: float) -> bool:
        terms = log_binomial + xlogy(j, r) + xlog1py(n - j, -r)
        tail = logsumexp(terms)
        if first:
            if (ratio := first * (1 - r) / ((n - first + 1) * r) if r else 1.0) >= 1:
                return True  # r is far below k / n, where the tail is nearly 1
            tail = np.logaddexp(tail, terms[0] + math.log(ratio / (1 - ratio)))
        return tail >= log_delta

    return _last(likely, 0.0, 1.0)


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """The least float known to be past the last r in [low, high) where ``holds``: bisection."""
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def _kl(q: float, r: float) -> float:
    """Divergence in nats of Bernoulli(q) from Bernoulli(r)."""
    return float(xlogy(q, q) - xlogy(q, r) + xlogy(1 - q, 1 - q) - xlog1py(1 - q, -r))


def _price(description_bits: float, delta: float) -> float:
    """L ln 2 + ln 1/delta, in nats."""
    return description_bits * math.log(2) - math.log(delta)


def _check(errors: int, samples: int, description_bits: float, delta: float) -> None:
    if samples < 1 or not 0 <= errors <= samples:
        raise ValueError(f"errors must be in 0..samples, got {errors} of {samples}")
    if not description_bits >= 0:
        raise ValueError(f"description_bits must be at least 0, got {description_bits}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
