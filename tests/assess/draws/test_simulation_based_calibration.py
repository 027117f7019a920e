"""Bands and ranks against binomials, enumeration, simulated ranks and exact posteriors."""

import importlib.util
import itertools
import json
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from typed_shapes import mismatches

from pyro_sws.assess.draws.simulation_based_calibration import (
    SimulationCalibrationSummary,
    rank_among,
    simulation_calibration,
    thinned,
    uniform_band,
    uniform_p_value,
)


@pytest.fixture(scope="module")
def study():
    return importlib.import_module("scripts.sbc")


def uniform(shape, draws, seed=0):
    return np.random.default_rng(seed).integers(0, draws + 1, shape)


def leaving(rows, draws, level):
    """Which rows of ranks (R, S) leave the band of that level somewhere; (R,)."""
    low, high = uniform_band(rows.shape[1], draws, level)
    counts = np.stack([(rows <= rank).sum(1) for rank in range(draws)], 1)
    return ((counts < low) | (counts > high)).any(1)


@pytest.mark.parametrize("level", [0.3, 0.05, 0.001])
@pytest.mark.parametrize("simulations", [7, 80])
def test_with_one_draw_the_band_is_the_binomial_interval(simulations, level):
    (low,), (high,) = uniform_band(simulations, 1, level)
    law = stats.binom(simulations, 0.5)
    assert low + high == simulations
    assert 2 * law.cdf(low - 1) <= level < 2 * law.cdf(low)


@pytest.mark.parametrize(("simulations", "draws"), [(4, 3), (5, 2)])
def test_p_values_and_bands_are_those_of_all_ranks_enumerated(simulations, draws):
    every = np.array(list(itertools.product(range(draws + 1), repeat=simulations)))
    p_values = np.array([uniform_p_value(ranks, draws) for ranks in every])
    for level in np.unique(p_values):  # equally probable rows: the p-value is how many stray as far
        assert (p_values <= level + 1e-12).mean() == pytest.approx(level, abs=1e-12)
    for level in (0.02, 0.1, 0.4):
        left = leaving(every, draws, level)
        np.testing.assert_array_equal(left, p_values <= level)
        assert left.mean() <= level


def test_uniform_ranks_leave_the_band_as_often_as_they_may():
    share = leaving(uniform((20_000, 200), 19), 19, 0.05).mean()
    # Five standard errors; and counts come in steps, so that a little of the level is left unused.
    error = 5 * (0.05 * 0.95 / 20_000) ** 0.5
    assert 0.045 - error < share < 0.05 + error


def test_a_single_quantity_has_the_whole_of_alpha_and_many_share_it():
    ranks = uniform(300, 19)
    one = simulation_calibration({"a": ranks}, 19, alpha=0.04)
    four = simulation_calibration({name: ranks for name in "abcd"}, 19, alpha=0.04)
    np.testing.assert_array_equal(one.band, uniform_band(300, 19, 0.04))
    np.testing.assert_array_equal(four.band, uniform_band(300, 19, 0.01))


def test_differences_are_those_of_the_empirical_distribution_and_uniform():
    found = simulation_calibration({"a": [0, 0, 1, 3], "b": [2, 2, 2, 2]}, 3)
    expected = [[0.5 - 0.25, 0.75 - 0.5, 0.75 - 0.75], [-0.25, -0.5, 1 - 0.75]]
    np.testing.assert_allclose(found.differences, expected)


def test_what_leaves_its_band_is_named_with_how_far_and_the_rest_is_not():
    shifted = np.minimum(uniform(400, 19) + 4, 19)
    found = simulation_calibration({"right": uniform(400, 19, 1), "low": shifted}, 19)
    assert found.leaving == ("low",)
    low, _ = found.band
    assert found.outside[0] == 0
    assert found.outside[1] == pytest.approx((low - found.counts[1]).max() / 400)
    written = json.loads(json.dumps(found.to_dict()))
    assert mismatches(written, SimulationCalibrationSummary) == []
    assert written["leaving"] == ["low"] and written["simulations"] == 400
    assert (
        written["quantities"]["low"]["p_value"] < 1e-10 < written["quantities"]["right"]["p_value"]
    )
    least = min((shifted <= rank).mean() - (rank + 1) / 20 for rank in range(19))
    assert written["quantities"]["low"]["largest_difference"] == pytest.approx(least, abs=1e-4)


def test_a_rank_counts_the_draws_below_and_ties_are_even():
    draws = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    generator = np.random.default_rng(0)
    found = np.array([rank_among([2.5, 5.0], draws, generator) for _ in range(4000)])
    assert (found[:, 0] == 2).all()
    # 0, 1, 2 and 3 of the three draws, a quarter each: five standard errors.
    np.testing.assert_allclose(
        np.bincount(found[:, 1]) / 4000, 0.25, atol=5 * (3 / 16 / 4000) ** 0.5
    )


def test_thinned_draws_are_evenly_apart():
    assert thinned(np.arange(10), 5).tolist() == [1, 3, 5, 7, 9]
    assert thinned(np.arange(3), 3).tolist() == [0, 1, 2]
    assert np.ptp(np.diff(thinned(np.arange(100), 30))) <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: simulation_calibration({}, 3), "at least one; got {}"),
        (lambda: simulation_calibration({"a": []}, 3), r"got {'a': \(0,\)}"),
        (lambda: simulation_calibration({"a": [1], "b": [1, 2]}, 3), r"'b': \(2,\)"),
        (lambda: simulation_calibration({"a": [1, 4]}, 3), r"0 .. 3; 'a' has int64 in 1 .. 4"),
        (lambda: simulation_calibration({"a": [0.5]}, 3), "'a' has float64"),
        (lambda: simulation_calibration({"a": [1]}, 3, alpha=1.0), r"alpha must be in \(0, 1\)"),
        (lambda: thinned(np.zeros(3), 4), "cannot keep 4 of 3 draws"),
        (lambda: rank_among(np.nan, np.zeros(3), np.random.default_rng(0)), "not finite"),
    ],
)
def test_what_has_no_ranks_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def gamma_ranks(simulations=300, draws=39, shape_times=1.0, rate_times=1.0, shift=0.0):
    """Of a Gaussian's precision, Gamma(3, 0.5) before 10 values: exact, or not quite."""
    generator = np.random.default_rng(5)
    ranks = {"precision": [], "log-likelihood": []}
    for _ in range(simulations):
        precision = generator.gamma(3.0, 1 / 0.5)
        x = precision**-0.5 * generator.normal(size=10)
        shape, rate = 3.0 + 5, 0.5 + (x**2).sum() / 2
        found = generator.gamma(shape_times * shape, 1 / (rate_times * rate), draws)
        found = np.append(found * np.exp(shift / shape**0.5), precision)
        log_likelihood = 5 * np.log(found) - found * (x**2).sum() / 2
        for name, values in (("precision", found), ("log-likelihood", log_likelihood)):
            ranks[name].append(int(rank_among(values[-1], values[:-1], generator)))
    return simulation_calibration(ranks, draws)


def test_an_exact_posterior_passes():
    assert gamma_ranks().leaving == ()


@pytest.mark.parametrize(
    ("wrong", "sign"),
    [
        (dict(shape_times=4.0, rate_times=4.0), (1, -1)),  # half as wide: too many outer ranks
        (dict(shape_times=0.25, rate_times=0.25), (-1, 1)),  # twice as wide
        (dict(shift=1.0), (1, 1)),  # a deviation too high: low ranks
        (dict(shift=-1.0), (-1, -1)),
    ],
)
def test_a_wrong_width_or_place_fails_and_shows_which(wrong, sign):
    found = gamma_ranks(**wrong)
    assert "precision" in found.leaving
    difference = found.differences[found.quantities.index("precision")]
    assert tuple(np.sign(difference[[7, 31]]).tolist()) == sign


def test_draws_of_the_prior_pass_where_only_hyperparameters_are_ranked():
    """What Modrák et al. 2023 are about: the likelihood sees that the data were not looked at."""
    generator = np.random.default_rng(6)
    ranks = {"precision": [], "log-likelihood": []}
    for _ in range(300):
        draws = generator.gamma(3.0, 1 / 0.5, 40)
        x = draws[0] ** -0.5 * generator.normal(size=10)
        log_likelihood = 5 * np.log(draws) - draws * (x**2).sum() / 2
        for name, values in (("precision", draws), ("log-likelihood", log_likelihood)):
            ranks[name].append(int(rank_among(values[0], values[1:], generator)))
    assert simulation_calibration(ranks, 39).leaving == ("log-likelihood",)


def test_weights_and_hyperparameters_are_drawn_from_the_prior(study):
    drawn = [study.simulated(0, i) for i in range(300)]
    prior = study.PRIOR
    laws = [
        ([m.means[1] for m, _ in drawn], stats.norm(0, prior.slab_means.deviation)),
        ([m.precisions[0] for m, _ in drawn], gamma(prior.spike_precision)),
        ([m.precisions[2] for m, _ in drawn], gamma(prior.slab_precision)),
        ([m.proportions[0] for m, _ in drawn], stats.beta(12, 8)),
        ([m.proportions[1] / (1 - m.proportions[0]) for m, _ in drawn], stats.beta(5, 5)),
    ]
    for values, law in laws:
        assert stats.kstest(np.array(values), law.cdf).pvalue > 1e-4
    mixture, weights = drawn[0]
    scale = mixture.deviations.numpy()
    share = mixture.proportions.numpy()
    cdf = lambda w: stats.norm.cdf((w[:, None] - mixture.means.numpy()) / scale) @ share  # noqa: E731
    assert stats.kstest(weights.numpy(), cdf).pvalue > 1e-4


def gamma(spec):
    return stats.gamma(spec.shape, scale=1 / spec.rate)


def test_truth_and_draws_are_put_in_the_same_order(study):
    """A draw that is the truth with its slabs swapped has the same quantities."""
    truth, weights = study.simulated(0, 0)
    swapped = [0, 2, 1]
    fields = (truth.means, truth.deviations, truth.proportions)
    fixed = torch.tensor([True, False, False])
    draws = study.ComponentDraws(*(x[swapped].view(1, 1, 3) for x in fields), fixed)
    found = study.quantities(study.with_truth(truth, draws), weights)
    for name, values in found.items():
        assert values[0] == pytest.approx(values[1], rel=1e-12), name
    assert found["lower mean"][0] < found["higher mean"][0]
    scale = truth.deviations.numpy()
    density = stats.norm.pdf(weights.numpy()[:, None], truth.means.numpy(), scale)
    expected = np.log(density @ truth.proportions.numpy()).sum()
    assert found["log-likelihood"][0] == pytest.approx(expected)
    second = truth.proportions @ (truth.deviations**2 + truth.means**2)
    variance = second - (truth.proportions @ truth.means) ** 2
    assert found["mixture's variance"][0] == pytest.approx(variance.item())


@pytest.fixture(scope="module")
def small(study):
    """25 simulations by Laplace, under the right Gamma rates and under rates 1.5 times as large."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "DRAWS", 19)
        for factor in (1.0, 1.5):
            rows = [study.Trial("laplace", factor).run(i) for i in range(25)]
            found[factor] = study.calibrated(rows)
    return found


@pytest.mark.integration
def test_laplace_passes_a_small_calibration_of_the_hyperposterior(small):
    assert small[1.0].leaving == ()


@pytest.mark.integration
def test_a_wrong_gamma_rate_is_caught_by_the_deviations(small):
    assert {q for q in small[1.5].leaving if "deviation" in q}
    # Larger rates, smaller precisions: deviations drawn are too large, and ranks low.
    spike = small[1.5].quantities.index("spike's deviation")
    assert small[1.5].differences[spike].mean() > 0.1


@pytest.mark.integration
def test_simulations_are_kept_and_collected(study, tmp_path, monkeypatch, capsys):
    def called(*words):
        folder = ["--folder", str(tmp_path / "runs"), "--out", str(tmp_path / "sbc.json")]
        monkeypatch.setattr(sys, "argv", ["sbc", *words, *folder])
        study.main()

    monkeypatch.setattr(study, "DRAWS", 5)
    called("run", "--method", "laplace", "--simulations", "4", "--part", "1/2")
    assert len(list(tmp_path.glob("runs/*/rates-1-seed-0/*.json"))) == 2
    called("run", "--method", "laplace", "--simulations", "4")
    for factor, seeds in (("1.5", "12"), ("1", "1")):
        seeds = ["--simulations", "2", "--seeds", *seeds]
        called("run", "--method", "laplace", "--planted", factor, *seeds)
    monkeypatch.setattr(study.Trial, "run", lambda *given: pytest.fail("it was run before"))
    called("run", "--method", "laplace", "--simulations", "4")
    called("collect")
    (laplace,) = [
        v for k, v in json.loads((tmp_path / "sbc.json").read_text()).items() if k[0] != "_"
    ]
    assert (laplace["simulations"], laplace["draws"]) == (4, 5)
    assert {f: found["simulations"] for f, found in laplace["planted"].items()} == {
        "1": [2],
        "1.5": [2, 2],
    }
    assert (tmp_path / "sbc.png").read_bytes().startswith(b"\x89PNG")


def test_nuts_draws_are_thinned_and_ranked(study, monkeypatch):
    for name, value in (("DRAWS", 6), ("WARMUP", 5)):
        monkeypatch.setattr(study, name, value)
    row = study.Trial("nuts").run(0)
    assert set(row["ranks"]) == set(row["lag_one"]) and len(row["ranks"]) == 9
    assert all(0 <= rank <= 6 for rank in row["ranks"].values())
