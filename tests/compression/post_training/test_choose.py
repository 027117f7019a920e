"""Which value of a codebook each weight takes."""

import itertools
from dataclasses import replace

import pytest
import torch

from pyro_sws.compression.post_training.choose import Problem, descended, fed_back, feedback
from pyro_sws.compression.post_training.codebook import MOST, Codebook
from pyro_sws.compression.post_training.rates import Rates
from pyro_sws.compression.post_training.tensor import Chosen, choose, rescaled
from pyro_sws.weights.curvature import Block, Layout

NOTHING = 1e-12  # a rate at which bits are worth nothing


def problem(groups=1, rows=6, columns=12, seed=0, damping=1e-6):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(groups, 200, columns, generator=generator)
    mixed = inputs @ torch.randn(groups, columns, columns, generator=generator)
    weights = torch.randn(groups, rows, columns, generator=generator)
    return Problem(weights, mixed.mT @ mixed / 200, 0.7, damping)


def nearest(own: Problem, step: float) -> torch.Tensor:
    return (own.weights / step).round()


def one(own: Problem, rate: float, descents: int) -> Chosen:
    (chosen,) = choose([own], [Codebook(1.0)], rate, descents)
    return chosen


def objective(own: Problem, symbols, book, rate, rates):
    return own.cost(book.values(symbols)) + rate * float(
        rates.bits(symbols, *rates.at(slice(None))).sum()
    )


def test_cost_is_that_of_the_block():
    weights = torch.randn(4, 3, 5)
    moments = torch.randn(20, 15)
    block = Block(
        weights, (moments.T @ moments)[None], torch.full((1, 4), 0.3), Layout.plain((4, 3, 5))
    )
    own = Problem.of(block, 0.01)
    symbols = nearest(own, 0.5)
    tensor = block.layout.tensor(symbols * 0.5, (4, 3, 5))
    assert own.cost(symbols * 0.5) == pytest.approx(float(block.cost(tensor)), rel=1e-5)


def test_uncorrelated_inputs_round_to_nearest():
    own = replace(problem(), moments=torch.diag_embed(torch.rand(1, 12) + 0.5))
    symbols = fed_back(
        feedback(own, NOTHING), Codebook(0.4), NOTHING, Rates.of(nearest(own, 0.4), MOST)
    )
    assert torch.equal(symbols, nearest(own, 0.4))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_error_feedback_costs_less_than_rounding(groups, seed):
    own = problem(groups, rows=30, columns=20, seed=seed)
    symbols = fed_back(
        feedback(own, NOTHING), Codebook(0.8), NOTHING, Rates.of(nearest(own, 0.8), MOST)
    )
    assert own.cost(0.8 * symbols) < 0.8 * own.cost(0.8 * nearest(own, 0.8))


def test_error_feedback_is_column_by_column_as_by_hand():
    """Two columns: the second one is moved by what the first one's error leaves to it."""
    moments = torch.tensor([[[2.0, 0.9], [0.9, 1.0]]])
    own = Problem(torch.tensor([[[0.74, -0.31]]]), moments, 1.0, 1e-9)
    symbols = fed_back(
        feedback(own, NOTHING), Codebook(1.0), NOTHING, Rates.of(nearest(own, 1.0), MOST)
    )
    error = 0.74 - 1.0
    assert symbols.tolist() == [[[1.0, round(-0.31 + error * 0.9 / 1.0)]]]


def test_columns_in_blocks_are_columns_one_by_one(monkeypatch):
    own = problem(groups=2, rows=10, columns=20)
    ready, rates = feedback(own, NOTHING), Rates.of(nearest(own, 0.7), MOST)
    whole = fed_back(ready, Codebook(0.7), NOTHING, rates)
    monkeypatch.setattr("pyro_sws.compression.post_training.choose.WIDTH", 3)
    assert torch.equal(fed_back(ready, Codebook(0.7), NOTHING, rates), whole)


@pytest.mark.parametrize("rate", [1e-3, 0.05])
def test_descent_ends_where_no_single_change_is_better(rate):
    own = problem(rows=3, columns=6)
    symbols = nearest(own, 1.0)
    rates = Rates.of(symbols, MOST)
    for _ in range(20):
        before = symbols
        symbols = descended(own, symbols, Codebook(1.0), rate, rates)
        least = objective(own, symbols, Codebook(1.0), rate, rates)
        assert least <= objective(own, before, Codebook(1.0), rate, rates) + 1e-4
    for r, c, change in itertools.product(range(3), range(6), (-1, 1)):
        other = symbols.clone()
        other[0, r, c] += change
        assert objective(own, other, Codebook(1.0), rate, rates) >= least - 1e-4


def test_bits_that_are_worth_much_leave_zeros():
    own = problem()
    cheap, dear = (one(own, rate, 2) for rate in (1e-4, 1.0))
    assert dear.bits < cheap.bits
    assert (dear.symbols == 0).float().mean() > (cheap.symbols == 0).float().mean()
    assert dear.nats > cheap.nats


def test_dead_inputs_cost_nothing_and_are_zero():
    own = problem(columns=8)
    own.moments[:, 3], own.moments[:, :, 3] = 0, 0
    chosen = one(own, 1e-2, 2)
    assert (chosen.symbols[..., 3] == 0).all()
    assert (chosen.symbols[..., :3] != 0).any()


def test_fewer_inputs_than_columns_are_damped():
    inputs = torch.randn(1, 3, 40)
    own = Problem(torch.randn(1, 5, 40), inputs.mT @ inputs / 3, 1.0, 0.01)
    chosen = one(own, 1e-3, 2)
    assert chosen.symbols.isfinite().all()
    assert chosen.nats < own.cost(torch.zeros_like(own.weights))


def test_a_tensor_of_zeros_stays_one():
    own = replace(problem(), weights=torch.zeros(1, 6, 12))
    chosen = one(own, 1e-3, 2)
    assert not chosen.values.any() and chosen.nats == 0


def test_outputs_are_as_large_as_they_were():
    """Along the given outputs: what the step of least cost does not leave them."""
    own = problem(rows=40, columns=30)
    symbols = nearest(own, 2.0)
    (chosen,) = rescaled([own], [Chosen.measured(own, symbols, Codebook(2.0))])
    inner = (own.along(own.weights) * chosen.values).sum()
    assert float(inner) == pytest.approx(float((own.along(own.weights) * own.weights).sum()), 1e-4)
