"""Symbols of tensors, and the scale that they have together: what costs least in nats and bits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.compression.post_training.choose import (
    Feedback,
    Problem,
    descended,
    fed_back,
    feedback,
)
from pyro_sws.compression.post_training.codebook import MOST, Codebook
from pyro_sws.compression.post_training.rates import Rates

ROOT = 2**0.5
# Steps that are tried, in root mean squares of the weights, from few symbols to a hundred; then two
# beside the best. Of a large tensor of which little matters, costs have two valleys, of fine steps
# and of coarse ones, and the coarse one is the deeper.
STEPS = tuple(2.0**i for i in range(4, -6, -1))
COVERED = 2.0  # root mean squares that a codebook reaches at least at the first step
FED_BACK = 0.25  # of the rate, in error feedback, which cannot take a weight back; descents can
PASSES = 2  # of error feedback: the first one's symbols say what the second one's cost
WIDER = (1 / ROOT, 1.0, ROOT, 2.0)  # beside the step at the last rate, a smaller one


@dataclass(frozen=True, eq=False)
class Chosen:
    """Symbols (G, R, C), whole numbers, and the codebook that they are of."""

    symbols: Tensor
    book: Codebook
    nats: float  # an example, that they cost
    bits: float  # in the file, about

    @staticmethod
    def measured(problem: Problem, symbols: Tensor, book: Codebook) -> "Chosen":
        """With what they cost as a tensor's symbols."""
        bits = Rates.of(symbols, MOST).total(symbols)
        return Chosen(symbols, book, problem.cost(book.values(symbols)), bits)

    def total(self, rate: float) -> float:
        """Nats and what the bits are worth."""
        return self.nats + rate * self.bits

    @property
    def levels(self) -> Tensor:
        """The weights over their scales (G, R, C)."""
        return self.book.level(self.symbols)

    @property
    def scales(self) -> Tensor:
        """What those are multiplied by, weight by weight."""
        scales = torch.full_like(self.symbols, self.book.scale)
        return scales if self.book.relative is None else scales * self.book.relative

    @property
    def values(self) -> Tensor:
        """The weights (G, R, C)."""
        return self.book.values(self.symbols)


@torch.no_grad()
def choose(
    problems: Sequence[Problem],
    books: Sequence[Codebook],
    rate: float,
    descents: int,
    before: Codebook | None = None,
) -> list[Chosen]:
    """Each tensor's symbols, at the best of several scales that they have in common.

    ``books``: a codebook for each, whose scale does not matter. ``before``: one of those that were
    chosen at another rate.
    """
    size = _size(problems, books)
    if size == 0:
        zeros = [torch.zeros_like(problem.weights) for problem in problems]
        return [Chosen(z, b.rescaled(1.0), 0.0, 0.0) for z, b in zip(zeros, books, strict=True)]
    search = _Search(problems, books, rate, min(descents, 1))
    if before is not None:
        search.through([before.scale * s for s in WIDER])
    else:
        reach = min(book.reach for book in books)
        steps = [s for s in STEPS if s * reach >= COVERED] or [STEPS[-1]]
        search.through([size * s for s in steps if s >= 1], to_the_end=True)
        search.through([size * s for s in steps if s < 1])
        search.through([search.scale / ROOT, search.scale * ROOT], to_the_end=True)
    best = search.best
    return polished(problems, best, rate, descents - 1)


class _Search:
    """The best of scales that are tried one after the other."""

    def __init__(
        self, problems: Sequence[Problem], books: Sequence[Codebook], rate: float, descents: int
    ):
        self.problems, self.books, self.rate, self.descents = problems, books, rate, descents
        self.ready = [feedback(problem, FED_BACK * rate) for problem in problems]
        self.best: list[Chosen] = []
        self.scale = 0.0  # that the best one was tried at
        self.least = math.inf

    def through(self, scales: Sequence[float], *, to_the_end: bool = False) -> None:
        """Try them, until one costs much more than the best."""
        for scale in scales:
            found = [
                first(problem, own, book.rescaled(scale), self.rate)
                for problem, own, book in zip(self.problems, self.ready, self.books, strict=True)
            ]
            found = polished(self.problems, found, self.rate, self.descents)
            cost = total(found, self.rate)
            if cost < self.least or not self.best:
                self.best, self.scale, self.least = found, scale, cost
            elif cost > 1.2 * self.least and not to_the_end:
                return


def first(problem: Problem, ready: Feedback, book: Codebook, rate: float) -> Chosen:
    """By error feedback, from the nearest values."""
    symbols = book.nearest(problem.weights)
    for _ in range(PASSES):
        symbols = fed_back(ready, book, FED_BACK * rate, Rates.of(symbols, MOST))
    return Chosen.measured(problem, symbols, book)


def settled(problem: Problem, book: Codebook, rate: float, descents: int) -> Chosen:
    """A tensor's symbols of a codebook that stays as it is."""
    found = first(problem, feedback(problem, FED_BACK * rate), book, rate)
    for _ in range(descents):
        (found,) = descent([problem], [found], rate)
    return Chosen.measured(problem, found.symbols, book)


def polished(
    problems: Sequence[Problem], chosen: list[Chosen], rate: float, descents: int
) -> list[Chosen]:
    """After coordinate descents, each at rates and a scale that follow the symbols."""
    for _ in range(descents):
        chosen = rescaled(problems, descent(problems, chosen, rate))
    return chosen


def descent(problems: Sequence[Problem], chosen: Sequence[Chosen], rate: float) -> list[Chosen]:
    """After a coordinate descent through each tensor."""
    result = []
    for problem, own in zip(problems, chosen, strict=True):
        rates = Rates.of(own.symbols, MOST)
        symbols = descended(problem, own.symbols, own.book, rate, rates)
        result.append(replace(own, symbols=symbols))
    return result


def rescaled(problems: Sequence[Problem], chosen: Sequence[Chosen]) -> list[Chosen]:
    """At the scale at which outputs are, along the given ones, as large as those; measured.

    The scale of least cost leaves them smaller, as rates leave weights nearer zero; and what
    layer after layer is smaller adds up, which no cost of one tensor sees. The scale that there is
    where symbols say nothing of the outputs.
    """
    own = kept = torch.zeros((), dtype=torch.float64)
    for problem, its in zip(problems, chosen, strict=True):
        along = problem.along(problem.weights).double()
        share = problem.importance / max(problems[0].importance, 1e-30)
        own = own + share * (along * problem.weights).sum()
        kept = kept + share * (along * its.book.units(its.symbols)).sum()
    scale = float(own / kept) if kept > 0 and own > 0 else None
    return [
        Chosen.measured(problem, its.symbols, its.book.rescaled(scale))
        for problem, its in zip(problems, chosen, strict=True)
    ]


def total(chosen: Sequence[Chosen], rate: float) -> float:
    """Nats of all, and what their bits are worth."""
    return sum(own.total(rate) for own in chosen)


def _size(problems: Sequence[Problem], books: Sequence[Codebook]) -> float:
    """Root mean square of all weights, each over its relative factor."""
    flat = []
    for problem, book in zip(problems, books, strict=True):
        units = problem.weights if book.relative is None else problem.weights / book.relative
        flat.append(units.double())
    if len(flat) > 1:
        flat = [torch.cat([units.flatten() for units in flat])]
    return float(flat[0].square().mean().sqrt())
