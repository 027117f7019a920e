"""Rounding to uniform grids: the best step by brute force, and the smallest file that is right."""

import numpy as np
import pytest
import torch
from torch import nn

import pyro_sws as sws


@pytest.fixture
def rounding(script):
    return script("strangers.rounding")


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("levels", [3, 5, 15, 63])
def test_values_lie_on_a_grid_around_zero(rounding, levels):
    values = np.random.RandomState(0).randn(40, 30)
    symbols, book = rounding.on_grid(values, levels)
    assert len(book) <= levels and 0 in book and symbols.shape == values.shape
    steps = book.astype(float) / book[book > 0].min()
    np.testing.assert_allclose(steps, np.rint(steps), rtol=2**-9)  # in half precision
    assert np.abs(np.rint(steps)).max() <= levels // 2


@pytest.mark.parametrize("levels", [3, 7, 31])
def test_the_step_is_as_good_as_any(rounding, levels):
    values = np.random.RandomState(1).standard_t(4, 500)
    symbols, book = rounding.on_grid(values, levels)
    ours = np.square(book.astype(float)[symbols] - values).sum()
    fine = np.geomspace(0.02, 1, 4000) * np.abs(values).max() / (levels // 2)
    grids = (step * np.arange(-(levels // 2), levels // 2 + 1) for step in fine)
    best = min(np.square(np.abs(g[:, None] - values).min(0)).sum() for g in grids)
    assert ours <= 1.05 * best


def test_many_weights_on_few_values_are_told_apart(rounding):
    # Where numpy sorts float16 with AVX-512, thousands of them on 7 values come out unsorted.
    for size in range(3000, 10000, 331):
        values = np.random.RandomState(0).randint(-3, 4, size) * 0.0202
        symbols, book = rounding.on_grid(values, 7)
        np.testing.assert_allclose(book.astype(float)[symbols], values, atol=1e-4)
        assert len(book) == 7


def test_a_tensor_of_zeros_stays_one(rounding):
    symbols, book = rounding.on_grid(np.zeros((2, 3), np.float32), 5)
    assert book.tolist() == [0.0] and not symbols.any()


def test_buffers_are_kept_and_vectors_are_rounded_or_not(rounding):
    own = net()
    alone, all_of_it = (rounding.quantized(own, 5, vectors) for vectors in (False, True))
    assert set(all_of_it.symbols) == set(dict(own.named_parameters()))
    assert set(alone.symbols) == {"0.weight", "3.weight"}
    assert alone.raw["0.bias"].dtype == np.float16
    np.testing.assert_array_equal(alone.raw["1.running_mean"], own[1].running_mean)
    np.testing.assert_allclose(alone.raw["1.weight"], own[1].weight.detach(), rtol=1e-3)


def test_the_smallest_file_that_is_good_enough_has_the_fewest_levels(rounding):
    own, inputs = net(), torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = own(inputs)

    def near(candidate):
        with torch.no_grad():
            return bool((candidate(inputs) - wanted).abs().max() < 0.1)

    found = rounding.smallest(own, near, inputs)
    assert found is not None and near(sws.load(found.data, into=own))
    fewer = [n for n in rounding.LEVELS if n < found.levels]
    for levels in fewer:
        tried = rounding.quantized(own, levels, found.vectors)
        assert not near(sws.load(sws.encode(tried), into=own))
    assert fewer and len(found.data) <= len(
        sws.encode(rounding.quantized(own, found.levels, found.vectors))
    )


def test_where_no_grid_will_do_there_is_no_file(rounding):
    assert rounding.smallest(net(), lambda candidate: False, torch.randn(4, 6)) is None
