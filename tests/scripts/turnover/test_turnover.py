"""The study of turnover: what is counted from one epoch to the next, against plain sets."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from small_recipe import write_recipe

import pyro_sws as sws

PHASES = ("fit", "fit", "refinement", "refinement")


def masks(sets, size):
    return [np.isin(np.arange(size), sorted(members)) for members in sets]


def notes(*phases):
    return [{"phase": phase} for phase in phases]


# The arithmetic.


def test_shares_are_those_of_sets(script):
    generator = np.random.default_rng(0)
    kept = [generator.random(200) < share for share in (0.5, 0.3, 0.4, 0.1)]
    sets = [set(np.flatnonzero(mask).tolist()) for mask in kept]
    rows = script("turnover.turnover").turnover(kept, notes(*PHASES))
    starts = [sets[0], sets[0], sets[1], sets[1]]  # refinement begins where the fit ended
    for (before, now), start, row in zip(pairwise(sets), starts[1:], rows[1:], strict=True):
        assert row["nonzero_percent"] == pytest.approx(100 * len(now) / 200)
        assert row["came_percent"] == pytest.approx(100 * len(now - before) / len(now))
        assert row["went_percent"] == pytest.approx(100 * len(before - now) / len(before))
        assert row["came_since_percent"] == pytest.approx(100 * len(now - start) / len(now))
        for key, other in {"overlap_start_percent": start, "overlap_percent": sets[-1]}.items():
            assert row[key] == pytest.approx(100 * len(now & other) / len(now | other))


def test_shares_by_hand(script):
    sets = [{0, 1, 2, 3}, {1, 2}, {2, 4, 5}, {1, 2, 4}]
    rows = script("turnover.turnover").turnover(masks(sets, 8), notes(*PHASES))
    assert [row["nonzero_percent"] for row in rows] == [50, 25, 37.5, 37.5]
    assert [row["came_percent"] for row in rows] == pytest.approx([0, 0, 200 / 3, 100 / 3])
    assert [row["went_percent"] for row in rows] == pytest.approx([50, 50, 50, 100 / 3])
    assert [row["came_since_percent"] for row in rows] == pytest.approx([0, 0, 200 / 3, 100 / 3])
    assert [row["overlap_start_percent"] for row in rows] == pytest.approx([100, 50, 25, 200 / 3])
    assert [row["overlap_percent"] for row in rows] == pytest.approx([40, 200 / 3, 50, 100])
    assert [(row["epoch"], row["phase"]) for row in rows] == list(enumerate(PHASES, 1))


def test_a_set_that_is_empty_has_no_shares_and_is_like_itself(script):
    rows = script("turnover.turnover").turnover([np.zeros(3, bool)] * 2, notes("fit", "fit"))
    assert [row["came_percent"] for row in rows] == [0, 0]
    assert [row["overlap_percent"] for row in rows] == [100, 100]


def test_nonzeros_are_the_files_own(script):
    symbols = {"b": np.array([1, 0], np.uint8), "a": np.array([[0, 1], [2, 1]], np.uint8)}
    codebooks = {"all": np.array([0.5, 0.0, -1.0], np.float16)}
    quantized = sws.Quantized(symbols, codebooks, {"a": "all", "b": "all"}, {})
    found = script("turnover.turnover").nonzeros(quantized)
    assert found.tolist() == [True, False, True, False, False, True]


# A run, on 60 points.


@pytest.fixture
def small(script, monkeypatch, tmp_path):
    """TurnoverRun on a recipe of its own: 4 epochs of fitting, and 3 more."""
    monkeypatch.chdir(tmp_path)  # starts are kept in runs/
    module = script("turnover.turnover")
    rates = {"weights": 0.03, "means": 0.01, "precisions": 0.1, "proportions": 0.1}
    again = {"rates": {"weights": 0.03, "means": 0.01}}
    trained = {"epochs": 40, "batch_size": 20}
    recipe = write_recipe(
        tmp_path / "recipe",
        tau=0.005,
        epochs=4,
        rates=rates,
        pretraining=trained,
        refinement=again,
    )

    def run(name, widenings=(), changes=()):
        return module.TurnoverRun(recipe, name, changes, widenings=widenings, epochs=3)

    return run


def test_a_row_an_epoch_is_of_the_sets_that_are_kept(script, small, tmp_path):
    run = small("refined", (1.0, 2.0))
    row = run.row(tmp_path / "kept")
    assert [way["widening"] for way in row["ways"]] == [1.0, 2.0]
    with np.load(run.path(tmp_path / "kept") / "nonzero.npz") as packed:
        sets = [np.unpackbits(packed[f"way {i}"], axis=1, count=67).astype(bool) for i in (0, 1)]
    np.testing.assert_array_equal(sets[0][:4], sets[1][:4])  # one fit, shared
    for way, kept in zip(row["ways"], sets, strict=True):
        assert [r["phase"] for r in way["epochs"]] == ["fit"] * 4 + ["refinement"] * 3
        assert [r["epoch"] for r in way["epochs"]] == [1, 2, 3, 4, 5, 6, 7]
        assert ["description_nats" in r for r in way["epochs"]] == [False] * 4 + [True] * 3
        again = script("turnover.turnover").turnover(
            kept, notes(*(r["phase"] for r in way["epochs"]))
        )
        for own, other in zip(way["epochs"], again, strict=True):
            assert {key: own[key] for key in other} == other
        best = min(way["epochs"][4:], key=lambda r: r["description_nats"])
        if way["epoch_kept"] > 4:
            assert way["epoch_kept"] == best["epoch"]
            assert best["description_nats"] < way["description_nats_before"]
            assert way["nonzero_percent"] == best["nonzero_percent"]
            assert way["decoded_error_percent"] == pytest.approx(best["error_percent"])
    assert row["ways"][0]["epoch_kept"] > 4  # or nothing of the last epochs was seen
    assert any(r["came_percent"] > 0 for r in row["ways"][0]["epochs"][4:])


def test_a_plain_fit_has_as_many_epochs_and_ends_in_its_last_network(small, tmp_path):
    (way,) = small("plain", changes=("tau=0.005",)).row(tmp_path / "kept")["ways"]
    assert way["tau"] == 0.005 and "widening" not in way
    assert [r["phase"] for r in way["epochs"]] == ["fit"] * 7
    assert way["decoded_error_percent"] == pytest.approx(way["epochs"][-1]["error_percent"])


def test_a_run_is_kept_under_all_that_it_depends_on(small, tmp_path):
    runs = [small("a", (1.0,)), small("a", (2.0,)), small("a"), small("a", changes=("tau=1.0",))]
    runs += [replace(runs[0], epochs=4)]
    assert len({run.path(tmp_path) for run in runs}) == 5


def test_runs_and_what_is_collected_are_those_asked_for(script, tmp_path):
    module = script("turnover.turnover")
    runs = list(module.runs([0, 1], 0.2))
    assert [(r.seed, r.widenings) for r in runs] == [
        (seed, widenings) for seed in (0, 1) for widenings in (module.WIDENINGS, ())
    ]
    assert all(r.held_out for r in runs) and runs[1].changes[0] == "tau=0.2"
    contents = [{"ways": [{"tau": 0.3}]}, {"failed": "a loss that is not finite"}, {"ways": []}]
    for run, content in zip(runs, contents, strict=False):
        run.path(tmp_path).mkdir(parents=True)
        (run.path(tmp_path) / "row.json").write_text(json.dumps(content))
    assert module.collected([0, 1], 0.2, tmp_path) == [{"seed": 0, "tau": 0.3}]
