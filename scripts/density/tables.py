"""The table of the density, from docs/results/density.json."""

from collections.abc import Mapping
from typing import Any

from scripts.shared.cells import times_of

DENSITY_WAYS = ("mixture_same_family", "portable", "compiled", "c_loop")


def density_table(found: Mapping[str, Any], source: str) -> str:
    """Milliseconds a way, and how many times faster than MixtureSameFamily."""
    lines = ["| case | " + " | ".join(DENSITY_WAYS) + " |", "|---" * 5 + "|"]
    for case, ways in found.items():
        if case.startswith("_"):
            continue
        base = ways.get("mixture_same_family", {}).get("median_ms")
        cells = [times_of(ways.get(way), base, faster=True) for way in DENSITY_WAYS]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    exponents = ", ".join(f"{w} {e}" for w, e in found["_about"]["exponent_of_n"].items())
    grows = f"Time grows as N to the power of: {exponents}."
    return "\n".join([*lines, "", grows, source])
