"""The tables of the steps, from docs/results/step.json and estimators.json."""

from collections.abc import Mapping
from typing import Any

from scripts.shared.cells import mean_and_range, times_of

STEP_WAYS = (
    "torch",
    "exact",
    "compiled",
    "prior_subsample",
    "hyperparameters_every",
    "portable",
    "plain_svi",
    "textbook",
)


def step_table(found: Mapping[str, Any], source: str) -> str:
    """Milliseconds a step, and how many times a plain torch step's."""
    cases = [case for case in found if not case.startswith("_")]
    lines = ["| a step | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for way in STEP_WAYS:
        cells = [
            times_of(found[case].get(way), found[case]["torch"]["median_ms"]) for case in cases
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", source])


def estimators_table(found: Mapping[str, Any], source: str) -> str:
    """Means over the seeds, with the smallest and the largest."""
    lines = ["| way | file, bytes | error after | seeds |", "|---|---|---|---|"]
    for way, rows in found.items():
        if not way.startswith("_"):
            size = mean_and_range([row["file_bytes"] for row in rows], ",.0f")
            error = mean_and_range([row["error_percent"] for row in rows], ".2f", " %")
            lines.append(f"| {way} | {size} | {error} | {len(rows)} |")
    return "\n".join([*lines, "", source])
