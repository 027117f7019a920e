"""Bounds on the rate, against sums over all sequences, exact integers and sequential products."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.bounds.rates import (
    empirical_entropy_bits,
    enumerative_bits,
    kt_bits,
    log_parametric_complexity,
    nml_bits,
    permutation_slack_bits,
    rate_distortion_bits,
)

EVERY = [empirical_entropy_bits, enumerative_bits, nml_bits, kt_bits]
every_bound = pytest.mark.parametrize("bound", EVERY)
count_vectors = st.lists(st.integers(0, 1000), min_size=1, max_size=20)


def maximal_likelihood(counts) -> Fraction:
    n = sum(counts)
    return math.prod((Fraction(c, n) ** c for c in counts if c), start=Fraction(1))


@pytest.mark.parametrize("levels, n", [(1, 5), (2, 1), (2, 9), (3, 6), (4, 4), (5, 3), (3, 0)])
def test_parametric_complexity_is_the_sum_over_all_sequences(levels, n):
    """Oracle: the definition, in exact fractions."""
    total = sum(
        maximal_likelihood([s.count(k) for k in range(levels)])
        for s in itertools.product(range(levels), repeat=n)
    )
    assert log_parametric_complexity(levels, n) == pytest.approx(math.log(total), abs=1e-12)


@pytest.mark.parametrize("levels", [2, 3, 17, 257])
def test_parametric_complexity_nears_rissanens_asymptote(levels):
    """(K - 1)/2 ln(n / 2 pi) + ln(pi^(K/2) / Gamma(K/2)), and a term of order K^1.5 / n^0.5."""
    n = 10**6
    asymptote = (levels - 1) / 2 * math.log(n / (2 * math.pi))
    asymptote += levels / 2 * math.log(math.pi) - math.lgamma(levels / 2)
    found = log_parametric_complexity(levels, n)
    assert asymptote < found < asymptote + levels**1.5 / n**0.5


def test_parametric_complexity_of_a_coin_is_exact_at_a_million():
    """Szpankowski 1998: sqrt(pi n / 2) + 2/3 + sqrt(2 pi) / (24 sqrt(n)) + O(1/n)."""
    n = 10**6
    series = math.sqrt(math.pi * n / 2) + 2 / 3 + math.sqrt(2 * math.pi / n) / 24
    assert math.exp(log_parametric_complexity(2, n)) == pytest.approx(series, rel=1e-8)


@given(st.lists(st.integers(0, 3), min_size=0, max_size=30))
def test_kt_is_the_product_of_sequential_estimates(sequence):
    seen, p = [0] * 4, Fraction(1)
    for symbol in sequence:
        p *= Fraction(2 * seen[symbol] + 1, 2 * sum(seen) + 4)
        seen[symbol] += 1
    assert kt_bits(np.array(seen)) == pytest.approx(-math.log2(p), abs=1e-9)


@given(count_vectors)
def test_enumeration_is_counted_in_integers(counts):
    n, k = sum(counts), len(counts)
    arrangements = math.factorial(n) // math.prod(map(math.factorial, counts))
    expected = math.log2(arrangements) + math.log2(math.comb(n + k - 1, k - 1))
    assert enumerative_bits(np.array(counts)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("counts, bits", [([8], 0), ([4, 4], 8), ([1, 1, 1, 1], 8), ([2, 6], 6.49)])
def test_entropy_of_known_counts(counts, bits):
    assert empirical_entropy_bits(np.array(counts)) == pytest.approx(bits, abs=0.005)


@given(count_vectors)
def test_the_entropy_is_a_floor_and_nml_the_least_regret(counts):
    """NML's regret is the same for all sequences, so KT's worst case cannot be below it."""
    c = np.array(counts)
    entropy, slack = empirical_entropy_bits(c), 1e-6
    assert all(bound(c) >= entropy - slack for bound in EVERY)
    n, k = int(c.sum()), len(c)
    worst = kt_bits(np.array([n] + [0] * (k - 1)))  # a constant sequence: entropy 0
    assert worst >= nml_bits(np.array([n] + [0] * (k - 1))) - slack
    if n:
        assert kt_bits(c) - entropy <= (k - 1) / 2 * math.log2(n) + math.log2(k) + slack


@every_bound
def test_an_alphabet_of_one_costs_nothing(bound):
    assert bound(np.array([1000])) == pytest.approx(0, abs=1e-9)
    assert bound(np.array([0])) == pytest.approx(0, abs=1e-9)


@every_bound
@given(counts=count_vectors, seed=st.integers(0, 100))
def test_the_order_of_symbols_does_not_matter(bound, counts, seed):
    shuffled = np.random.default_rng(seed).permutation(counts)
    assert bound(shuffled) == pytest.approx(bound(np.array(counts)), abs=1e-6)


def test_kt_and_nml_agree_on_a_compressed_layer():
    """Both cost 15 bytes over the entropy for 17 levels among 266,200 weights, most of them 0."""
    counts = np.array([254_754] + [715] * 15 + [721])
    excess = nml_bits(counts) - empirical_entropy_bits(counts)
    assert excess == pytest.approx(123, abs=1)
    assert kt_bits(counts) - empirical_entropy_bits(counts) == pytest.approx(excess, abs=1)


@every_bound
@pytest.mark.parametrize("counts", [[], [[1, 2]], [-1, 2], [0.5, 1], [float("nan")]])
def test_what_is_not_a_vector_of_counts_is_refused(bound, counts):
    with pytest.raises(ValueError, match="counts must be"):
        bound(np.array(counts))


@pytest.mark.parametrize(("deviation", "distortion"), [(1.0, 0.25), (3.0, 0.01), (0.5, 0.2)])
def test_of_a_normal_density_shannons_bound_is_its_rate_distortion_function(deviation, distortion):
    entropy = 0.5 * np.log2(2 * np.pi * np.e * deviation**2)
    expected = max(0.0, 50 * 0.5 * np.log2(deviation**2 / distortion))
    assert rate_distortion_bits(entropy, distortion, 50) == pytest.approx(expected)


def test_no_scalar_quantiser_of_a_uniform_density_is_below_shannons_bound():
    # n uniform weights in 2^b equal cells: b bits each, and D = step^2 / 12.
    for b in (1, 4, 8):
        bound = rate_distortion_bits(0.0, 2.0 ** (-2 * b) / 12, 1)
        assert bound < b < bound + 0.2547  # 1/2 log2(2 pi e / 12)


def test_the_order_of_units_is_worth_the_logarithm_of_the_orders():
    every = [list(itertools.permutations(range(u))) for u in (5, 3)]
    orders = math.prod(map(len, every))
    assert permutation_slack_bits([5, 3]) == pytest.approx(np.log2(orders))
    assert permutation_slack_bits([]) == permutation_slack_bits([1, 0]) == 0
    # LeNet-300-100: 321 bytes.
    assert permutation_slack_bits([300, 100]) / 8 == pytest.approx(321, abs=0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rate_distortion_bits(1.0, 0.0, 5), "distortion must be positive"),
        (lambda: permutation_slack_bits([-1]), "at least 0"),
    ],
)
def test_bounds_of_what_cannot_be_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
