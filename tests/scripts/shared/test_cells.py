"""Cells of tables, by hand."""

import pytest


@pytest.fixture
def cells(script):
    return script("shared.cells")


def test_one_value_has_no_range(cells):
    assert cells.mean_and_range([2.5], ".1f", " %") == "2.5 %"
    assert cells.mean_and_range([1000.0, 3000.0], ",.0f") == "2,000 (1,000-3,000)"


def test_a_time_stands_beside_its_base(cells):
    assert cells.times_of(None, 10.0) == "-"
    assert cells.times_of({"median_ms": 1234.5}, None) == "1,234 ms"
    assert cells.times_of({"median_ms": 2.5}, 10.0) == "2.5 ms (0.25x)"
    assert cells.times_of({"median_ms": 2.5}, 10.0, faster=True) == "2.5 ms (4x)"


def test_a_source_says_how_when_and_where(cells):
    machine = {"threads": 2, "cores": 4, "cpu_capability": "AVX2"}
    about = {"command": "python a.py", "date": "2026-11-30", "machine": machine, "note": "Rough."}
    about["versions"] = {"torch": "2.13"}
    expected = "`python a.py`, 2026-11-30: 2 threads of 4 cores (AVX2), torch 2.13. Rough."
    assert cells.source_of({"_about": about}) == expected
