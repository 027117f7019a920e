"""The table of code lengths: the fitted prior's, order-0 codes', and the file's, run by run."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from scripts.paper.tables import VARIANTS
from scripts.shared.study import TITLES

CODES = "prior", "order0", "symbols"


def code_table(frontier: Mapping[str, Any], paper: Mapping[str, Any]) -> str:
    """A row a setting: means over those of its seeds whose runs have the lengths on record."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for point in frontier["points"]:
        what = f"{point['method']}, {point['name']}"
        groups.setdefault((point["network"], what), []).append(point)
    for network in TITLES:
        for row in paper.get(network, {}).get("rows", ()):
            what = f"the paper's method: {VARIANTS[row['variant']].rpartition('package, ')[2]}"
            groups.setdefault((network, what), []).append(row)
    lines = [
        "| network | of | the prior's proportions | order-0 codes | the file's symbols | codebook "
        "| seeds |",
        "|---" * 7 + "|",
    ]
    for (network, what), rows in groups.items():
        if known := [row["code_bits"] for row in rows if "code_bits" in row]:
            lines.append(f"| {TITLES[network]} | {what} | {' | '.join(_cells(known))} |")
    return "\n".join(lines)


def _cells(rows: Sequence[Mapping[str, float]]) -> list[str]:
    bits = [f"{fmean(row[code] for row in rows):,.0f}" for code in (*CODES, "codebooks")]
    return [*bits, str(len(rows))]
