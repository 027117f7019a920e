"""Symbols and the values that they stand for."""

import pytest
import torch

from pyro_sws.compression.post_training.choose import Problem
from pyro_sws.compression.post_training.codebook import MOST, Codebook
from pyro_sws.compression.post_training.tensor import choose

BOOK = Codebook(0.5, torch.tensor([-2.0, -0.3, 0.0, 0.4, 3.0]), 2, torch.rand(2, 3, 1) + 0.5)
WEIGHTS = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))


def test_nearest_is_the_least_distance_of_all():
    every = torch.stack([BOOK.values(torch.full_like(WEIGHTS, s)) for s in range(-2, 3)])
    expected = (every - WEIGHTS).abs().argmin(0) - 2
    assert torch.equal(BOOK.nearest(WEIGHTS), expected.float())


def test_values_of_columns_are_columns_of_the_values():
    book = Codebook(1.0, BOOK.levels, 2, torch.rand(2, 1, 50) + 0.5)
    symbols = book.nearest(WEIGHTS)
    for columns in (slice(4, 9), torch.tensor([7, 2])):
        own = book.at(columns).values(symbols[..., columns])
        assert torch.equal(own, book.values(symbols)[..., columns])
    assert torch.equal(book.at(7).values(symbols[..., 7:8]), book.values(symbols)[..., 7:8])


@pytest.mark.parametrize(
    ("count", "zero", "levels"),
    [
        (4, True, [-2, -1, 0, 1, 2]),
        (3, True, [-1, 0, 1, 2]),
        (4, False, [-1.5, -0.5, 0.5, 1.5]),
        (1, True, [0, 1]),
    ],
)
def test_even_values_are_around_zero(count, zero, levels):
    book = Codebook.even(count, zero)
    assert book.levels.tolist() == levels and book.has_zero is (0 in levels)


def test_a_step_is_a_table_of_whole_numbers():
    inputs = torch.randn(100, 12, generator=torch.Generator().manual_seed(1))
    mixed = inputs @ torch.randn(12, 12, generator=torch.Generator().manual_seed(2))
    own = Problem(WEIGHTS[:1, :, :12], (mixed.T @ mixed / 100)[None], 0.7, 1e-3)
    steps, table = Codebook(1.0), Codebook.even(2 * MOST, zero=True)
    (by_step,), (by_table,) = (choose([own], [book], 0.01, 3) for book in (steps, table))
    assert torch.equal(by_step.symbols, by_table.symbols)
    torch.testing.assert_close(by_step.values, by_table.values)
