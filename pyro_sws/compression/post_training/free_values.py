"""Values that are free: the best ones for symbols that are given, and how many of them pay."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.compression.post_training.choose import Problem
from pyro_sws.compression.post_training.rates import LEARNT
from pyro_sws.compression.post_training.tensor import Chosen

VALUE_BITS = 16.0  # of a value in the file
RIDGE = 1e-7  # of the mean diagonal, added to it
PART = 16  # of levels, one may be joined at a time: what a join costs depends on the others


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Nats of a codebook's levels c (K,), where symbols stay: 1/2 c' matrix c - vector c + nats.

    With P_j the choice of levels of row j, times its weights' scales, and F its curvature: matrix
    is the sum over rows of P_j' F P_j, and vector that of P_j' F w_j (Kim et al. 2025 have
    the same with a codebook for each row).
    """

    matrix: Tensor  # (K, K), float64
    vector: Tensor  # (K,)
    nats: float

    @staticmethod
    def of(problems: Sequence[Problem], chosen: Sequence[Chosen]) -> "Quadratic":
        """Of tensors whose codebooks have the same levels."""
        levels = chosen[0].book.levels
        assert levels is not None
        count = len(levels)
        matrix = torch.zeros(count, count, dtype=torch.float64, device=levels.device)
        vector = torch.zeros_like(matrix[0])
        nats = 0.0
        for problem, own in zip(problems, chosen, strict=True):
            ranks = own.book.ranks(own.symbols)
            relative = 1.0 if own.book.relative is None else own.book.relative
            scales = torch.ones_like(problem.weights) * relative * own.book.scale

            def by_level(along: Tensor, ranks: Tensor = ranks, scales: Tensor = scales) -> Tensor:
                summed = (along * scales).double().flatten()
                return torch.bincount(ranks.flatten(), weights=summed, minlength=count)

            for level in ranks.unique().tolist():
                along = problem.along(scales * (ranks == level))
                matrix[level] += problem.importance * by_level(along)
            vector += problem.importance * by_level(problem.along(problem.weights))
            nats += problem.cost(torch.zeros_like(problem.weights))
        return Quadratic(((matrix + matrix.mT) / 2).cpu(), vector.cpu(), nats)

    def joined(self, onto: Tensor, count: int) -> "Quadratic":
        """With levels put together: ``onto`` (K,) says which of ``count`` each becomes."""
        sums = torch.zeros(count, len(onto)).to(self.matrix)
        sums[onto, torch.arange(len(onto))] = 1
        return Quadratic(sums @ self.matrix @ sums.mT, sums @ self.vector, self.nats)

    def least(self, zero: int | None) -> Tensor:
        """The levels of least nats (K,), that of index ``zero`` staying 0."""
        return self._inverse(zero) @ self.vector

    def lost(self, zero: int | None) -> Tensor:
        """Nats that it costs to join each level with the next one; (K - 1,).

        Of levels that are the best before and after: d^2 / (2 e' H e), where d = e' c is how far
        they are apart and H the inverse (Hassibi & Stork 1993, of a weight that is removed).
        """
        inverse = self._inverse(zero)
        apart = (inverse @ self.vector).diff()
        spread = inverse.diff(dim=0).diff(dim=1).diagonal()
        return apart.square() / (2 * spread.clamp_min(1e-300))

    def _inverse(self, zero: int | None) -> Tensor:
        """Of the matrix, damped; nothing in the row and column of ``zero``."""
        free = torch.ones(len(self.vector), dtype=torch.bool)
        if zero is not None:
            free[zero] = False
        inverse = torch.zeros_like(self.matrix)
        own = self.matrix[free][:, free]
        if len(own):
            ridge = RIDGE * own.diagonal().mean().clamp_min(1e-300) * torch.eye(len(own)).to(own)
            inverse[free.outer(free)] = torch.linalg.inv(own + ridge).flatten()
        return inverse

    def cost(self, levels: Tensor) -> float:
        """Nats an example at these levels (K,)."""
        return float(0.5 * levels @ self.matrix @ levels - self.vector @ levels) + self.nats


@torch.no_grad()
def revalued(problems: Sequence[Problem], chosen: Sequence[Chosen], rate: float) -> list[Chosen]:
    """With the levels of least nats, and without those that are not worth their bits.

    The codebooks have the same levels, and still do.
    """
    book = chosen[0].book
    assert book.levels is not None
    quadratic = Quadratic.of(problems, chosen)
    counts = torch.stack(
        [
            torch.bincount(own.book.ranks(own.symbols).flatten(), minlength=len(book.levels))
            for own in chosen
        ]
    )
    zero = book.below if book.has_zero else None
    onto, levels = _paying(quadratic, counts.cpu().double(), zero, rate)
    order = levels.argsort()
    ranks = order.argsort()[onto].to(counts.device)  # of each level that there was
    sorted_levels = levels[order].to(book.levels)
    below = int(ranks[zero]) if zero is not None else int(sorted_levels.abs().argmin())
    return [
        replace(
            own,
            symbols=(ranks[own.book.ranks(own.symbols)] - below).to(own.symbols),
            book=replace(own.book, levels=sorted_levels, below=below),
        )
        for own in chosen
    ]


def _paying(
    quadratic: Quadratic, counts: Tensor, zero: int | None, rate: float
) -> tuple[Tensor, Tensor]:
    """Which level each one becomes, and those levels, after joins of neighbours that pay.

    Levels of no weight, or of weights that cost nothing, go first, but for zero.
    """
    used = (counts.sum(0) > 0) & (quadratic.matrix.diagonal() > 0)
    used[0 if zero is None else zero] |= zero is not None or not used.any()
    kept = used.nonzero().flatten()
    onto = torch.bucketize(torch.arange(len(used)), kept).clamp(max=len(kept) - 1)
    while True:
        count = int(onto.max()) + 1
        own, at = quadratic.joined(onto, count), None if zero is None else int(onto[zero])
        summed = counts.new_zeros(len(counts), count).index_add_(1, onto, counts)
        gains = rate * _saved(summed) - own.lost(at)
        gains[_onto_zero_alone(at, count)] = -math.inf
        joins = _apart(gains, max(1, count // PART))
        if not joins.any():
            return onto, own.least(at)
        onto = onto - torch.cat([joins.new_zeros(1), joins]).cumsum(0)[onto]


def _onto_zero_alone(zero: int | None, count: int) -> list[int]:
    """The joins that would leave zero without a value on one of its sides.

    Where a network is sure of itself its curvature says too little, and would have it all at 0.
    """
    ends = {} if zero is None else {zero - 1: zero == 1, zero: zero == count - 2}
    return [left for left, alone in ends.items() if alone]


def _apart(gains: Tensor, most: int) -> Tensor:
    """The best of so many joins (K - 1,) that gain, of which no two touch."""
    joins = torch.zeros(len(gains), dtype=torch.bool)
    for at in gains.argsort(descending=True)[:most].tolist():
        if gains[at] > 0 and not joins[max(0, at - 1) : at + 2].any():
            joins[at] = True
    return joins


def _saved(counts: Tensor) -> Tensor:
    """Bits that a join of each level with the next one saves; counts (tensors, K) -> (K - 1,)."""
    left, right = counts[:, :-1], counts[:, 1:]
    both = left + right
    parts = torch.special.xlogy(left, left) + torch.special.xlogy(right, right)
    symbols = (torch.special.xlogy(both, both) - parts) / math.log(2)
    learnt = LEARNT + 0.5 * counts.sum(1, keepdim=True).clamp_min(1).log2()
    return (symbols + learnt * ((left > 0) & (right > 0))).sum(0) + VALUE_BITS
