"""The algebra of axes, against NumPy's own reshaping of permuted arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.rewriting.axes import Axis, joined, order_of, product, regroup, split, tie, unit_of

SEEDS = st.integers(0, 2**32 - 1)


def shuffled(leaves, seed):
    rng = np.random.default_rng(seed)
    return {leaf: rng.permutation(leaf.size) for leaf in leaves}


@given(seed=SEEDS)
def test_the_order_of_a_product_is_that_of_a_reshape(seed):
    heads, width = Axis(3), Axis(4)
    orders = shuffled([heads, width], seed)
    grid = np.arange(12).reshape(3, 4)[orders[heads]][:, orders[width]]
    assert order_of(product([heads, width]), orders).tolist() == grid.reshape(-1).tolist()


@given(seed=SEEDS)
def test_the_order_of_stretches_is_that_of_a_concatenation(seed):
    one, other = Axis(3), Axis(5)
    orders = shuffled([one, other], seed)
    expected = np.concatenate([np.arange(3)[orders[one]], 3 + np.arange(5)[orders[other]]])
    assert order_of(joined([one, other]), orders).tolist() == expected.tolist()


@given(
    seed=SEEDS,
    sizes=st.sampled_from([(24,), (4, 6), (2, 12), (3, 8), (2, 3, 4), (6, 4), (24, 1), (2, 2, 6)]),
    into=st.sampled_from([(24,), (4, 6), (2, 12), (8, 3), (2, 3, 4), (1, 6, 4), (12, 2)]),
)
def test_a_reshape_of_permuted_axes_is_a_permuted_reshape(seed, sizes, into):
    before = [Axis(size) for size in sizes]
    after = regroup(before, into)
    leaves = {leaf for axis in before for leaf in axis.leaves() if not leaf.pinned}
    orders = shuffled(sorted(leaves, key=id), seed)
    array = np.random.default_rng(seed).random(sizes)
    moved = array[np.ix_(*(order_of(axis, orders) for axis in before))].reshape(into)
    expected = array.reshape(into)[np.ix_(*(order_of(axis, orders) for axis in after))]
    np.testing.assert_array_equal(moved, expected)


def test_a_reshape_that_cuts_through_units_fixes_them():
    before = [Axis(4), Axis(6)]
    regroup(before, (3, 8))
    assert all(leaf.pinned for axis in before for leaf in axis.leaves())


def test_what_is_tied_is_one_and_inherits_what_held_either():
    one, other = Axis(6), Axis(6)
    first, second = split(one, [2, 4])
    other.pin("a reason")
    tie(one, other)
    assert first.root().pinned == second.root().pinned == "a reason"
    assert one.leaves() == other.leaves()


def test_two_ways_to_cut_are_cut_where_either_is():
    one, other = joined([Axis(2), Axis(4)]), joined([Axis(4), Axis(2)])
    tie(one, other)
    assert [leaf.size for leaf in one.leaves()] == [2, 2, 2] and one.leaves() == other.leaves()


def test_equal_stretches_that_are_seen_as_a_product_have_one_order():
    axis = joined([Axis(4), Axis(4)])
    outer, inner = regroup([axis], (2, 4))
    assert outer.pinned and axis.leaves() == [inner.root()] * 2


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (lambda leaf: product([Axis(2), leaf]), [0, 1, 2, 0, 1, 2]),
        (lambda leaf: product([leaf, Axis(2)]), [0, 0, 1, 1, 2, 2]),
        (lambda leaf: joined([Axis(2), leaf]), [-1, -1, 0, 1, 2]),
        (lambda leaf: product([leaf, leaf]), [-2] * 9),
    ],
)
def test_each_index_belongs_to_a_unit_or_none(axis, expected):
    leaf = Axis(3)
    assert unit_of(axis(leaf), leaf).tolist() == expected
