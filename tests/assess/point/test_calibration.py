"""Calibration against scikit-learn, tables made by hand, and the limit of a calibrated network."""

import numpy as np
import pytest
from predictions import drawn, two_class
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from pyro_sws.assess.point.calibration import (
    Predictions,
    calibration,
    difference,
    mean_and_error,
    rejection,
    reliability,
)


def test_scores_are_those_of_scikit_learn():
    found = drawn()
    p, labels = found.probabilities, found.labels
    told = calibration(found)
    assert told.nll_nats == pytest.approx(log_loss(labels, p))
    brier = sum(brier_score_loss(labels == c, p[:, c]) for c in range(4))
    assert told.brier == pytest.approx(brier)
    assert told.accuracy == pytest.approx((p.argmax(1) == labels).mean())


@pytest.mark.parametrize(
    ("binning", "strategy"), [("equal_width", "uniform"), ("equal_mass", "quantile")]
)
@pytest.mark.parametrize("bins", [1, 7, 15])
def test_bins_are_those_of_scikit_learn(binning, strategy, bins):
    found = drawn(sharpen=2.0)
    expected = calibration_curve(found.right, found.confidence, n_bins=bins, strategy=strategy)
    bins_of = reliability(found, bins, binning)
    np.testing.assert_allclose(bins_of.accuracy, expected[0])
    np.testing.assert_allclose(bins_of.confidence, expected[1])
    assert bins_of.counts.sum() == len(found)


def test_a_table_made_by_hand():
    found = two_class([0.6, 0.6, 0.9, 0.9, 0.9, 0.9], [1, 0, 1, 1, 1, 0])
    bins = reliability(found, 10, "equal_width")
    assert bins.counts.tolist() == [2, 4] and bins.accuracy.tolist() == [0.5, 0.75]
    assert bins.error == pytest.approx((2 * 0.1 + 4 * 0.15) / 6)
    squares = 2 * (0.01 - 0.25 / 1) + 4 * (0.15**2 - 0.75 * 0.25 / 3)
    assert bins.squared_error == pytest.approx(squares / 6)
    assert calibration(found, binning="equal_width").brier == pytest.approx(
        2 * (0.16 + 0.36 + 3 * 0.01 + 0.81) / 6
    )


def test_equal_confidences_stay_in_one_bin_whatever_their_order():
    confidences, right = [0.7] * 6 + [0.95] * 14, [1, 0, 1, 1, 1, 0] + [1] * 13 + [0]
    orders = [np.arange(20), np.random.default_rng(0).permutation(20)]
    tables = [reliability(two_class(np.array(confidences)[o], np.array(right)[o])) for o in orders]
    for table in tables:
        assert table.counts.tolist() == [6, 14]
        np.testing.assert_allclose(table.accuracy, [4 / 6, 13 / 14])


def test_intervals_are_where_the_score_test_of_a_share_says():
    # Wilson: |share - p| = z sqrt(p (1 - p) / n) at either end.
    bins = reliability(drawn(), 5)
    for end in (bins.low, bins.high):
        z = np.abs(bins.accuracy - end) / np.sqrt(end * (1 - end) / bins.counts)
        np.testing.assert_allclose(z, 1.959964, rtol=1e-5)


@pytest.mark.parametrize("binning", ["equal_mass", "equal_width"])
def test_a_calibrated_networks_error_is_what_chance_gives(binning):
    found = [calibration(drawn(seed=s), 15, binning, seed=s) for s in range(40)]
    eces = np.array([c.ece for c in found])
    mean, error = mean_and_error(eces)
    assert abs(mean - found[0].ece_by_chance) < 5 * error
    assert found[0].ece_by_chance > 0.01, "an ECE is biased upwards"
    # 5 % of 40 lie above the quantile: more than 9 has a probability of 1e-5 (binomial).
    assert sum(not c.calibrated for c in found) <= 9


def test_the_squared_error_of_a_calibrated_network_is_0_on_average():
    mean, error = mean_and_error(
        np.array([reliability(drawn(500, seed=s)).squared_error for s in range(300)])
    )
    assert abs(mean) < 5 * error


def test_the_squared_error_is_that_of_many_examples_on_average():
    # One bin: the error is that of mean confidence and accuracy, known from 400,000 examples.
    large = reliability(drawn(400_000, sharpen=3.0), 1)
    true = (large.accuracy[0] - large.confidence[0]) ** 2
    small = [reliability(drawn(50, seed=s, sharpen=3.0), 1).squared_error for s in range(1, 2001)]
    mean, error = mean_and_error(np.array(small))
    # mean confidence varies too, by var / n, which is no noise of the labels
    spread = drawn(400_000, sharpen=3.0)
    both = np.var(spread.right - spread.confidence) / 50 - np.var(spread.right) / 50
    assert abs(mean - true - both) < 5 * error


def test_an_overconfident_network_is_told():
    told = calibration(drawn(sharpen=4.0))
    assert not told.calibrated and told.ece > 2 * told.ece_by_chance_high
    assert told.squared_error > 0.001


def test_rejection_made_by_hand():
    found = rejection(two_class([0.95, 0.9, 0.8, 0.7], [1, 1, 0, 1]))
    np.testing.assert_allclose(found.rejected, [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(found.accuracy, [3 / 4, 2 / 3, 1, 1])
    assert found.area == pytest.approx((3 / 4 + 2 / 3 + 1 + 1) / 4)


def test_equal_confidences_are_rejected_in_every_order_at_once():
    found = two_class([0.9, 0.9, 0.9, 0.6], [1, 0, 1, 1])
    rng = np.random.default_rng(0)
    right = found.right.astype(float)
    orders = [np.concatenate([rng.permutation(3), [3]]) for _ in range(20_000)]
    curves = np.array([np.cumsum(right[o]) / np.arange(1, 5) for o in orders])
    mean, error = curves.mean(0), curves.std(0) / len(orders) ** 0.5
    assert (np.abs(rejection(found).accuracy[::-1] - mean) <= 5 * error + 1e-12).all()


def test_confidences_that_say_nothing_have_the_accuracy_as_their_area():
    found = two_class([0.8] * 10, [1] * 7 + [0] * 3)
    np.testing.assert_allclose(rejection(found).accuracy, 0.7)
    assert rejection(found).area == pytest.approx(0.7)


def test_differences_are_of_pairs():
    before, after = drawn(), drawn(sharpen=2.0)
    found = difference(before, after)
    nll = [log_loss(before.labels, of.probabilities) for of in (before, after)]
    assert found["nll_nats"]["change"] == pytest.approx(nll[1] - nll[0])
    assert found["accuracy"] == {"change": 0, "error": 0}, "sharpening changes no decision"
    assert found["confidence"]["change"] > 0
    apart = np.hypot(calibration(before).nll_error, calibration(after).nll_error)
    assert found["nll_nats"]["error"] < apart
    with pytest.raises(ValueError, match="the same examples"):
        difference(before, drawn(seed=1))


def test_a_label_that_was_ruled_out_costs_much_and_not_everything():
    assert calibration(two_class([1.0, 1.0], [1, 0])).nll_nats == pytest.approx(708.4 / 2, rel=1e-3)


def test_the_callers_generator_is_left_alone():
    state = np.random.get_state()[1].copy()
    assert calibration(drawn()) == calibration(drawn())
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("p", "labels", "words"),
    [
        (np.ones((3, 2)), np.zeros(3, int), "rows sum to 2 to 2"),
        (np.full((3, 2), 0.5), np.zeros(2, int), r"got \(3, 2\) and \(2,\)"),
        (np.full((3, 2), 0.5), np.array([0, 1, 2]), r"in 0\.\.1, got int64 in 0\.\.2"),
        (np.full((3, 2), 0.5), np.zeros(3), "whole numbers"),
        (np.full((3, 2), np.nan), np.zeros(3, int), "must be probabilities"),
        (np.zeros((0, 2)), np.zeros(0, int), "must be"),
    ],
)
def test_what_are_no_predictions_is_refused(p, labels, words):
    with pytest.raises(ValueError, match=words):
        Predictions(p, labels)


def test_unknown_bins_are_refused():
    with pytest.raises(ValueError, match="choose from equal_mass, equal_width"):
        reliability(drawn(), binning="log")
    with pytest.raises(ValueError, match="at least 1"):
        reliability(drawn(), bins=0)
