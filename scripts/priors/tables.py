"""The tables in docs/priors.md, from priors.json and components.json in docs/results."""

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

BASE = "spike_and_slabs"  # the paper's prior, which the others are compared with


def priors_table(found: Mapping[str, Any], source: str) -> str:
    """A row a family: bytes at the two errors, against the paper's prior, and a fit's seconds."""
    families = {name: row for name, row in found.items() if not name.startswith("_")}
    targets = list(next(iter(families.values()))["matched"])
    heads = [f"bytes at {target} %" for target in targets]
    lines = [
        "| family | " + " | ".join(heads) + " | seconds a fit | seeds | the chosen of its trials |",
        "|---" * (len(targets) + 4) + "|",
    ]
    without = []
    for name, row in families.items():
        if not row["path"]:
            without.append(f"| `{name}` | {_trials(row['trials'])} |")
            continue
        cells = [_matched(row, families[BASE], target) for target in targets]
        seconds = statistics.median(fit["fit_seconds"] for fit in row["path"])
        keys = {k: v for k, v in row["chosen"].items() if k not in ("group", "family")}
        cells += [f"{seconds:.0f}", str(len(row["matched"][targets[0]])), _keys(keys)]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    if without:
        heading = "| for research only | held-out error and bytes of its trials |"
        lines += ["", heading, "|---|---|", *without]
    return "\n".join([*lines, "", source])


def components_table(found: Mapping[str, Any], source: str) -> str:
    """A row a way of choosing how many components: bytes at one error, against the best fixed J."""
    networks = {name: ways for name, ways in found.items() if not name.startswith("_")}
    heads = []
    for name, ways in networks.items():
        target = next(iter(ways.values()))["target_error_percent"]
        heads += [f"{name}: bytes at {target} %", "against the best J", "values used"]
    lines = ["| way | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for way in next(iter(networks.values())):
        cells = [cell for ways in networks.values() for cell in _way(ways, way)]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", source])


def _way(ways: Mapping[str, Any], way: str) -> list[str]:
    if way not in ways:
        return ["", "", ""]
    row, best = ways[way], best_fixed(ways)
    if not row["reached"]:
        errors = sorted(point["error_percent"] for point in row["path"])
        return [
            f"not reached: {errors[0]:.2f}-{errors[-1]:.2f} %",
            "",
            f"{row['used_components']:.1f}",
        ]
    change = 100 * (row["bytes"] / ways[best]["bytes"] - 1)
    against = (
        "the best" if way == best else f"{change:+.0f} ± {100 * _deviation(row, ways[best]):.0f} %"
    )
    return [f"{row['bytes']:,}", against, f"{row['used_components']:.1f}"]


def best_fixed(ways: Mapping[str, Any]) -> str:
    """The fixed number of components with the smallest files, of those that reach the error."""
    reached = [way for way in ways if way.startswith("J") and ways[way]["reached"]]
    return min(reached, key=lambda way: ways[way]["bytes"])


def _deviation(row: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The jackknife's standard error of log(bytes / other bytes), over the seeds that both have."""
    own, others = row["bytes_without_seed"], other["bytes_without_seed"]
    logs = [math.log(own[seed] / others[seed]) for seed in own.keys() & others.keys()]
    return math.sqrt((len(logs) - 1) * statistics.pvariance(logs)) if logs else math.nan


def _matched(row: Mapping[str, Any], base: Mapping[str, Any], target: str) -> str:
    """Mean and range over the seeds, and the mean ratio to the paper's prior of the same seed."""
    own, other = row["matched"][target], base["matched"][target]
    sizes = [found["bytes"] for found in own.values()]
    ratios = [found["bytes"] / other[seed]["bytes"] for seed, found in own.items() if seed in other]
    change = "" if row is base else f", {100 * (statistics.fmean(ratios) - 1):+.0f} %"
    star = "" if all(found["reached"] for found in own.values()) else " *"
    return f"{statistics.fmean(sizes):,.0f} ({min(sizes):,.0f}-{max(sizes):,.0f}{change}){star}"


def _trials(rows: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(f"{row['error_percent']:.2f} % at {row['file_bytes']:,}" for row in rows)


def _keys(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key} = {_value(value)}`" for key, value in keys.items()) or "defaults"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)
