"""Values that are found from the weights: in closed form given the symbols, as many as pay."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_sws.compression.post_training.choose import Problem, descended
from pyro_sws.compression.post_training.codebook import MOST, Codebook
from pyro_sws.compression.post_training.families import Values, choose_values
from pyro_sws.compression.post_training.free_values import VALUE_BITS, Quadratic, revalued
from pyro_sws.compression.post_training.rates import Rates
from pyro_sws.compression.post_training.tensor import Chosen, total

NOTHING = 1e-12  # a rate at which bits are worth nothing


def problem(groups=1, rows=6, columns=12, seed=0, importance=0.7):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(groups, 200, columns, generator=generator, dtype=torch.float64)
    mix = torch.randn(groups, columns, columns, generator=generator, dtype=torch.float64)
    weights = torch.randn(groups, rows, columns, generator=generator, dtype=torch.float64)
    mixed = inputs @ mix
    return Problem(weights, mixed.mT @ mixed / 200, importance, 1e-6)


def several():
    """Two tensors, of one codebook: one by its own scale, the other's rows by theirs, too."""
    problems = [problem(groups=2), problem(rows=4, columns=5, seed=1, importance=0.2)]
    books = [
        replace(Codebook.even(4, zero=True), scale=0.6),
        replace(Codebook.even(4, zero=True), scale=0.9, relative=torch.rand(1, 4, 1) + 0.5),
    ]
    pairs = zip(problems, books, strict=True)
    return problems, [Chosen.measured(p, b.nearest(p.weights), b) for p, b in pairs]


def least_squares(problems, chosen, zero):
    """Levels by numpy, from the whole design matrix: a row for each of a factor's, of each row."""
    designs, targets = [], []
    for own, its in zip(problems, chosen, strict=True):
        scales = torch.ones_like(own.weights) * its.scales
        picks = torch.nn.functional.one_hot(its.book.ranks(its.symbols), len(its.book.levels))
        for g, r in itertools.product(range(own.weights.shape[0]), range(own.weights.shape[1])):
            factor = own.importance**0.5 * torch.linalg.cholesky(own.moments[g]).mT
            designs.append(factor @ (scales[g, r][:, None] * picks[g, r]))
            targets.append(factor @ own.weights[g, r])
    design, target = torch.cat(designs).numpy(), torch.cat(targets).numpy()
    kept = [k for k in range(design.shape[1]) if k != zero]
    levels = np.zeros(design.shape[1])
    levels[kept], squares, *_ = np.linalg.lstsq(design[:, kept], target, rcond=None)
    return levels, 0.5 * float(squares[0])


@pytest.mark.parametrize("zero", [2, None])
def test_values_are_those_of_least_squares(zero):
    problems, chosen = several()
    quadratic = Quadratic.of(problems, chosen)
    expected, nats = least_squares(problems, chosen, zero)
    levels = quadratic.least(zero)
    assert levels.numpy() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert quadratic.cost(levels) == pytest.approx(nats, rel=1e-6)


def test_quadratic_is_the_cost_of_the_weights():
    problems, chosen = several()
    levels = torch.tensor([-1.3, -0.4, 0.1, 0.8, 2.0])
    moved = [replace(own, book=replace(own.book, levels=levels)) for own in chosen]
    nats = sum(p.cost(own.values.double()) for p, own in zip(problems, moved, strict=True))
    assert Quadratic.of(problems, chosen).cost(levels.double()) == pytest.approx(nats, rel=1e-5)


@pytest.mark.parametrize("zero", [2, None])
def test_joins_cost_what_the_best_values_of_one_level_less_do(zero):
    quadratic = Quadratic.of(*several())
    before = quadratic.cost(quadratic.least(zero))
    for left, lost in enumerate(quadratic.lost(zero).tolist()):
        onto = torch.arange(5) - (torch.arange(5) > left).long()
        fewer = quadratic.joined(onto, 4)
        after = fewer.cost(fewer.least(None if zero is None else int(onto[zero])))
        assert lost == pytest.approx(after - before, rel=1e-4)


def test_values_given_the_symbols_cost_no_more():
    problems, chosen = several()
    assert sum(own.nats for own in measured(problems, revalued(problems, chosen, NOTHING))) < sum(
        own.nats for own in chosen
    )


def measured(problems, chosen):
    pairs = zip(problems, chosen, strict=True)
    return [Chosen.measured(own, its.symbols, its.book) for own, its in pairs]


def test_fewer_values_where_bits_are_worth_more():
    """Down to three, as one on each side of zero stays."""
    own = problem(rows=40, columns=20)
    book = replace(Codebook.even(32, zero=True), scale=0.2)
    chosen = [Chosen.measured(own, book.nearest(own.weights), book)]
    counts = [len(revalued([own], chosen, r)[0].book.levels) for r in (1e-9, 1e-2, 0.1, 1e3)]
    assert counts[0] == len(chosen[0].symbols.unique())
    assert counts == sorted(counts, reverse=True) and counts[-1] == 3
    assert len(set(counts)) == 4


def test_a_value_less_is_taken_only_where_that_is_cheaper():
    own = problem(rows=40, columns=20)
    book = replace(Codebook.even(32, zero=True), scale=0.2)
    start, rate = [Chosen.measured(own, book.nearest(own.weights), book)], 0.01
    kept = measured([own], revalued([own], start, NOTHING))
    joined = measured([own], revalued([own], start, rate))
    assert len(joined[0].book.levels) < len(kept[0].book.levels)
    fewer = len(kept[0].book.levels) - len(joined[0].book.levels)
    assert total(joined, rate) < total(kept, rate) + rate * VALUE_BITS * fewer


def test_values_of_no_weight_go_and_zero_stays():
    own = problem()
    book = Codebook.even(32, zero=True)
    zeros = Chosen.measured(own, torch.zeros_like(own.weights), book)
    (chosen,) = revalued([own], [zeros], NOTHING)
    assert chosen.book.levels.tolist() == [0.0]


@pytest.mark.parametrize("apart", [True, False])
def test_weights_that_take_few_values_keep_them(apart):
    """No grid has those. Of independent columns they are found, and no other."""
    true = torch.tensor([-1.0, -0.37, 0.0, 0.21, 0.9], dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    own = problem(rows=30)
    picks = torch.randint(5, own.weights.shape, generator=generator)
    diagonal = own.moments.diagonal(dim1=-2, dim2=-1)
    own = replace(own, weights=true[picks] * (2.0 if apart else 1.0), moments=diagonal)
    values = Values(Codebook.even(12, zero=True), free=True, own_scale=apart)
    (chosen,) = choose_values(values, [own], [values.book], 1e-6, 2, None)
    assert chosen.values.double() == pytest.approx(own.weights, abs=1e-3)
    assert len(chosen.book.levels) == 5


def test_tensors_that_share_values_do_so_at_scales_of_their_own():
    problems = [problem(rows=30), problem(rows=30, seed=1)]
    problems[1] = replace(problems[1], weights=problems[1].weights * 100, importance=7e-5)
    values = Values(Codebook.even(8, zero=True), free=True, own_scale=True)
    books = [values.book] * 2
    first, second = choose_values(values, problems, books, 1e-3, 2, None)
    assert torch.equal(first.book.levels, second.book.levels)
    assert 30 < second.book.scale / first.book.scale < 300


def test_without_a_spike_no_value_is_zero():
    own = problem(rows=30)
    values = Values(Codebook.even(4, zero=False), free=True, scaled=False)
    (chosen,) = choose_values(values, [own], [values.book], 1e-4, 2, None)
    assert 1 < len(chosen.book.levels) <= 4
    assert (chosen.values != 0).all()


# Rows short enough for all assignments to be tried.
TINY = Codebook(1.0, torch.tensor([-0.8, 0.0, 1.1]), 1)


def every_assignment(own: Problem):
    symbols = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=4)))
    return {tuple(row.tolist()): own.cost(TINY.values(row)[None, None]) for row in symbols}


@pytest.mark.parametrize("seed", range(5))
def test_independent_columns_take_the_best_of_all_assignments(seed):
    own = problem(rows=1, columns=4, seed=seed)
    own = replace(own, moments=own.moments.diagonal(dim1=-2, dim2=-1))
    symbols = torch.zeros(1, 1, 4)
    symbols = descended(own, symbols, TINY, 0.0, Rates.of(symbols, MOST))
    assert own.cost(TINY.values(symbols)) == min(every_assignment(own).values())


@pytest.mark.parametrize("rate", [0.0, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_descent_never_raises_the_cost_from_any_assignment(seed, rate):
    own = problem(rows=1, columns=4, seed=seed)
    costs = every_assignment(own)
    rates = Rates.of(TINY.nearest(own.weights), MOST)
    for row in costs:
        before = torch.tensor([[row]])
        after = descended(own, before, TINY, rate, rates)
        costly = [
            rate * float(rates.bits(s, *rates.at(slice(None))).sum()) for s in (before, after)
        ]
        lost = costs[tuple(after.flatten().tolist())] - costs[row]
        assert lost + costly[1] - costly[0] <= 1e-4  # the descent is of moments damped a little
