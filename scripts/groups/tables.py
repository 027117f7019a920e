"""The table of choices of groups, from docs/results/groups.json."""

from collections.abc import Mapping
from typing import Any


def groups_table(found: Mapping[str, Any], source: str) -> str:
    """Bytes of a walk's file, and the test score before and after, by recipe and variant."""
    lines = [
        "| recipe | mixtures | seed | file, bytes | values in use | test score before | after "
        "| standard error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        place = f"| `{row['recipe']}` | {row['variant']} | {row['seed']}"
        if "failed" in row:
            lines.append(f"{place} | none within the tolerance | | | | |")
            continue
        test, values = row["test"], ", ".join(str(n) for n in row["values"].values())
        before, after, error = (f"{test[key]:.3f}" for key in ("before", "after", "standard_error"))
        scores = f"{before} {test['unit']} | {after} | {error}"
        lines.append(f"{place} | {row['bytes']:,} | {values} | {scores} |")
    return "\n".join([*lines, "", source])
