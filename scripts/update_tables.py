"""Write the tables in README.md from docs/results, so that no figure in the text is typed by hand.

python scripts/update_tables.py           # write
python scripts/update_tables.py --check   # exit 1 where a table is not what the results say
"""

import json
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "recipes.json"
README = ROOT / "README.md"
FIRST = "lenet_300_100"  # the row on the README's first screen
NAMES = {
    "digits": "64-300-100-10, digits",
    "lenet_300_100": "LeNet-300-100, MNIST",
    "lenet_5_caffe": "LeNet-5-Caffe, MNIST",
    "paper/lenet_300_100": "LeNet-300-100, the paper's settings",
    "paper/lenet_5_caffe": "LeNet-5-Caffe, the paper's settings",
}


def main() -> None:
    text = README.read_text()
    rows = json.loads(RESULTS.read_text())
    new = replaced(text, "first", table([row for row in rows if row["recipe"] == FIRST]))
    new = replaced(new, "recipes", table(rows))
    if "--check" in sys.argv:
        sys.exit(0 if new == text else "README.md is stale: run python scripts/update_tables.py")
    README.write_text(new)


def table(rows: list[dict]) -> str:
    """One line a recipe: means over its seeds, and the seeds' range of errors."""
    lines = [
        "| network | error before | after | file, bytes | ratio | non-zero | seeds | recipe |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, title in NAMES.items():
        found = [row for row in rows if row["recipe"] == name]
        if found:
            lines.append(_line(name, title, found))
    return "\n".join(lines)


def _line(name: str, title: str, rows: list[dict]) -> str:
    def mean(values):
        return statistics.fmean(values)

    before = mean(row["score"]["before"] for row in rows)
    errors = [row["score"]["decoded"] for row in rows]
    spread = f" ({min(errors):.2f}-{max(errors):.2f})" if len(errors) > 1 else ""
    size = mean(row["file_bytes"] for row in rows)
    ratio = rows[0]["parameter_bytes"] / size
    nonzero = mean(row["nonzero_percent"] for row in rows)
    start = f", from {rows[0]['start']}" if rows[0]["start"] else ""
    return (
        f"| {title} | {before:.2f} % | {mean(errors):.2f} %{spread} | {size:,.0f} | {ratio:.0f}x "
        f"| {nonzero:.1f} % | {len(rows)} | `models/{name}.toml`{start} |"
    )


def replaced(text: str, name: str, new: str) -> str:
    """The text with what stands between a table's two marks replaced."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    return f"{text[: text.index(first) + len(first)]}\n{new}\n{text[text.index(last) :]}"


if __name__ == "__main__":
    main()
