"""Unit orders: sequences in which a layer may have its units, for a coder to choose. Numpy only.

Each takes the masks of a layer's non-zero weights, unit by unit, incoming (units, m) and outgoing
(units, k), and gives a permutation of the units; ties stay in the order that they had.
"""

from collections.abc import Callable

import numpy as np

MOST_COMPARED = 4096  # units: all pairs of them are compared

Order = Callable[[np.ndarray, np.ndarray], np.ndarray]


def candidate_orders(incoming: np.ndarray, outgoing: np.ndarray) -> dict[str, np.ndarray]:
    """Name -> permutation, without repetitions; units that nothing sees come last in each."""
    dead = np.logical_not(outgoing.any(1))
    candidates: dict[str, np.ndarray] = {}
    seen = {np.arange(len(dead)).tobytes()}
    for name, order in ORDERS.items():
        permutation = np.asarray(order(incoming, outgoing), dtype=np.int64)
        permutation = permutation[np.argsort(dead[permutation], kind="stable")]
        if permutation.tobytes() not in seen:
            seen.add(permutation.tobytes())
            candidates[name] = permutation
    return candidates


def descending_fan_in(incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray:
    """The units with the most nonzero incoming weights first."""
    return _sorted(-incoming.sum(1))


def ascending_fan_in(incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray:
    """The units with the fewest nonzero incoming weights first."""
    return _sorted(incoming.sum(1))


def descending_fan_out(incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray:
    """The units with the most nonzero outgoing weights first."""
    return _sorted(-outgoing.sum(1))


def descending_total(incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray:
    """The units with the most nonzero weights first, incoming and outgoing ones together."""
    return _sorted(-(incoming.sum(1) + outgoing.sum(1)))


def similar_incoming(incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray:
    """A path from the densest unit, always to the one left of the smallest angle."""
    counts = np.maximum(incoming.sum(1, dtype=np.float32), 1)
    return _path(incoming, lambda shared, unit: -shared / np.sqrt(counts))


def similar_outgoing(incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray:
    """A path from the densest unit, always to the one left that differs least."""
    counts = outgoing.sum(1, dtype=np.float32)
    return _path(outgoing, lambda shared, unit: counts + counts[unit] - 2 * shared)


def lexicographic_outgoing(incoming: np.ndarray, outgoing: np.ndarray) -> np.ndarray:
    """What the next layer's first unit sees comes first, and so on: its first rows are runs."""
    packed = np.packbits(outgoing, axis=1)
    return np.lexsort(tuple(255 - column for column in packed.T[::-1]))


def _path(masks: np.ndarray, distances: Callable[[np.ndarray, int], np.ndarray]) -> np.ndarray:
    """Greedy: ``distances`` are from one unit to all, given how many ones they share."""
    units = len(masks)
    if units > MOST_COMPARED:
        return np.arange(units)
    ones = masks.astype(np.float32)  # counts below 2^24 are exact
    shared, left = ones @ ones.T, np.ones(units, dtype=bool)
    path = [int(np.argmax(masks.sum(1)))]
    for _ in range(units - 1):
        left[path[-1]] = False
        away = distances(shared[path[-1]], path[-1])
        path.append(int(np.argmin(np.where(left, away, np.inf))))
    return np.array(path)


def _sorted(keys: np.ndarray) -> np.ndarray:
    return np.argsort(keys, kind="stable")


# Mean column, the leading singular direction and a spectral order never won, or by a byte or two.
ORDERS: dict[str, Order] = {
    "descending fan-in": descending_fan_in,
    "ascending fan-in": ascending_fan_in,
    "descending fan-out": descending_fan_out,
    "descending total": descending_total,
    "similar incoming": similar_incoming,
    "similar outgoing": similar_outgoing,
    "lexicographic outgoing": lexicographic_outgoing,
}
