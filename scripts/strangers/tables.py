"""The table of the strangers, from docs/results/strangers.json."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.shared.cells import mean_and_range

Row = Mapping[str, Any]


def strangers_table(found: Mapping[str, Any], source: str) -> str:
    """A row a network: means over its seeds, and their ranges."""
    lines = [
        "| network | judged on | weights | test score before | after | standard error "
        "| held out, before | after | file, bytes | ratio | rounded, bytes | minutes | seeds |",
        "|---" * 13 + "|",
    ]
    calls: dict[tuple[str, str], list[Row]] = {}
    for row in found["rows"]:
        calls.setdefault((row["name"], row["given"]), []).append(row)
    lines += map(_line, calls.values())
    notes = [_failures(found["rows"])]
    return "\n".join([*lines, "", *(note for note in notes if note), source])


def _line(rows: Sequence[Row]) -> str:
    title, weights = rows[0]["title"], f"{rows[0]['parameters']:,}"
    judged = rows[0]["given"].rpartition(", ")[2]
    done = [row for row in rows if "failed" not in row]
    if not done:
        return f"| {title} | {judged} | {weights} " + "| - " * 9 + f"| 0 of {len(rows)} |"
    style, unit = (".2f", " %") if done[0]["score"]["unit"] == "percent" else (".3f", "")

    def scores(key: str, part: str = "score") -> str:
        return mean_and_range([row[part][key] for row in done], style, unit)

    mean_bytes = statistics.fmean(row["bytes"] for row in done)
    cells = [
        title,
        judged,
        weights,
        scores("before"),
        scores("after"),
        f"{statistics.fmean(row['score']['standard_error'] for row in done):{style}}",
        scores("before", "held_out"),
        scores("after", "held_out"),
        mean_and_range([row["bytes"] for row in done], ",.0f"),
        f"{done[0]['parameter_bytes'] / mean_bytes:.0f}x",
        _where_there(done, lambda row: row["rounding"] and row["rounding"]["bytes"]),
        f"{statistics.fmean(row['minutes'] for row in done):.1f}",
        str(len(done)) if len(done) == len(rows) else f"{len(done)} of {len(rows)}",
    ]
    return "| " + " | ".join(cells) + " |"


def _where_there(rows: Sequence[Row], value: Callable[[Row], float | None]) -> str:
    found = [number for row in rows if (number := value(row)) is not None]
    return mean_and_range(found, ",.0f") if found else "-"


def _failures(rows: Sequence[Row]) -> str:
    failed = [
        f"{row['name']}, seed {row['seed']}: {row['failed']}" for row in rows if "failed" in row
    ]
    return f"Not finished: {'; '.join(failed)}.\n" if failed else ""
