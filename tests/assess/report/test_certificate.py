"""The certificate: a tail of scipy's binomial, and numbers that cannot be are refused."""

import pytest
from scipy import stats

from pyro_sws.assess.report.certificate import certificate_of_counts


@pytest.mark.parametrize(("bytes_", "mistakes", "examples"), [(1, 0, 50), (3, 7, 200), (5, 30, 60)])
@pytest.mark.parametrize("delta", [0.05, 0.01])
def test_the_bound_is_where_scipys_tail_meets_the_price_of_the_length(
    bytes_, mistakes, examples, delta
):
    found = certificate_of_counts(bytes_, mistakes, examples, delta)
    price = delta * 2.0 ** (-8 * bytes_)
    tail = stats.binom.cdf(mistakes, examples, found.bound_percent / 100)
    assert tail == pytest.approx(price, rel=1e-6)


def test_without_a_mistake_the_bound_has_a_closed_form():
    found = certificate_of_counts(10, 0, 1000, 0.05)
    assert found.bound_percent == pytest.approx(100 * (1 - (0.05 * 2.0**-80) ** (1 / 1000)))


def test_the_certificate_says_what_it_is_about():
    found = certificate_of_counts(100, 3, 2000, 0.01)
    assert (found.training_mistakes, found.training_examples, found.delta) == (3, 2000, 0.01)
    # The format says where a file ends: its bits are all that there is to describe.
    assert found.description_bits == 800


def test_a_longer_file_more_mistakes_and_less_doubt_all_raise_the_bound():
    bound = certificate_of_counts(20, 5, 1000).bound_percent
    assert certificate_of_counts(21, 5, 1000).bound_percent > bound
    assert certificate_of_counts(20, 6, 1000).bound_percent > bound
    assert certificate_of_counts(20, 5, 1000, delta=0.01).bound_percent > bound
    assert certificate_of_counts(20, 5, 1001).bound_percent < bound


def test_the_bound_lies_above_the_training_error_and_shrinks_to_it_with_data():
    bounds = [
        certificate_of_counts(10, n // 10, n).bound_percent for n in (1_000, 30_000, 1_000_000)
    ]
    assert bounds == sorted(bounds, reverse=True)
    # By Chernoff's bound on the tail, r - k/n is about sqrt(2 k/n (1 - k/n) price / n) = 0.32 %.
    assert 10 < bounds[-1] < 10.5


def test_a_bound_of_ninety_percent_says_nothing():
    assert certificate_of_counts(1000, 10, 60).vacuous
    assert certificate_of_counts(1, 60, 60).bound_percent == 100
    assert not certificate_of_counts(1000, 10, 100_000).vacuous


def test_a_file_of_a_kilobyte_has_a_finite_bound():
    # delta 2^-L is 10^-2400: no double holds it.
    assert 10 < certificate_of_counts(1000, 600, 60_000).bound_percent < 20


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((10, -1, 60), "mistakes must be in 0..examples, got -1 of 60"),
        ((10, 61, 60), "mistakes must be in 0..examples, got 61 of 60"),
        ((10, 0, 0), "got 0 of 0"),
        ((10, 1, 60, 0.0), r"delta must be in \(0, 1\), got 0.0"),
        ((10, 1, 60, 1.0), r"delta must be in \(0, 1\), got 1.0"),
        ((0, 1, 60), "a file has at least 1 byte, got 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        certificate_of_counts(*arguments)
