"""The values that weights may take: those of whole numbers, the symbols, with one of them at 0."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

MOST = 1023  # in size, of a symbol: a coder's contexts are for so many values


@dataclass(frozen=True, eq=False)
class Codebook:
    """``scale`` times levels, which ascend with the symbols; symbols are whole, but of float dtype.

    Symbol 0 is the level of rank ``below``. Without levels they are the symbols themselves: all
    multiples of a step.
    """

    scale: float
    levels: Tensor | None = None  # (K,) ascending
    below: int = 0  # levels before that of symbol 0
    relative: Tensor | None = None  # factors, of a shape that broadcasts to (G, R, C)

    @staticmethod
    def even(count: int, zero: bool) -> "Codebook":
        """As many values, a step of 1 apart: around 0, or with ``zero`` beside it.

        Of an odd number beside 0 one more is above.
        """
        below = count // 2
        ranks = torch.arange(count + zero, dtype=torch.float32) - below
        centre = 0.0 if zero or count % 2 else 0.5
        return Codebook(1.0, ranks + centre, below)

    @property
    def has_zero(self) -> bool:
        """Whether the value of symbol 0 is 0."""
        return self.levels is None or float(self.levels[self.below]) == 0

    def rescaled(self, scale: float | None) -> "Codebook":
        """The same levels at another scale; at its own for None."""
        return self if scale is None else replace(self, scale=scale)

    def at(self, columns: int | slice | Tensor) -> "Codebook":
        """That of some columns."""
        if self.relative is None or self.relative.shape[-1] == 1:
            return self
        own = slice(columns, columns + 1) if isinstance(columns, int) else columns
        return replace(self, relative=self.relative[..., own])

    def nearest(self, weights: Tensor) -> Tensor:
        """Each weight's symbol of least distance."""
        if self.levels is None:
            return (weights / self.scale).round().clamp(-MOST, MOST)
        units = weights / self.scale
        units = units if self.relative is None else units / self.relative
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        return (torch.bucketize(units, middles) - self.below).to(weights)

    def values(self, symbols: Tensor) -> Tensor:
        """What weights of these symbols are."""
        if self.levels is None:
            return symbols * self.scale
        return self.units(symbols) * self.scale

    def units(self, symbols: Tensor) -> Tensor:
        """The values at a scale of 1."""
        own = self.level(symbols)
        return own if self.relative is None else own * self.relative

    def level(self, symbols: Tensor) -> Tensor:
        """The levels of symbols."""
        return symbols if self.levels is None else self.levels[self.ranks(symbols)]

    @property
    def reach(self) -> float:
        """The size of its largest level."""
        return math.inf if self.levels is None else float(self.levels.abs().max())

    @property
    def spacing(self) -> float:
        """The least difference of two levels, or a millionth of the largest; of one level 1."""
        if self.levels is None or len(self.levels) < 2:
            return 1.0
        least = 1e-6 * self.levels.abs().max().clamp_min(1e-30)
        return float(self.levels.diff().min().maximum(least))

    def ranks(self, symbols: Tensor) -> Tensor:
        """Each symbol's index in the levels; int64."""
        return symbols.long() + self.below

    def change(self, before: Tensor, after: Tensor) -> Tensor:
        """The difference in value of two symbols."""
        if self.levels is None:
            return (after - before) * self.scale
        return self.values(after) - self.values(before)
