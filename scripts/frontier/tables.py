"""The tables of the frontier, from docs/results/frontier.json: all points, and the baseline's."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from scripts.frontier.figure import front
from scripts.shared.study import TITLES

DENSE_BYTES = {"lenet_300_100": 4 * 266_610, "lenet_5_caffe": 4 * 431_080}


def frontier_table(found: Mapping[str, Any], source: str) -> str:
    """A row a setting, smallest file last: means over the seeds, with the smallest and largest."""
    lines = [
        "| network | method | at | file, bytes | ratio | test error | non-zero | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups = _by_setting(found["points"])
    for key in sorted(groups, key=lambda key: (*key[:2], -_mean(groups[key], "bytes"))):
        lines.append("| " + " | ".join(_cells(*key, groups[key])) + " |")
    return "\n".join([*lines, "", source])


def baseline_table(found: Mapping[str, Any], ours: Sequence[str]) -> str:
    """Each setting of the baselines beside the bytes that methods of ours take at its error."""
    lines = [
        "| network | baseline | at | file, bytes | test error | seeds | "
        + " | ".join(f"{method} at that error" for method in ours)
        + " |",
        "|---" * (6 + len(ours)) + "|",
    ]
    groups = _by_setting([p for p in found["points"] if not p["method"].startswith("mixture")])
    for (network, method, at), points in sorted(groups.items(), key=lambda item: item[0]):
        size, error = _mean(points, "bytes"), _mean(points, "test_error_percent")
        cells = [f"{TITLES[network]} | {method} | {at} | {size:,.0f} | {error:.2f} %"]
        cells.append(str(len(points)))
        for method in ours:
            own = [p for p in found["points"] if (p["network"], p["method"]) == (network, method)]
            matched = bytes_at(front(own), error) if own else None
            cells.append(
                "-" if matched is None else f"{matched:,.0f} ({100 * (matched / size - 1):+.0f} %)"
            )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def bytes_at(path: Sequence[tuple[float, float]], error: float) -> float | None:
    """Bytes that a front of (bytes, error) takes at this error; None for less than it reaches.

    Between neighbours the logarithm of the bytes is a straight line in the error. At more error
    than any of it has, its smallest file will do.
    """
    ordered = sorted(path)
    if error > ordered[0][1]:
        return ordered[0][0]
    for (size, high), (next_size, low) in pairwise(ordered):
        if low <= error <= high:
            share = (high - error) / (high - low)
            return math.exp((1 - share) * math.log(size) + share * math.log(next_size))
    return None


def recipe_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points that are a recipe's own settings, as rows of the table of recipes."""
    return [
        {
            "recipe": point["recipe"].removeprefix("models/").removesuffix(".toml"),
            "start": None,
            "score": {
                "before": point["trained_error_percent"],
                "decoded": point["test_error_percent"],
            },
            "file_bytes": point["bytes"],
            "parameter_bytes": DENSE_BYTES[point["network"]],
            "nonzero_percent": point["nonzero_percent"],
        }
        for point in found["points"]
        if point.get("is_recipe")
    ]


def _by_setting(
    points: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, str, str], list[Mapping[str, Any]]]:
    """Network, method and name -> the points that differ in their seeds alone."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault((point["network"], point["method"], point["name"]), []).append(point)
    return groups


def _cells(network: str, method: str, at: str, points: Sequence[Mapping[str, Any]]) -> list[str]:
    ratio = DENSE_BYTES[network] / _mean(points, "bytes")
    return [
        TITLES[network],
        method,
        at,
        _range(points, "bytes", ",.0f"),
        f"{ratio:.0f}x",
        _range(points, "test_error_percent", ".2f") + " %",
        f"{_mean(points, 'nonzero_percent'):.2f} %",
        str(len(points)),
    ]


def _mean(points: Sequence[Mapping[str, Any]], key: str) -> float:
    return fmean(point[key] for point in points)


def _range(points: Sequence[Mapping[str, Any]], key: str, form: str) -> str:
    values = [point[key] for point in points]
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{fmean(values):{form}} ({min(values):{form}}-{max(values):{form}})"
