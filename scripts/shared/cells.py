"""Cells of tables: means with ranges, times beside a base, and where numbers are from."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def mean_and_range(values: Sequence[float], style: str, unit: str = "") -> str:
    """The mean, and in brackets the smallest and the largest where there are several."""
    low, high = (format(value, style) for value in (min(values), max(values)))
    spread = f" ({low}-{high})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{style}}{unit}{spread}"


def times_of(row: Mapping[str, float] | None, base: float | None, faster: bool = False) -> str:
    """Milliseconds, and how many times a base's they are; ``faster``: the base over them."""
    if row is None:
        return "-"
    value = row["median_ms"]
    shown = f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
    if base is None:
        return shown
    return f"{shown} ({base / value if faster else value / base:.3g}x)"


def source_of(found: Mapping[str, Any]) -> str:
    """By what command, when, where and with what the numbers were made."""
    about, machine = found["_about"], found["_about"]["machine"]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    where = f"{threads} of {machine['cores']} cores ({machine['cpu_capability']})"
    source = f"`{about['command']}`, {about['date']}: {where}, torch {about['versions']['torch']}."
    return " ".join([source, *([about["note"]] if "note" in about else [])])
