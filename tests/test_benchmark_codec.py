"""The coder's benchmark: what it times is what it says, and it leaves the environment alone."""

import importlib
import os
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("benchmark_codec")


@pytest.mark.parametrize("uneven", [False, True])
def test_a_synthetic_network_has_the_share_of_zeros_that_was_asked_for(script, uneven):
    net = script.synthetic(400_000, 0.02, uneven)
    error = (0.02 * 0.98 / 400_000) ** 0.5 + uneven * 0.02 / 1000**0.5  # of draws, of 1,000 shares
    assert abs(net.nonzero / net.size - 0.02) < 5 * error
    by_column = (net.symbols["w"] != 8).sum(0)
    assert (np.var(by_column) > 2 * np.mean(by_column)) == uneven  # even ones are binomial


def test_the_choice_of_the_way_is_undone(script, monkeypatch):
    for before in ("auto", None):
        monkeypatch.delenv("PYRO_SWS_CODEC", raising=False)
        if before:
            monkeypatch.setenv("PYRO_SWS_CODEC", before)
        assert script.as_way("python", lambda: os.environ["PYRO_SWS_CODEC"]) == "python"
        assert os.environ.get("PYRO_SWS_CODEC") == before


def test_both_ways_write_as_many_bytes(script, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(script, "SIZES", dict.fromkeys(script.WAYS, 3000))
    rows = script.measure("uneven", 0.02, Namespace(quick=False, rounds=1))
    assert rows["numba"]["bytes"] == rows["python"]["bytes"]
    assert rows["python"]["encode_weights_per_second"] > 0
