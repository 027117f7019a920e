"""What a symbol costs in the file, about: how busy its row and column are, and how usual it is.

The coder learns both as it goes (``codec/contexts.py``); here they are counted from a tensor's
symbols as they were chosen last.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PSEUDOCOUNT = 0.02  # of a value that no weight takes, in weights
PRIOR = 4.0  # weights that a row's or column's share of nonzeros is taken to have seen already
FEW = 16  # weights that a row or column has at least, to have a share of its own
LEARNT = 2.0  # bits that a coder takes to learn of a value, beside half the logarithm of all


@dataclass(frozen=True, eq=False)
class Rates:
    """Bits of symbols -K..K in a tensor (G, R, C); zero is the symbol 0."""

    values: Tensor  # (2 K + 1,) which nonzero one it is
    rows: Tensor  # (G, R, 1) log odds of a nonzero in the row
    columns: Tensor  # (G, 1, C) the same of the column, less those of the tensor

    @staticmethod
    def of(symbols: Tensor, most: int) -> "Rates":
        """From symbols (G, R, C), whole numbers of up to ``most`` in size."""
        index = symbols.long() + most
        counts = torch.bincount(index.flatten(), minlength=2 * most + 1).to(symbols)
        counts[most] = 0
        counts = counts + PSEUDOCOUNT
        nonzero = (symbols != 0).to(symbols)
        share = (nonzero.sum() + 0.5) / (nonzero.numel() + 1)
        odds = torch.logit(share)
        rows = torch.logit(_smoothed(nonzero, -1, share))
        columns = torch.logit(_smoothed(nonzero, -2, share)) - odds
        return Rates(-torch.log2(counts / counts.sum()), rows, columns)

    def at(self, column: int | slice) -> tuple[Tensor, Tensor]:
        """Bits of "zero" and of "not zero" in a column, (G, R, 1), or in several."""
        own = self.columns[..., column : column + 1] if isinstance(column, int) else self.columns
        odds = self.rows + own
        return F.softplus(odds) / math.log(2), F.softplus(-odds) / math.log(2)

    def bits(self, symbols: Tensor, zero: Tensor, nonzero: Tensor) -> Tensor:
        """Of each symbol, where "zero" and "not zero" cost so much; shapes that broadcast."""
        most = len(self.values) // 2
        values = self.values[symbols.long().clamp(-most, most) + most]
        return torch.where(symbols == 0, zero, nonzero + values)

    def total(self, symbols: Tensor) -> float:
        """Bits of all symbols (G, R, C), and of learning which values there are."""
        learnt = LEARNT + 0.5 * math.log2(max(1, symbols.numel()))
        own = self.bits(symbols, *self.at(slice(None))).double().sum()
        return float(own) + learnt * len(symbols.unique())


def _smoothed(nonzero: Tensor, dim: int, share: Tensor) -> Tensor:
    seen = nonzero.shape[dim]
    if seen < FEW:
        shape = list(nonzero.shape)
        shape[dim] = 1
        return share.expand(shape)
    return (nonzero.sum(dim, keepdim=True) + PRIOR * share) / (seen + PRIOR)
