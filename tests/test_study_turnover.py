"""The study of turnover: what is counted from one epoch to the next, against plain sets."""

import importlib
from pathlib import Path

import numpy as np
import pytest

import pyro_sws as sws

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("study_turnover")


def test_shares_are_those_of_sets(study):
    generator = np.random.default_rng(0)
    kept = [generator.random(200) < share for share in (0.5, 0.3, 0.4, 0.1)]
    rows = study.turnover(kept, [{"error_percent": e} for e in (9.0, 5.0, 4.0, 3.0)])
    sets = [set(np.flatnonzero(mask)) for mask in kept]
    for i in range(1, 4):
        before, now, row = sets[i - 1], sets[i], rows[i]
        assert row["came_percent"] == pytest.approx(100 * len(now - before) / len(now))
        assert row["went_percent"] == pytest.approx(100 * len(before - now) / len(before))
        overlap = len(now & sets[-1]) / len(now | sets[-1])
        assert row["overlap_percent"] == pytest.approx(100 * overlap)
        assert row["nonzero_percent"] == pytest.approx(100 * len(now) / 200)
        assert (row["epoch"], row["error_percent"]) == (i + 1, (9.0, 5.0, 4.0, 3.0)[i])
    assert rows[0]["came_percent"] == 0


def test_a_set_that_is_empty_has_no_shares(study):
    rows = study.turnover([np.zeros(3, bool)] * 2, [{}, {}])
    assert [row["came_percent"] for row in rows] == [0, 0]


def test_nonzeros_are_the_files_own(study):
    symbols = {"a": np.array([[0, 1], [2, 1]], np.uint8), "b": np.array([1, 0], np.uint8)}
    codebooks = {"all": np.array([0.5, 0.0, -1.0], np.float16)}
    quantized = sws.Quantized(symbols, codebooks, {"a": "all", "b": "all"}, {})
    assert study.nonzeros(quantized).tolist() == [True, False, True, False, False, True]


def test_the_picture_is_drawn(study, tmp_path):
    row = {"error_percent": 2.0, "came_percent": 1.0, "overlap_percent": 50.0}
    ways = {name: [{"epoch": i, **row} for i in (1, 2, 3)] for name in "abcde"}
    study.draw(ways, tmp_path / "turnover.png")
    assert (tmp_path / "turnover.png").stat().st_size > 10_000
