"""The coder's benchmark: what it times is what it says, and it leaves the environment alone."""

import os
from argparse import Namespace

import numpy as np
import pytest


@pytest.fixture
def module(script):
    return script("coders.speed")


@pytest.mark.parametrize("uneven", [False, True])
def test_a_synthetic_network_has_the_share_of_zeros_that_was_asked_for(module, uneven):
    net = module.synthetic(400_000, 0.02, uneven)
    error = (0.02 * 0.98 / 400_000) ** 0.5 + uneven * 0.02 / 1000**0.5  # of draws, of 1,000 shares
    assert abs(net.nonzero / net.size - 0.02) < 5 * error
    by_column = (net.symbols["w"] != 8).sum(0)
    assert (np.var(by_column) > 2 * np.mean(by_column)) == uneven  # even ones are binomial


def test_the_choice_of_the_way_is_undone(module, monkeypatch):
    for before in ("auto", None):
        monkeypatch.delenv("PYRO_SWS_CODEC", raising=False)
        if before:
            monkeypatch.setenv("PYRO_SWS_CODEC", before)
        assert module.as_way("python", lambda: os.environ["PYRO_SWS_CODEC"]) == "python"
        assert os.environ.get("PYRO_SWS_CODEC") == before


def test_both_ways_write_as_many_bytes(module, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(module, "SIZES", dict.fromkeys(module.WAYS, 3000))
    rows = module.measure("uneven", 0.02, Namespace(quick=False, rounds=1))
    assert rows["numba"]["bytes"] == rows["python"]["bytes"]
    assert rows["python"]["encode_weights_per_second"] > 0
