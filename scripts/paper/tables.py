"""Tables of docs/results/paper.json: table 1 beside what was published, and the trials."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.shared.study import TITLES

VARIANTS = {
    "paper": "this package, the paper's settings",
    "within": "this package, the best trial within the paper's error",
    "trial": "this package, the best trial",
    "change": "this package, the best change to it",
}


def paper_table(found: Mapping[str, Any], source: str = "") -> str:
    """Published rows first, then ours: means over the seeds, and the range of their errors."""
    lines = [
        "| network | method | error before | after | non-zero | ratio, as the paper counts it "
        "| rewritten | file, bytes | ratio of the file | seeds |",
        "|---" * 10 + "|",
    ]
    notes = []
    for network, part in _networks(found).items():
        title = TITLES[network]
        lines += [_published(title, row) for row in part["published"]]
        for variant, name in VARIANTS.items():
            rows = [row for row in _finished(part["rows"]) if row["variant"] == variant]
            if rows:
                lines.append(_ours(title, name, rows))
                if variant != "paper":  # whose name says it
                    which = name.removeprefix("this package, ")
                    notes.append(f"- {title}, {which}: {_settings(rows)}")
    published = f"Published: {found['_about']['published']}; there are no files."
    return "\n".join([*lines, "", *notes, "", published, *([source] if source else [])])


def trials_table(found: Mapping[str, Any], source: str = "") -> str:
    """A line a trial or change, in the order of their ratios; the best of each in bold."""
    lines = [
        "| network | trial | error before | retrained | snapped | non-zero | values "
        "| ratio, as the paper counts it, rewritten | ratio of the file |",
        "|---" * 9 + "|",
    ]
    for network, part in _networks(found).items():
        for kind in ("trial", "change"):
            rows = part[f"{kind}s"]
            whole = sorted(_finished(rows), key=lambda row: -row["ratio_paper_rewritten"])
            best = part[f"best_{kind}"]
            lines += [_trial(TITLES[network], row, row["name"] == best) for row in whole]
            failed = [row for row in rows if "failed" in row]
            lines += [f"| {TITLES[network]} | {r['name']} | failed |" + " |" * 6 for r in failed]
    return "\n".join([*lines, *(["", source] if source else [])])


def _networks(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in TITLES if name in found}


def _finished(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if "failed" not in row]


def _published(title: str, row: Mapping[str, Any]) -> str:
    before, after = row["error_before_percent"], row["error_percent"]
    return (
        f"| {title} | {row['method']} | {before:.2f} % | {after:.2f} % "
        f"| {row['nonzero_percent']:.1f} % | {row['ratio_paper']} | - | - | - | - |"
    )


def _ours(title: str, name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    def mean(key: str) -> float:
        return statistics.fmean(row[key] for row in rows)

    errors = [row["error_percent"] for row in rows]
    spread = f" ({min(errors):.2f}-{max(errors):.2f})" if len(errors) > 1 else ""
    return (
        f"| {title} | {name} | {mean('error_before_percent'):.2f} % "
        f"| {mean('error_percent'):.2f} %{spread} | {mean('nonzero_percent_snapped'):.1f} % "
        f"| {mean('ratio_paper'):.0f} | {mean('ratio_paper_rewritten'):.0f} "
        f"| {mean('file_bytes'):,.0f} | {mean('ratio'):.0f} | {len(rows)} |"
    )


def _settings(rows: Sequence[Mapping[str, Any]]) -> str:
    start = f", from {rows[0]['start']}" if rows[0]["start"] else ""
    return rows[0]["name"] + start


def _trial(title: str, row: Mapping[str, Any], best: bool) -> str:
    errors = (row[f"error_{which}percent"] for which in ("before_", "unsnapped_", ""))
    return (
        f"| {title} | {'**' if best else ''}{row['name']}{'**' if best else ''} "
        f"| {' | '.join(f'{error:.2f} %' for error in errors)} | {row['nonzero_percent']:.1f} % "
        f"| {row['values']} | {row['ratio_paper_rewritten']:.0f} | {row['ratio']:.0f} |"
    )
