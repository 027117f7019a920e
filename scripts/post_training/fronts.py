"""The files that no other beats in both, and bytes at one score, between two of them. Numbers.

A straight line between two neighbours in log bytes, over the logarithm of a KL divergence or over a
test score. The front need not be convex: of two files no mixture can be made.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Axis = Callable[[Row], float]  # how bad a file is; less is better

LEAST_NATS = 1e-7  # what a KL divergence is at least, on its logarithmic axis


def log_kl(row: Row) -> float:
    return math.log(max(row["kl_nats"], LEAST_NATS))


def front(rows: Sequence[Row], axis: Axis = log_kl) -> list[Row]:
    """From the best to the shortest."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (axis(row), row["bytes"])):
        if not found or row["bytes"] < found[-1]["bytes"]:
            found.append(row)
    return found


def bytes_at(rows: Sequence[Row], target: float, axis: Axis = log_kl) -> float | None:
    """Bytes where the front has this value of the axis; None where no file is as good."""
    best = front(rows, axis)
    if not best or axis(best[0]) > target:
        return None
    for one, other in zip(best, best[1:], strict=False):
        if axis(one) <= target <= axis(other):
            share = (target - axis(one)) / (axis(other) - axis(one))
            logs = [math.log(row["bytes"]) for row in (one, other)]
            return math.exp(logs[0] + share * (logs[1] - logs[0]))
    return best[-1]["bytes"]
