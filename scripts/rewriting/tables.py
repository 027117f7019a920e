"""The table of rewriting's time, from docs/results/rewriting.json."""

from collections.abc import Mapping
from typing import Any


def rewriting_table(found: Mapping[str, Any], source: str) -> str:
    """Seconds of the processor, of the whole and a million weights; and of one encoding."""
    lines = [
        "| network | weights | rewriting, s | a million weights, s | encoding once, s |",
        "|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        own, million = row["processor_seconds"], row["processor_seconds_per_million"]
        encoding = row["encode_processor_seconds"]
        lines.append(f"| {row['network']} | {row['weights']:,} | {own} | {million} | {encoding} |")
    return "\n".join([*lines, "", source])
