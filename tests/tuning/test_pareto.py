"""Dominance, the front and what is hopeless, against comparing every pair with every other."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.recipes.search_table import Pruning
from pyro_sws.tuning.pareto import dominates, is_hopeless, log_excess, pareto_front

# Few values, so that there are ties and equal pairs.
PAIRS = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=20)


def beats(one, other):
    """No worse in any, better in one: by the definition."""
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )


@given(PAIRS)
def test_a_pair_dominates_another_by_the_definition(pairs):
    assert all(dominates(one, other) == beats(one, other) for one in pairs for other in pairs)


@given(PAIRS)
def test_the_front_is_what_nothing_beats_once_each_by_rising_bytes(pairs):
    front = pareto_front(pairs)
    expected = {pair for pair in pairs if not any(beats(other, pair) for other in pairs)}
    assert [pairs[i] for i in front] == sorted(expected)
    assert all(pairs.index(pairs[i]) == i for i in front)


@given(PAIRS)
def test_the_excess_is_over_the_fewest_bytes_at_a_score_no_worse(pairs):
    for (size, score), excess in zip(pairs, log_excess(pairs), strict=True):
        fewest = min(other[0] for other in pairs if other[1] <= score)
        assert excess == pytest.approx(math.log(size / fewest))


@given(PAIRS, st.floats(0.1, 10))
def test_the_excess_is_zero_on_the_front_and_knows_no_unit(pairs, unit):
    excess = log_excess(pairs)
    assert all(excess[i] == 0 for i in pareto_front(pairs))
    scaled = log_excess([(unit * size, math.exp(score)) for size, score in pairs])
    assert scaled == pytest.approx(excess, abs=1e-9)


@given(PAIRS, st.tuples(st.integers(1, 6), st.integers(0, 6)), st.sampled_from([0.0, 0.3, 0.5]))
def test_what_more_than_a_share_of_enough_others_beat_is_hopeless(others, pair, share):
    better = sum(beats(other, pair) for other in others)
    for after in (1, len(others), len(others) + 1):
        expected = len(others) >= after and better / len(others) > share
        assert is_hopeless(pair, others, Pruning(share=share, after=after)) == expected


@given(st.lists(st.integers(0, 9), min_size=1, max_size=15), st.integers(0, 9))
def test_at_equal_bytes_it_is_the_median_rule(scores, score):
    others = [(100.0, float(other)) for other in scores]
    found = is_hopeless((100.0, float(score)), others, Pruning(after=1))
    assert found == (sum(other < score for other in scores) > len(scores) / 2)
    if score <= statistics.median_low(scores):
        assert not found


def test_what_is_of_no_use_is_hopeless_however_small():
    others = [(100.0 * i, 10.0 - i) for i in range(1, 10)]
    zeros, pruning = (5.0, 90.0), Pruning(after=9)
    assert is_hopeless(zeros, others, pruning, 20.0)
    assert not is_hopeless(zeros, others, pruning, 90.0)
    assert not is_hopeless(zeros, others[1:], pruning, 20.0)  # too early to tell


def test_no_corner_of_the_trade_off_is_hopeless():
    others = [(100.0 * i, 10.0 - i) for i in range(1, 10)]
    pruning = Pruning(share=0.0, after=1)
    assert not any(is_hopeless(pair, others, pruning) for pair in [(50.0, 90.0), (9e9, 0.5)])
