"""Restarts: a fit agrees with itself, chance is what shuffling gives, and pairs are the nearest."""

import itertools
import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, jaccard_score

from pyro_sws.assess.point.restarts import Restart, agreement, match_means
from pyro_sws.codec.symbols import Quantized

BOOK = np.array([-0.5, 0.0, 0.25], np.float16)


def network(seed, zeros=0.7, means=(-0.5, 0.0, 0.25)):
    rng = np.random.default_rng(seed)
    shares = [(1 - zeros) / 2, zeros, (1 - zeros) / 2]
    symbols = {
        name: rng.choice(3, shape, p=shares).astype(np.uint8)
        for name, shape in {"w": (40, 30), "b": (40,)}.items()
    }
    report = {
        "file_bytes": 100 + seed,
        "score": {"decoded": 1.5},
        "negative_elbo_nats": -3.0 * seed,
        "groups": {"all": {"means": list(means)}},
    }
    quantized = Quantized(symbols, {"all": BOOK}, {"w": "all", "b": "all"})
    return Restart(report, quantized)


def zeros_of(restart):
    return np.concatenate([(s == 1).ravel() for s in restart.quantized.symbols.values()])


def test_a_fit_agrees_with_itself():
    found = agreement({"once": network(0), "again": network(0)})
    np.testing.assert_array_equal(found.same_zeros, np.ones((2, 2)))
    np.testing.assert_array_equal(found.same_nonzero, np.ones((2, 2)))
    (matching,) = found.matchings["all"]
    assert matching.largest_gap == 0 and matching.unmatched == (0, 0)


def test_shares_are_those_of_scikit_learn():
    a, b = network(1), network(2, zeros=0.4)
    found = agreement({"a": a, "b": b})
    x, y = zeros_of(a), zeros_of(b)
    assert found.same_zeros[0, 1] == pytest.approx((x == y).mean())
    assert found.same_nonzero[0, 1] == pytest.approx(jaccard_score(~x, ~y))
    np.testing.assert_array_equal(found.same_zeros, found.same_zeros.T)


def test_chance_is_that_of_scikit_learns_kappa_in_a_single_tensor():
    rows = {}
    for seed in (1, 2):
        whole = network(seed, zeros=0.3 * seed)
        one = {"w": whole.quantized.symbols["w"]}
        rows[f"{seed}"] = Restart(whole.report, Quantized(one, {"all": BOOK}, {"w": "all"}))
    found = agreement(rows)
    same, chance = found.same_zeros[0, 1], found.by_chance[0, 1]
    kappa = cohen_kappa_score(*map(zeros_of, rows.values()))
    assert (same - chance) / (1 - chance) == pytest.approx(kappa)


def test_independent_zeros_agree_as_often_as_chance_says():
    found = agreement({"a": network(3), "b": network(4)})
    # 1,240 weights; the share has a standard error of at most 1/2 / sqrt(1240).
    assert abs(found.same_zeros[0, 1] - found.by_chance[0, 1]) < 5 * 0.5 / 1240**0.5


def test_without_a_weight_other_than_0_there_is_nothing_to_differ_on():
    found = agreement({"a": network(0, zeros=1.0), "b": network(1, zeros=1.0)})
    assert found.same_nonzero[0, 1] == found.same_zeros[0, 1] == 1


@pytest.mark.parametrize("seed", range(5))
def test_pairs_within_a_sign_are_the_nearest_there_are(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random(4), rng.random(6)
    found = match_means(a, b)
    ways = itertools.permutations(b, 4)
    least = min(np.abs(np.sort(a) - np.array(way)).sum() for way in ways)
    assert 4 * found.mean_gap == pytest.approx(least)
    assert (np.diff(found.pairs, axis=0) > 0).all()
    assert found.unmatched == (0, 2)


def test_zero_is_paired_with_zero_alone_and_signs_stay_apart():
    found = match_means([0.0, 0.0, 0.3, -0.2, 0.1], [0.0, 0.31, -0.6, -0.5])
    assert found.pairs.tolist() == [[-0.2, -0.5], [0.0, 0.0], [0.3, 0.31]]
    assert found.unmatched == (1, 1)
    assert found.largest_gap == pytest.approx(0.3) and found.mean_gap == pytest.approx(0.31 / 3)


def test_fits_without_a_mean_in_common_have_no_pair():
    found = match_means([0.0], [0.5])
    assert found.pairs.shape == (0, 2) and found.unmatched == (1, 1) and found.largest_gap == 0


def test_the_table_has_a_row_a_restart_and_calls_nothing_a_chain():
    told = agreement({"a": network(1), "b": network(2), "c": network(3)}).to_dict()
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert told["rows"][1] == {
        "restart": "b",
        "file_bytes": 102,
        "score": 1.5,
        "negative_elbo_nats": -6.0,
        "nonzero": network(2).quantized.nonzero,
    }
    assert len(told["components"]["all"]) == 2
    assert "not Markov chains" in told["kind"]


def test_one_restart_and_other_networks_are_refused():
    with pytest.raises(ValueError, match="two or more restarts"):
        agreement({"a": network(0)})
    other = Restart(network(0).report, Quantized({}, {}, {}))
    with pytest.raises(ValueError, match="one network"):
        agreement({"a": network(0), "b": other})
