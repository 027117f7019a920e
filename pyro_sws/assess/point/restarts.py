"""Do several fits of one network agree? On bytes, error, -ELBO, components and zeros. Numpy.

Agreement of point estimates, not of chains: fits that end in one place have found the same optimum,
and say nothing about how wide the posterior is around it. No R-hat is made of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from pyro_sws.codec.symbols import Quantized

KIND = "agreement of restarts: optima, not Markov chains"


class MatchingRow(TypedDict):
    """A ``Matching`` as JSON."""

    pairs: list[list[float]]
    unmatched: list[int]
    largest_gap: float
    mean_gap: float


class RestartRow(TypedDict):
    """A fit in numbers."""

    restart: str
    file_bytes: int
    score: float
    negative_elbo_nats: float
    nonzero: int


class AgreementSummary(TypedDict):
    """``restarts`` of diagnostics.json."""

    kind: str
    rows: list[RestartRow]
    same_zeros: list[list[float]]
    same_zeros_by_chance: list[list[float]]
    same_nonzero: list[list[float]]
    components: dict[str, list[MatchingRow]]


@dataclass(frozen=True, eq=False)
class Restart:
    """One fit: its report, as a dict, and its network as it was snapped, before rewriting."""

    report: Mapping[str, Any]  # report.json's, of any version
    quantized: Quantized


@dataclass(frozen=True, eq=False)
class Matching:
    """Components of two fits of a group, paired in order; deviations are not compared."""

    pairs: np.ndarray  # (P, 2) means, the first fit's and the other's
    unmatched: tuple[int, int]  # how many means of either have no partner
    largest_gap: float  # between two means of a pair, 0 where there is none
    mean_gap: float  # the pairs' gaps, averaged

    def to_dict(self) -> MatchingRow:
        """As JSON."""
        return {
            "pairs": self.pairs.tolist(),
            "unmatched": list(self.unmatched),
            "largest_gap": self.largest_gap,
            "mean_gap": self.mean_gap,
        }


@dataclass(frozen=True, eq=False)
class Agreement:
    """Restarts side by side; each matrix (R, R) is of pairs, in the order of ``rows``."""

    rows: tuple[RestartRow, ...]
    same_zeros: np.ndarray  # share of the weights that are 0 in both or in neither
    by_chance: np.ndarray  # that share, if each tensor's zeros lay at random
    same_nonzero: np.ndarray  # of the weights not 0 in either, the share not 0 in both; 1 of none
    matchings: Mapping[str, tuple[Matching, ...]]  # group -> the first fit with each of the others

    def to_dict(self) -> AgreementSummary:
        """As JSON."""
        return {
            "kind": KIND,
            "rows": list(self.rows),
            "same_zeros": self.same_zeros.tolist(),
            "same_zeros_by_chance": self.by_chance.tolist(),
            "same_nonzero": self.same_nonzero.tolist(),
            "components": {
                group: [matching.to_dict() for matching in matchings]
                for group, matchings in self.matchings.items()
            },
        }


def agreement(restarts: Mapping[str, Restart]) -> Agreement:
    """How alike fits of the same trained network are, by name; of other seeds, starts or orders.

    Zeros can only agree where a unit is the same unit: fits of networks that were trained apart
    agree by chance, whatever the fits do. Where 99 % of the weights are 0, chance alone makes 98 %
    agree, so look at ``same_nonzero``. Means are paired within each sign, in order, so that all
    gaps together are least; 0 only with 0. -ELBO is the fit's, before any refinement, and compares
    fits of one model alone. Raises ValueError for fewer than two, and for other tensors or groups
    than the first one's.
    """
    if len(restarts) < 2:
        raise ValueError(f"there must be two or more restarts to compare, got {len(restarts)}")
    _check_alike(restarts)
    zeros = [_zeros(restart.quantized) for restart in restarts.values()]
    pairs = [[_zero_shares(a, b) for b in zeros] for a in zeros]
    same, chance, nonzero = np.moveaxis(np.array(pairs), -1, 0)
    first, *others = (restart.report["groups"] for restart in restarts.values())
    matchings = {
        name: tuple(match_means(first[name]["means"], other[name]["means"]) for other in others)
        for name in first
    }
    rows = tuple(_row(name, restart) for name, restart in restarts.items())
    return Agreement(rows, same, chance, nonzero, matchings)


def match_means(a: ArrayLike, b: ArrayLike) -> Matching:
    """Distinct means paired in order, within each sign; (J,), (L,)."""
    both = [np.unique(np.asarray(means, float)) for means in (a, b)]
    parts = [_in_order(*(m[np.sign(m) == sign] for m in both)) for sign in (-1, 0, 1)]
    pairs = np.concatenate(parts)
    gaps = np.abs(pairs[:, 0] - pairs[:, 1])
    alone = len(both[0]) - len(pairs), len(both[1]) - len(pairs)
    return Matching(pairs, alone, float(gaps.max(initial=0)), float(gaps.sum() / max(len(gaps), 1)))


def _in_order(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairs (P, 2) of ascending values, P = min(J, L), in order, whose gaps have the least sum."""
    chosen = linear_sum_assignment(np.abs(a[:, None] - b))
    # On a line, the chosen ones paired in order are no further apart than in any other order.
    return np.stack([values[np.sort(i)] for values, i in zip((a, b), chosen, strict=True)], axis=1)


def _row(name: str, restart: Restart) -> RestartRow:
    report = restart.report
    return {
        "restart": name,
        "file_bytes": report["file_bytes"],
        "score": report["score"]["decoded"],
        "negative_elbo_nats": report["negative_elbo_nats"],
        "nonzero": restart.quantized.nonzero,
    }


def _zeros(quantized: Quantized) -> list[np.ndarray]:
    """Which weights are 0, tensor by tensor."""
    return [
        (quantized.codebooks[quantized.codebook_of[name]] == 0)[symbols].ravel()
        for name, symbols in quantized.symbols.items()
    ]


def _zero_shares(a: list[np.ndarray], b: list[np.ndarray]) -> tuple[float, float, float]:
    """Same zeros, the same by chance, and same nonzero; see ``Agreement``."""
    weights = sum(map(len, a))
    same = chance = both = either = 0.0
    for x, y in zip(a, b, strict=True):
        same += (x == y).sum()
        chance += len(x) * (x.mean() * y.mean() + (1 - x.mean()) * (1 - y.mean()))
        both += (~x & ~y).sum()
        either += (~x | ~y).sum()
    return same / weights, chance / weights, both / either if either else 1.0


def _check_alike(restarts: Mapping[str, Restart]) -> None:
    shapes = {name: _shapes(restart) for name, restart in restarts.items()}
    first, *others = shapes
    for other in others:
        if shapes[other] != shapes[first]:
            raise ValueError(
                f"restarts must be of one network under the same groups; {first} has "
                f"{shapes[first]}, {other} has {shapes[other]}"
            )


def _shapes(restart: Restart) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    tensors = {name: symbols.shape for name, symbols in restart.quantized.symbols.items()}
    return tensors, list(restart.report["groups"])
