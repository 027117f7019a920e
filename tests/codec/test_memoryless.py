"""Symbols without structure: the file takes hardly more than the best memoryless codes."""

import numpy as np
import pytest

from pyro_sws.bounds.rates import kt_bits, nml_bits
from pyro_sws.codec.coders import CODERS, Plane


def odds(kind, levels):
    """Probabilities of each level."""
    rank = np.arange(levels)
    weights = {
        "uniform": np.ones(levels),
        "geometric": 0.8**rank,
        "zipf": 1 / (1 + rank),
        "one": np.where(rank == 0, 1.0, 0.0),
        "half": np.where(2 * rank <= levels, 1.0, 0.0),
        "few": np.random.default_rng(7).dirichlet(np.full(levels, 0.1)) + 1e-12,
    }[kind]
    return weights / weights.sum()


def drawn(size, levels, kind):
    """Symbols whose order says nothing about their frequency."""
    rng = np.random.default_rng([size, levels])
    names = rng.permutation(levels)
    return names[rng.choice(levels, size, p=odds(kind, levels))].astype(np.uint16)


def excess(symbols, levels, zero):
    """Bytes beyond the better of the two oracles and its 0.5 %."""
    counts = np.bincount(symbols.ravel(), minlength=levels)
    oracle = min(kt_bits(counts), nml_bits(counts)) / 8
    payload = CODERS["context"].encode([symbols], [Plane(symbols.shape, levels, zero)])
    return len(payload) - 1.005 * oracle


KINDS = ["uniform", "geometric", "zipf", "one", "half", "few"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [2, 3, 4, 16, 17, 200, 257])
@pytest.mark.parametrize("size", [1, 2, 10, 100, 200, 1000])
def test_a_tensor_takes_at_most_four_bytes_beyond_the_best_memoryless_codes(size, levels, kind):
    symbols = drawn(size, levels, kind)
    for zero in {None, int(symbols[0]), levels - 1}:
        assert excess(symbols, levels, zero) <= 4


@pytest.mark.integration
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [2, 17, 257])
@pytest.mark.slow
def test_ten_thousand_weights_do_too(levels, kind):
    symbols = drawn(10_000, levels, kind).reshape(100, 100)
    assert excess(symbols, levels, int(symbols[0, 0])) <= 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [2, 17, 257])
@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_a_million_weights_do_too(size, levels, kind, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("PYRO_SWS_CODEC", "numba")
    symbols = drawn(size, levels, kind).reshape(100, -1)
    assert excess(symbols, levels, int(symbols[0, 0])) <= 4
    assert excess(symbols, levels, None) <= 4
