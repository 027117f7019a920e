"""The tables of the strangers, from docs/results/strangers.json and its neighbours."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scripts.shared.cells import mean_and_range
from scripts.strangers.networks import CHOSEN_ON

Row = Mapping[str, Any]
SHARE_OF_ROUNDED = 0.6


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
    notes = [_counted(found["rows"]), _failures(found["rows"])]
    return "\n".join([*lines, "", *(note for note in notes if note), source])


def first_table(found: Mapping[str, Any], names: Sequence[str]) -> str:
    """What ``compress(net, train)`` gave on some networks: for the README's first screen."""
    lines = [
        "| network, data of scikit-learn | test error before | after | standard error "
        "| file, bytes | ratio | minutes | seeds |",
        "|---" * 8 + "|",
    ]
    for name in names:
        rows = [r for r in found["rows"] if r["name"] == name and r["given"] == "train"]
        whole = _line(rows).strip("|").split("|")
        lines.append("|" + "|".join(whole[i] for i in (0, 3, 4, 5, 8, 9, 11, 12)) + "|")
    return "\n".join(lines)


def _line(rows: Sequence[Row]) -> str:
    title, weights = _title(rows[0]), f"{rows[0]['parameters']:,}"
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


def _title(row: Row) -> str:
    return row["title"] + (" (*)" if row["name"] in CHOSEN_ON else "")


def _counted(rows: Sequence[Row]) -> str:
    """How many files keep what, in one sentence: by the rule that a walk has by default."""
    done = [row for row in rows if "failed" not in row]
    beside = [row for row in done if row["rounding"]]
    kept = [row for row in done if _rise(row, "score") <= _points(row)]
    untuned = [row for row in done if row["name"] not in CHOSEN_ON]
    kept_untuned = sum(row["name"] not in CHOSEN_ON for row in kept)
    held = [row for row in done if row["held_out"]["data"] == "validation"]
    unseen = [row for row in held if row["given"] == "train"]
    judged = [row for row in held if row["given"] != "train"]
    short = sum(row["bytes"] <= SHARE_OF_ROUNDED * row["rounding"]["bytes"] for row in beside)
    return (
        f"(*): the walk's defaults were chosen on it. Of {len(rows)} walks {len(done)} "
        f"gave a file. Test scores within half a point (of other scores 2 %) and two standard "
        f"errors of those before: {len(kept)} of {len(done)}, and {kept_untuned} of {len(untuned)} "
        f"without a (*). Held-out scores within those and one: "
        f"{_within(judged)} of {len(judged)} that were judged by them, {_within(unseen)} of "
        f"{len(unseen)} that were not. At most {SHARE_OF_ROUNDED} of the rounded network's bytes: "
        f"{short} of {len(beside)}.\n"
    )


def _within(rows: Sequence[Row]) -> int:
    return sum(_rise(row, "held_out", errors=1) <= _points(row) for row in rows)


def _rise(row: Row, part: str, errors: float = 2) -> float:
    score = row[part]
    return score["after"] - errors * score["standard_error"] - score["before"]


def _points(row: Row) -> float:
    """The default tolerance, but for what is as large as a standard error."""
    score = row["score"]
    return 0.5 if score["unit"] == "percent" else 0.02 * score["before"]


def _where_there(rows: Sequence[Row], value: Callable[[Row], float | None]) -> str:
    found = [number for row in rows if (number := value(row)) is not None]
    return mean_and_range(found, ",.0f") if found else "-"


def _failures(rows: Sequence[Row]) -> str:
    failed = [
        f"{row['name']}, seed {row['seed']}: {row['failed']}" for row in rows if "failed" in row
    ]
    return f"Not finished: {'; '.join(failed)}.\n" if failed else ""


def attempts_table(found: Mapping[str, Any], source: str) -> str:
    """A row an attempt: what had come back then, and what comes back now."""
    lines = [
        "| network | then | test score before | after | standard error "
        "| judged by, reference | file's | tolerance | file, bytes | ratio | minutes |",
        "|---" * 11 + "|",
    ]
    for row in found["rows"]:
        if "score" not in row:
            lines.append(f"| {row['title']} | {row['then']} " + "| - " * 9 + "|")
            continue
        score, judged = row["score"], row["judged"]
        numbers = [score[key] for key in ("before", "after", "standard_error")]
        numbers += [judged[key] for key in ("reference", "score", "tolerance")]
        lines.append(
            f"| {row['title']} | {row['then']} | "
            + " | ".join(f"{number:.2f} %" for number in numbers)
            + f" | {row['bytes']:,} | {row['ratio']:.0f}x | {row['minutes']:.1f} |"
        )
    missing = [row["title"] for row in found["rows"] if "left_out" in row]
    note = [f"Not run, for want of the data: {', '.join(missing)}.", ""] if missing else []
    return "\n".join([*lines, "", *note, source])


def ablation_table(found: Mapping[str, Any], source: str) -> str:
    """A row a choice: bytes and the held-out score on each network."""
    titles = list(dict.fromkeys(row["title"] for row in found["rows"]))
    lines = ["| a walk | " + " | ".join(titles) + " |", "|---" * (1 + len(titles)) + "|"]
    cells: dict[str, dict[str, str]] = {}
    for row in found["rows"]:
        done = f"{row['bytes']:,.0f} at {row['held_out']:.2f} %" if "bytes" in row else "no file"
        cells.setdefault(row["choice"], {})[row["title"]] = done
    lines += [
        f"| {choice} | " + " | ".join(by.get(title, "-") for title in titles) + " |"
        for choice, by in cells.items()
    ]
    return "\n".join([*lines, "", source])


def cost_table(found: Mapping[str, Any], source: str) -> str:
    """A row a network: seconds of as many passes, and the median ratio."""
    lines = [
        "| network | passes | files | training, seconds | walk, seconds | ratio |",
        "|---" * 6 + "|",
    ]
    for row in found["rows"]:
        training, walk = (statistics.median(row["seconds"][way]) for way in ("training", "walk"))
        lines.append(
            f"| {row['title']} | {row['passes']} | {row['files'][0]} | {training:.1f} | {walk:.1f} "
            f"| {row['ratio']:.2f} |"
        )
    return "\n".join([*lines, "", source])
