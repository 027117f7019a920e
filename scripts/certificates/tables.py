"""The tables of certificates, and of how often they fail."""

from collections.abc import Mapping
from typing import Any


def certificates_table(found: Mapping[str, Any]) -> str:
    """Of each file: bytes, mistakes, and the bounds that follow."""
    lines = [
        "| file | bytes | mistakes | bits, with 20 beside | error at most | by kl | by Hoeffding "
        "| bits a label at most | from 10,000 held out | date |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        if (c := row.get("certificate")) is None:
            continue
        mistakes = f"{c['training_mistakes']:,} of {c['training_examples']:,}"
        bits = "-" if row["bits"] is None else f"{row['bits']['bound_bits']:.3f}"
        held = "-" if row["holdout"] is None else f"{row['holdout']['bound_percent']:.2f} %"
        lines.append(
            f"| {row['name']} | {row['file_bytes']:,} | {mistakes} "
            f"| {c['description_bits']:,.0f} | **{c['bound_percent']:.2f} %** "
            f"| {c['kl_percent']:.2f} % | {c['hoeffding_percent']:.2f} % | {bits} | {held} "
            f"| {row['date']} |"
        )
    return "\n".join(lines)


def simulation_table(found: Mapping[str, Any], source: str) -> str:
    """How often bounds failed, and the most that chance explains."""
    lines = [
        "| simulation | repetitions | bounds that failed | at most, by chance at 0.05 "
        "| median of bound less error | least |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        lines.append(
            f"| {row['name']} | {row['repetitions']:,} | {row['failures']} | {row['allowed']} "
            f"| {row['median_slack_percent']:.1f} % | {row['least_slack_percent']:.1f} % |"
        )
    return "\n".join([*lines, "", source])
