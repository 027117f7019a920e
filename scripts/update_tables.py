"""Write the tables in README.md and docs from docs/results: no figure in them is typed by hand.

python scripts/update_tables.py           # write
python scripts/update_tables.py --check   # exit 1 where a table is not what the results say
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from scripts.ablation.tables import ablation_table
from scripts.certificates.tables import (
    certificates_table,
    simulation_table,
)
from scripts.coders.tables import (
    codec_table,
    coder_seconds_table,
    coders_short_table,
    coders_table,
    dense_table,
    fuzz_table,
    memoryless_table,
)
from scripts.density.tables import density_table
from scripts.frontier.code_tables import code_table
from scripts.frontier.tables import baseline_table, frontier_table, recipe_rows
from scripts.groups.tables import groups_table
from scripts.paper.tables import paper_table, trials_table
from scripts.post_training.tables import growth_tables, post_training_tables, tolerances_table
from scripts.priors.tables import components_table, priors_table
from scripts.rewriting.tables import rewriting_table
from scripts.shared.cells import mean_and_range, source_of
from scripts.shared.results import RESULTS, ROOT
from scripts.step.tables import estimators_table, step_table
from scripts.strangers.tables import ablation_table as walk_ablation_table
from scripts.strangers.tables import attempts_table, cost_table, first_table, strangers_table

NAMES = {
    "digits": "64-300-100-10, digits",
    "lenet_300_100": "LeNet-300-100, MNIST",
    "lenet_5_caffe": "LeNet-5-Caffe, MNIST",
    "augmented/lenet_5_caffe": "LeNet-5-Caffe, MNIST, images moved",
    "spoken_digits_cnn": "1-D CNN with batch norm, spoken digits",
    "spoken_digits_gru": "GRU, spoken digits",
    "diabetes": "MLP 10-32-16-1, diabetes",
    "protein": "MLP 9-100-100-1, UCI protein",
    "paper/lenet_300_100": "LeNet-300-100, the paper's settings",
    "paper/lenet_5_caffe": "LeNet-5-Caffe, the paper's settings",
}
FIRST = ("digits_demo", "breast_cancer")  # on the README's first screen: data that anyone has
OWN = [name for name in NAMES if not name.startswith("paper/")]  # what this package proposes
MIXTURES = "mixture", "mixture, before the search", "mixture, augmented"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where stale")
    arguments = parser.parse_args()
    stale = []
    for path, tables in pages().items():
        text = new = path.read_text()
        for name, content in tables.items():
            new = replaced(new, name, content)
        if new != text and arguments.check:
            stale.append(str(path.relative_to(ROOT)))
        elif new != text:
            path.write_text(new)
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run python scripts/update_tables.py")


def pages() -> dict[Path, dict[str, str]]:
    """Page -> name of a table in it -> the table."""
    rows = all_recipe_rows()
    return {
        ROOT / "README.md": {
            "first": first_table(results("strangers"), FIRST),
            "recipes": recipes_table(rows, OWN),
            "coders_short": coders_short_table(results("coders")),
        },
        ROOT / "docs" / "speed.md": {
            "density": sourced(density_table, "density"),
            "step": sourced(step_table, "step"),
            "estimators": sourced(estimators_table, "estimators"),
            "rewriting": sourced(rewriting_table, "rewriting"),
        },
        ROOT / "docs" / "coders.md": {
            "coders": sourced(coders_table, "coders"),
            "coder_seconds": coder_seconds_table(results("coders")),
            "codec": sourced(codec_table, "codec"),
            "fuzz": sourced(fuzz_table, "fuzz"),
            "dense": sourced(dense_table, "dense"),
            "memoryless": sourced(memoryless_table, "memoryless"),
        },
        ROOT / "docs" / "results.md": {
            "all_recipes": recipes_table(rows, NAMES),
            "frontier": sourced(frontier_table, "frontier"),
            "baseline": baseline_table(results("frontier"), MIXTURES),
            "codes": code_table(results("frontier"), results("paper")),
            "paper": sourced(paper_table, "paper"),
            "trials": trials_table(results("paper")),
            "ablation": sourced(ablation_table, "ablation"),
            "strangers": sourced(strangers_table, "strangers"),
            "attempts": sourced(attempts_table, "attempts"),
            "walk_ablation": sourced(walk_ablation_table, "walk_ablation"),
            "walk_cost": sourced(cost_table, "walk_cost"),
            "groups": sourced(groups_table, "groups"),
            "certificates": certificates_table(results("certificates")),
            "simulation": sourced(simulation_table, "certificate_simulation"),
        },
        ROOT / "docs" / "post-training.md": {
            "post_training": sourced(post_training_tables, "post_training"),
            "tolerances": sourced(tolerances_table, "tolerances"),
            "growth_post_training": sourced(growth_tables, "growth_post_training"),
        },
        ROOT / "docs" / "priors.md": {
            "priors": sourced(priors_table, "priors"),
            "components": sourced(components_table, "components"),
        },
    }


def all_recipe_rows() -> list[dict[str, Any]]:
    """Of the frontier where it has a recipe's own point, else of the recipes' own runs."""
    points = recipe_rows(results("frontier"))
    known = {row["recipe"] for row in points}
    return [*points, *(row for row in results("recipes") if row["recipe"] not in known)]


def results(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def sourced(table: Callable[[Any, str], str], name: str) -> str:
    """A table of a result, with the line that says where its numbers are from."""
    found = results(name)
    return table(found, source_of(found))


def recipes_table(rows: Sequence[Mapping[str, Any]], recipes: Iterable[str]) -> str:
    """One line a recipe: means over its seeds, and the seeds' ranges of errors and bytes."""
    lines = [
        "| network | error before | after | file, bytes | ratio | non-zero | seeds | recipe |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in recipes:
        if found := [row for row in rows if row["recipe"] == name]:
            lines.append(_line(name, found))
    return "\n".join(lines)


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    def mean(values):
        return statistics.fmean(values)

    score = rows[0]["score"]
    percent = score.get("unit", "percent") == "percent"  # as a frontier's are
    form, unit = (".2f", " %") if percent else (".3f", f" {score['name']}")
    before = format(mean(row["score"]["before"] for row in rows), form) + unit
    errors = mean_and_range([row["score"]["decoded"] for row in rows], form, unit)
    sizes = mean_and_range([row["file_bytes"] for row in rows], ",.0f")
    ratio = rows[0]["parameter_bytes"] / mean(row["file_bytes"] for row in rows)
    nonzero = mean(row["nonzero_percent"] for row in rows)
    start = f", from {rows[0]['start']}" if rows[0]["start"] else ""
    return (
        f"| {NAMES[name]} | {before} | {errors} | {sizes} | {ratio:.0f}x "
        f"| {nonzero:.1f} % | {len(rows)} | `models/{name}.toml`{start} |"
    )


def replaced(text: str, name: str, new: str) -> str:
    """The text with what stands between a table's two marks replaced."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    return f"{text[: text.index(first) + len(first)]}\n{new}\n{text[text.index(last) :]}"


if __name__ == "__main__":
    main()
