"""Bounds on the error, against Clopper & Pearson, exact binomials and a simulation."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from pyro_sws.bounds.occam import (
    binomial_tail_inverse,
    description_bits,
    hoeffding_bound,
    kl_inverse_bound,
    occam_bound,
)

EVERY = [occam_bound, kl_inverse_bound, hoeffding_bound]
every_bound = pytest.mark.parametrize("bound", EVERY)


@pytest.mark.parametrize("k, n", [(0, 10), (3, 10), (97, 10_000), (9999, 10_000), (600, 60_000)])
@pytest.mark.parametrize("delta", [0.3, 0.05, 1e-9])
def test_without_a_description_it_is_clopper_and_pearson(k, n, delta):
    assert occam_bound(k, n, 0, delta) == pytest.approx(beta.ppf(1 - delta, k + 1, n - k), rel=1e-9)


def test_no_errors_have_a_closed_form():
    """(1 - r)^n = delta 2^-L."""
    expected = -math.expm1((math.log(0.05) - 8000 * math.log(2)) / 60_000)
    assert occam_bound(0, 60_000, 8000) == pytest.approx(expected, rel=1e-9)


def test_it_holds_far_below_the_least_double():
    """Oracle: the tail in exact fractions, at probabilities near 2^-20000."""
    k, n, bits = 5, 400, 2000
    r = binomial_tail_inverse(k, n, -bits * math.log(2))

    def tail(p):
        return sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k + 1))

    assert tail(Fraction(r) * (1 - Fraction(1, 10**9))) > Fraction(1, 2**bits)
    assert tail(Fraction(r) + (1 - Fraction(r)) / 10**9) < Fraction(1, 2**bits)
    assert binom.logcdf(3000, 60_000, 0.5) == -math.inf  # why it is done in logs


def test_it_is_rounded_to_the_safe_side():
    """One sample, no error: 1 - r >= 1/2 up to r = 1/2, and the answer is the next float."""
    assert binomial_tail_inverse(0, 1, -math.log(2)) == math.nextafter(0.5, 1)


# n 60,000 and delta 0.05: bytes, training error, then the bounds, in percent
TABLE = [
    (500, 2.0, 17.3, 9.46, 9.46),
    (900, 1.1, 21.5, 11.45, 11.44),
    (1520, 0.9, 27.4, 16.26, 16.25),
    (2840, 0.8, 37.1, 26.00, 25.99),
    (3080, 0.6, 38.4, 27.08, 27.07),
    (5000, 0.8, 48.9, 39.70, 39.69),
    (8560, 1.2, 64.1, 57.70, 57.69),
    (16600, 1.0, 88.6, 79.90, 79.90),
]


@pytest.mark.parametrize("size, error, hoeffding, kl, exact", TABLE)
def test_bounds_for_files_on_mnist(size, error, hoeffding, kl, exact):
    """Figures found independently, with L = 8B + 2 log2(8B) + 1; to the digits they have."""
    k, bits = round(600 * error), 8 * size + 2 * math.log2(8 * size) + 1
    assert 100 * occam_bound(k, 60_000, bits) == pytest.approx(exact, abs=0.0051)
    assert 100 * kl_inverse_bound(k, 60_000, bits) == pytest.approx(kl, abs=0.0051)
    assert 100 * hoeffding_bound(k, 60_000, bits) == pytest.approx(hoeffding, abs=0.051)


@given(st.integers(1, 500), st.data())
def test_exact_is_tighter_than_kl_and_kl_than_hoeffding(n, data):
    k, bits = data.draw(st.integers(0, n)), data.draw(st.floats(0, 2000))
    exact, kl, hoeffding = (bound(k, n, bits) for bound in EVERY)
    assert k / n <= exact <= kl + 1e-12 and kl <= hoeffding + 1e-12 and hoeffding <= 1


@every_bound
def test_more_errors_more_bytes_and_more_confidence_loosen_it(bound):
    base = bound(50, 1000, 100, 0.05)
    assert base < bound(51, 1000, 100, 0.05)
    assert base < bound(50, 1000, 108, 0.05)
    assert base < bound(50, 1000, 100, 0.01)
    assert base > bound(100, 2000, 100, 0.05)


@every_bound
def test_nothing_right_proves_nothing(bound):
    assert bound(7, 7, 0) == 1


def test_it_holds_for_all_classifiers_at_once_in_simulation():
    """256 classifiers of 8 bits each; the best on the sample is picked. It may fail 1 time in 20.

    2,000 trials of failure probability at most 0.05 exceed 0.05 + 5 standard errors never.
    """
    rng, n, trials, delta = np.random.default_rng(0), 50, 2000, 0.05
    truth = np.linspace(0.2, 0.6, 256)
    bounds = np.array([occam_bound(k, n, 8, delta) for k in range(n + 1)])
    errors = rng.binomial(n, truth, size=(trials, 256))
    failures = (bounds[errors] < truth).any(axis=1).mean()
    assert failures <= delta + 5 * math.sqrt(delta * (1 - delta) / trials)


def test_a_format_without_an_end_pays_for_its_length():
    """Elias's gamma code of 1000 takes 2 floor(log2 1000) + 1 = 19 bits."""
    assert description_bits(1000, self_delimiting=True) == 8000
    assert description_bits(1000, self_delimiting=False) == 8019
    assert description_bits(1, self_delimiting=False) == 9


def test_lengths_without_an_end_satisfy_kraft():
    """There are 256^B files of B bytes; sum 256^B 2^-L(B) = sum 2^-gamma(B) <= 1."""
    total = sum(2.0 ** (8 * b - description_bits(b, False)) for b in range(1, 5000))
    assert 0.99 < total <= 1


@every_bound
@pytest.mark.parametrize(
    "arguments", [(-1, 9, 0), (10, 9, 0), (0, 0, 0), (1, 9, -1), (1, 9, math.nan)]
)
def test_numbers_that_cannot_be_are_refused(bound, arguments):
    with pytest.raises(ValueError, match="must be"):
        bound(*arguments)


@every_bound
@pytest.mark.parametrize("delta", [0, 1, -0.5, math.nan])
def test_a_delta_that_is_no_probability_is_refused(bound, delta):
    with pytest.raises(ValueError, match="delta must be in"):
        bound(1, 9, 8, delta)


def test_the_tail_inverse_refuses_what_has_no_answer():
    with pytest.raises(ValueError, match="k must be in 0..n"):
        binomial_tail_inverse(3, 2, -1)
    with pytest.raises(ValueError, match="log_delta must be at most 0"):
        binomial_tail_inverse(1, 2, 0.1)
    with pytest.raises(ValueError, match="at least 1 byte, got 0"):
        description_bits(0, True)
    assert binomial_tail_inverse(2, 2, -1) == 1
