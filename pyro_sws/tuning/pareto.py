"""Pairs to be minimised, (file bytes, score): which dominate which, and what follows from it."""

import math
from collections.abc import Sequence

from pyro_sws.recipes.search_table import Pruning

Pair = tuple[float, float]  # bytes, score; fewer and lower are better


def dominates(one: Pair, other: Pair) -> bool:
    """Whether a pair is no worse than the other in both values, and better in one."""
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def pareto_front(pairs: Sequence[Pair]) -> list[int]:
    """The indices of the pairs that no other dominates, by rising bytes; of equal ones the first.

    So scores fall along it.
    """
    front: list[int] = []
    for i in sorted(range(len(pairs)), key=lambda i: (pairs[i], i)):
        if not front or pairs[i][1] < pairs[front[-1]][1]:
            front.append(i)
    return front


def log_excess(pairs: Sequence[Pair]) -> list[float]:
    """By pair ln(bytes / the fewest bytes of any pair whose score is no worse); 0 on the front.

    How much longer a file is than it would have to be at its error, as far as is known. Of the ways
    to make one number of two objectives, this one needs no weights, no model of how bytes fall with
    error (as a regression's residual does) and no reference point; it tells dominated pairs apart
    (to a hypervolume they all contribute nothing), and of the scores only their order matters, so
    that a network which snapping destroyed does not drown the others.
    """
    excess = [0.0] * len(pairs)
    fewest = math.inf
    for i in sorted(range(len(pairs)), key=lambda i: (pairs[i][1], pairs[i][0])):
        fewest = min(fewest, pairs[i][0])
        excess[i] = math.log(pairs[i][0] / fewest)
    return excess


def is_hopeless(
    pair: Pair, others: Sequence[Pair], pruning: Pruning, worst_score: float | None = None
) -> bool:
    """Whether a trial is to be given up: more than a share of the others dominate it.

    ``pair`` is what it has reached at a rung, after a share of its epochs: the order-0 entropy of
    the weights as they would snap now, in bytes, and the validation score of the network snapped
    so. ``others`` are the pairs at the same rung of the trials that are finished, those given up
    there or later included: without them the survivors alone would set an ever harder standard.

    With one objective this is the median rule (stop what is worse than half of the others). With
    two, a trial that is merely at another point of the trade-off is dominated by few, however far
    out it is, so that no corner of the front is given up for being small or exact; one that more
    than half of the others beat in both has little left to hope for. By that rule alone a network
    of zeros would be a corner, too: hence what has a score above ``worst_score`` is given up as
    well, unless that is None. Rungs are shares and not numbers of epochs because rates fall, and
    components narrow, by the share of the fit that is done. The entropy and not the complexity cost
    stands for the bytes: that is a density, and not comparable between priors of other widths. No
    trial is given up before ``pruning.after`` others are there to compare with.
    """
    if len(others) < pruning.after:
        return False
    if worst_score is not None and pair[1] > worst_score:
        return True
    better = sum(dominates(other, pair) for other in others)
    return better > pruning.share * len(others)
