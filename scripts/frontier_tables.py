"""The table of the frontier, from docs/results/frontier.json."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from study import TITLES

DENSE_BYTES = {"lenet_300_100": 4 * 266_610, "lenet_5_caffe": 4 * 431_080}


def frontier_table(found: Mapping[str, Any], source: str) -> str:
    """A row a setting, smallest file last: means over the seeds, with the smallest and largest."""
    lines = [
        "| network | method | at | file, bytes | ratio | test error | non-zero | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for point in found["points"]:
        groups.setdefault((point["network"], point["method"], point["name"]), []).append(point)
    for key in sorted(groups, key=lambda key: (*key[:2], -_mean(groups[key], "bytes"))):
        lines.append("| " + " | ".join(_cells(*key, groups[key])) + " |")
    return "\n".join([*lines, "", source])


def recipe_rows(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The points that are a recipe's own settings, as rows of the table of recipes."""
    return [
        {
            "recipe": point["network"],
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
