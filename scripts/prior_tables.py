"""The table in docs/priors.md, from docs/results/priors.json."""

import json
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
