"""Raw tensors rounded: against numpy's own float16, and errors by hand."""

import numpy as np
import pytest
import torch

from pyro_sws.weights.raw import rounded_raw

NAN, INF = float("nan"), float("inf")


def one(values, rounding):
    """What becomes of one raw tensor; None where it stays."""
    return rounded_raw({"a": torch.as_tensor(values)}, {}, rounding).get("a")


def drawn(size=200, seed=0):
    return np.random.default_rng(seed).normal(size=size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_half_precision_is_numpy_s_rounding(dtype):
    values = drawn().astype(dtype)
    stored = one(values, "float16")
    assert stored.dtype == torch.float16
    np.testing.assert_array_equal(stored.numpy(), values.astype(np.float16))
    assert (np.abs(stored.double().numpy() - values) <= 2.0**-11 * np.abs(values)).all()


@pytest.mark.parametrize(
    ("values", "fits"),
    [
        ([65519.0, 0.0], True),  # the last that is 65504
        ([65520.0], False),  # the first that is infinite
        ([2.0**-14], True),  # the least of float16's normal range
        ([2.0**-24], True),  # exact
        ([1.5 * 2.0**-24], False),
        ([1e-9], False),  # would be 0
        ([-3.4e38], False),  # a mask, which is no infinity
        ([-INF, INF, NAN, -0.0], True),
    ],
)
def test_a_tensor_that_would_lose_more_stays_as_it_is(values, fits):
    assert (one(torch.tensor(values), "float16") is not None) == fits


@pytest.mark.parametrize("rounding", ["float16", "int8"])
def test_integers_booleans_and_half_precision_stay(rounding):
    for values in (torch.arange(20), torch.ones(20, dtype=torch.bool), torch.rand(20).half()):
        assert one(values, rounding) is None


def test_nothing_is_rounded_where_all_is_to_be_exact():
    assert one(drawn(), "exact") is None


def test_eight_bits_hold_each_variance_to_a_thirty_second():
    """Six octaves: 128 in 256 places would be 2^-5 / 2 of a value; fewer octaves are finer."""
    variances = np.exp(np.linspace(0, np.log(32), 100)).astype(np.float32)
    stored = one(variances, "int8").double().numpy()
    assert len(np.unique(stored)) <= 256
    assert np.abs(stored / variances - 1).max() <= 2.0**-6


def test_eight_bits_hold_both_signs_to_a_share_of_the_median():
    values = drawn()
    stored = one(values, "int8").double().numpy()
    assert np.ptp(stored / np.diff(np.unique(stored)).min()) <= 255
    assert np.abs(stored - values).max() <= 2.0**-4 * np.median(np.abs(values))


def test_a_variance_that_would_become_zero_is_not_in_eight_bits():
    """With a channel without any, no logarithmic grid is left; an even one would lose 1e-3."""
    variances = np.array([0, 1e-3, *np.linspace(1, 9, 20)], np.float32)
    assert one(variances, "int8").dtype == torch.float16


def test_eight_bits_are_not_taken_where_they_are_no_fewer_bytes():
    assert one(drawn(8), "int8").dtype == torch.float16
    assert one(drawn(9), "int8").dtype == torch.float32


def test_what_neither_holds_stays():
    assert one([*drawn(20), 1e-30, 1e30], "int8") is None
    assert one([*np.abs(drawn(20)), INF, 1e30], "int8") is None


def test_beside_an_outlier_values_are_not_in_eight_bits():
    """Steps of 100 / 255 or more would make most of the others 0."""
    assert one([*drawn(20), 100.0], "int8").dtype == torch.float16


def test_statistics_of_folded_norms_take_no_room_and_stay():
    raw = {
        "n.running_mean": torch.zeros(4),
        "n.running_var": torch.full((4,), 1 - 1e-5),
        "n.num_batches_tracked": torch.tensor(0),
        "other": torch.rand(4),
    }
    assert list(rounded_raw(raw, {"n.weight": (4,)}, "float16")) == ["other"]
    assert len(rounded_raw(raw, {}, "float16")) == 3  # no norm without a weight


def test_an_unknown_rounding_is_refused():
    with pytest.raises(ValueError, match="unknown raw 'int4'; choose from float16, int8, exact"):
        one(drawn(), "int4")
