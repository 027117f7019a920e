"""The study of symbols without structure: what it compares with, on a small case."""

import numpy as np
import pytest

from pyro_sws.bounds.rates import kt_bits, nml_bits


@pytest.fixture
def module(script):
    return script("coders.memoryless")


def test_the_excess_is_over_the_shorter_of_both_codes(module):
    rows = module.measure(50, 2, seed=0)
    alone = next(row for row in rows if row["source"] == "one alone")
    bound = min(kt_bits(np.array([50, 0])), nml_bits(np.array([50, 0]))) / 8
    assert alone["excess_bytes"] == pytest.approx(alone["bytes"] - 1.005 * bound, abs=0.01)
    assert len(rows) == 2 * len(module.SOURCES)
