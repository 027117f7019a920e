"""Orders of a layer's units: permutations, by what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyro_sws.rewriting.unit_orders import ORDERS, candidate_orders


@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("name", ORDERS)
def test_an_order_is_a_permutation_with_idle_units_last(name, seed):
    rng = np.random.default_rng(seed)
    incoming, outgoing = rng.random((9, 12)) < 0.3, rng.random((9, 4)) < 0.2
    assert sorted(ORDERS[name](incoming, outgoing)) == list(range(9))
    for order in candidate_orders(incoming, outgoing).values():
        seen = outgoing.any(1)[order]
        assert (np.diff(seen.astype(int)) <= 0).all()


def test_fan_in_sorts_units_by_their_incoming_weights():
    incoming = np.array([[1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1]], bool)
    orders = candidate_orders(incoming, np.ones((4, 1), bool))
    assert orders["descending fan-in"].tolist() == [1, 3, 0, 2]
    assert orders["ascending fan-in"].tolist() == [2, 0, 3, 1]


def test_a_path_goes_to_the_unit_that_is_most_alike():
    masks = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [1, 0, 0, 1, 1]], bool)
    for name in ("similar incoming", "similar outgoing"):
        assert ORDERS[name](masks, masks).tolist() == [0, 2, 1, 3]


def test_the_first_rows_of_the_next_layer_become_runs():
    rows = np.random.default_rng(0).random((3, 40)) < 0.5
    order = ORDERS["lexicographic outgoing"](np.ones((40, 1), bool), rows.T)
    assert (np.diff(rows[:, order].astype(int), axis=1) != 0).sum(1)[0] == 1
    assert order.tolist() == sorted(range(40), key=lambda u: [not seen for seen in rows[:, u]])
