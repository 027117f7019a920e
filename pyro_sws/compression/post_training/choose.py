"""Which value of a codebook each weight takes: error feedback, then coordinate descent.

A tensor is (G, R, C), as its Block has it. What is minimised is, over symbols q and of nats,
1/2 sum_gr rows[g, r] d' M[g] d + rate bits(q), with d = value(q) - w (see ``Block``). One weight
``rows`` serves all rows of a tensor, its mean: with one for each, what the feedback expects of the
weights still to be chosen would have to differ from row to row.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.compression.post_training.codebook import Codebook
from pyro_sws.compression.post_training.rates import Rates
from pyro_sws.weights.curvature import Block

WIDTH = 128  # columns between two updates of all that follow
DAMPED_DESCENT = 0.01  # of the damping, in coordinate descent


@dataclass(frozen=True, eq=False)
class Problem:
    """One tensor's: what its weights are, and what errors in them cost."""

    weights: Tensor  # (G, R, C)
    moments: Tensor  # (G, C, C), or (G, C) of a diagonal; undamped
    importance: float  # nats for a squared error of the output
    damping: float

    @staticmethod
    def of(block: Block, damping: float) -> "Problem":
        weights = block.layout.matrix(block.at).float()
        return Problem(weights, block.moments.float(), float(block.rows.mean()), damping)

    @property
    def diagonal(self) -> Tensor:
        """(G, C)"""
        full = self.moments.dim() == 3
        return self.moments.diagonal(dim1=-2, dim2=-1) if full else self.moments

    def cost(self, values: Tensor) -> float:
        """Nats an example of weights (G, R, C)."""
        away = values - self.weights
        squares = (self.along(away) * away).sum(dtype=torch.float64)
        return float(0.5 * self.importance * squares)

    def along(self, away: Tensor) -> Tensor:
        """The moments times what rows are away; (G, R, C)."""
        moments = self.moments.to(away)
        return away @ moments if moments.dim() == 3 else away * moments[:, None]


@dataclass(frozen=True, eq=False)
class Feedback:
    """What is the same for all steps of a tensor at one rate: factors, and the order of columns."""

    targets: Tensor  # (G, R, C) what rows are drawn to, columns in order
    factor: Tensor | None  # (G, C, C) upper triangular; None: columns are independent
    order: Tensor  # (C,)
    pull: float  # the part of the rate that the factor has in it already, nats per squared weight
    scale: Tensor  # (G, C) nats of a squared error in the column that is being chosen


def feedback(problem: Problem, rate: float) -> Feedback:
    """The factor of Conzel et al. 2025: a Gaussian's rate is part of the quadratic cost."""
    weights, diagonal = problem.weights, problem.diagonal
    importance = max(problem.importance, 1e-30)
    floor = problem.damping * diagonal.mean(-1, keepdim=True).clamp_min(1e-30)
    variance = float(weights.double().var(correction=0))
    pull = rate / (math.log(2) * variance) if variance > 0 else 0.0
    if problem.moments.dim() == 2:
        order = torch.arange(weights.shape[-1], device=weights.device)
        return Feedback(weights, None, order, 0.0, importance * (diagonal + floor))
    order = diagonal.mean(0).argsort(descending=True)
    drawn = problem.moments[:, order][:, :, order].double()
    drawn.diagonal(dim1=-2, dim2=-1).add_(floor.double() + pull / importance)
    factor = _factor(drawn)
    towards = problem.along(weights.double()) + floor[:, None].double() * weights
    targets = towards[..., order] @ factor.mT @ factor
    pivots = factor.diagonal(dim1=-2, dim2=-1)
    return Feedback(
        targets.float(), factor.float(), order, pull, (importance / pivots.square()).float()
    )


def _factor(matrix: Tensor) -> Tensor:
    """Upper triangular U with U' U the inverse; damped tenfold until it exists.

    The matrix is then R R' with R = U^-1, whose rows and columns in reverse are Cholesky's factor
    of the matrix in reverse: a third of the work of inverting first.
    """
    size = matrix.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    eye, more = torch.eye(matrix.shape[-1]).to(matrix), 0.0
    while True:
        damped = matrix + more * size * eye if more else matrix
        lower, failed = torch.linalg.cholesky_ex(damped.flip(-1, -2))
        if not failed.any():
            return torch.linalg.solve_triangular(lower.flip(-1, -2), eye, upper=True)
        more = max(1e-6, 10 * more)


@torch.no_grad()
def fed_back(ready: Feedback, book: Codebook, rate: float, rates: Rates) -> Tensor:
    """Symbols (G, R, C), column by column, each error passed on to the columns that follow."""
    order = ready.order
    book = book.at(order)
    rates = replace(rates, columns=rates.columns[..., order])
    weights = ready.targets.clone()
    chosen = torch.empty_like(weights)
    if ready.factor is None:
        return _nearest(weights, ready.scale[:, None], book, rate, rates, slice(None))
    columns = weights.shape[-1]
    for begin in range(0, columns, WIDTH):
        end = min(columns, begin + WIDTH)
        errors = torch.empty_like(weights[..., begin:end])
        for at in range(begin, end):
            target = weights[..., at : at + 1]
            scale = ready.scale[:, None, at : at + 1]
            here = book.at(at)
            symbol = _nearest(target, scale, here, rate, rates, at, ready.pull)
            chosen[..., at : at + 1] = symbol
            pivot = ready.factor[:, None, at, at : at + 1]
            error = (target - here.values(symbol)) / pivot
            errors[..., at - begin : at - begin + 1] = error
            weights[..., at + 1 : end] -= error * ready.factor[:, None, at, at + 1 : end]
        weights[..., end:] -= errors @ ready.factor[:, begin:end, end:]
    return chosen[..., torch.argsort(order)]


def _nearest(
    target: Tensor,
    scale: Tensor,
    book: Codebook,
    rate: float,
    rates: Rates,
    at: int | slice,
    pull: float = 0.0,
    current: Tensor | None = None,
) -> Tensor:
    """The symbol of least cost among the nearest, two towards zero, zero, and the current one."""
    zero, nonzero = rates.at(at)
    first = book.nearest(target)
    sign = first.sign()
    nearer = [(first - back * sign) * ((first - back * sign) * sign > 0) for back in (1, 2)]

    best, least = torch.zeros_like(first), 0.5 * scale * target.square() + rate * zero
    if not book.has_zero:
        least = torch.full_like(least, math.inf)
        nearer.append(best)
    for symbol in (first, *nearer, *([] if current is None else [current])):
        value = book.values(symbol)
        cost = 0.5 * scale * (target - value).square() - 0.5 * pull * value.square()
        cost = cost + rate * rates.bits(symbol, zero, nonzero)
        better = cost < least
        best, least = torch.where(better, symbol, best), torch.where(better, cost, least)
    return best


@torch.no_grad()
def descended(
    problem: Problem, symbols: Tensor, book: Codebook, rate: float, rates: Rates
) -> Tensor:
    """Symbols after one coordinate descent through the columns: nothing that raises the cost."""
    if problem.moments.dim() == 2:
        if book.levels is None:  # a step's first choice stays: only levels move under their weights
            return symbols
        scale = problem.importance * problem.diagonal[:, None]
        every = slice(None)
        return _nearest(problem.weights, scale, book, rate, rates, every, current=symbols)
    symbols = symbols.clone()
    small = DAMPED_DESCENT * problem.damping * problem.diagonal.mean(-1, keepdim=True)
    moments = problem.moments + torch.diag_embed(small)
    slope = (book.values(symbols) - problem.weights) @ moments
    for at in range(symbols.shape[-1]):
        own = moments[:, at, at][:, None, None].clamp_min(1e-30)
        current = symbols[..., at : at + 1]
        here = book.at(at)
        target = here.values(current) - slope[..., at : at + 1] / own
        scale = problem.importance * own
        better = _nearest(target, scale, here, rate, rates, at, current=current)
        slope += here.change(current, better) * moments[:, at][:, None]
        symbols[..., at : at + 1] = better
    return symbols
