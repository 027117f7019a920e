"""One tensor's symbols and step: whichever cost least, in nats and in bits worth a rate."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_sws.compression.post_training.choose import MOST, Problem, descended, fed_back, feedback
from pyro_sws.compression.post_training.rates import Rates

ROOT = 2**0.5
# Steps that are tried, in root mean squares of a tensor: from a hundred symbols to three.
STEPS = tuple(ROOT**i for i in range(-10, 8))
FED_BACK = 0.25  # of the rate, in error feedback, which cannot take a weight back; descents can
PASSES = 2  # of error feedback: the first one's symbols say what the second one's cost
WIDER = (1 / ROOT, 1.0, ROOT, 2.0)  # beside the step at the last rate, a smaller one


@dataclass(frozen=True, eq=False)
class Chosen:
    """Symbols (G, R, C), whole numbers, and the step that they are multiples of."""

    symbols: Tensor
    step: float
    nats: float  # an example, that they cost
    bits: float  # in the file, about

    def total(self, rate: float) -> float:
        """Nats and what the bits are worth."""
        return self.nats + rate * self.bits

    @property
    def values(self) -> Tensor:
        """The weights (G, R, C)."""
        return self.symbols * self.step


@torch.no_grad()
def choose(problem: Problem, rate: float, descents: int, before: Chosen | None = None) -> Chosen:
    """The best of several steps at this rate; ``before`` is what was chosen at another one."""
    size = float(problem.weights.double().square().mean().sqrt())
    if size == 0:
        return Chosen(torch.zeros_like(problem.weights), 1.0, 0.0, 0.0)
    steps = [size * s for s in STEPS] if before is None else [before.step * s for s in WIDER]
    ready = feedback(problem, FED_BACK * rate)
    best: Chosen | None = None
    for step in steps:
        symbols = (problem.weights / step).round().clamp(-MOST, MOST)
        for _ in range(PASSES):
            symbols = fed_back(ready, step, FED_BACK * rate, Rates.of(symbols, MOST))
        found = _measured(problem, symbols, step)
        found = _polished(problem, found, rate, min(descents, 1))
        if best is not None and found.total(rate) > 1.2 * best.total(rate):
            break
        if best is None or found.total(rate) < best.total(rate):
            best = found
    assert best is not None
    return _polished(problem, best, rate, descents - 1)


def _polished(problem: Problem, chosen: Chosen, rate: float, descents: int) -> Chosen:
    """After coordinate descents, each at rates and a step that follow the symbols."""
    for _ in range(descents):
        rates = Rates.of(chosen.symbols, MOST)
        symbols = descended(problem, chosen.symbols, chosen.step, rate, rates)
        step = problem.unshrunk(symbols, chosen.step)
        chosen = _measured(problem, symbols, step)
    return chosen


def _measured(problem: Problem, symbols: Tensor, step: float) -> Chosen:
    bits = Rates.of(symbols, MOST).total(symbols)
    return Chosen(symbols, step, problem.cost(symbols, step), bits)
