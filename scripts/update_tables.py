"""Write the tables in README.md and docs from docs/results: no figure in them is typed by hand.

python scripts/update_tables.py           # write
python scripts/update_tables.py --check   # exit 1 where a table is not what the results say
"""

import json
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from scripts.ablation.tables import ablation_table
from scripts.frontier.code_tables import code_table
from scripts.frontier.tables import baseline_table, frontier_table, recipe_rows
from scripts.paper.tables import paper_table, trials_table
from scripts.priors.tables import components_table, priors_table

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
FIRST = "lenet_300_100"  # the row on the README's first screen
NAMES = {
    "digits": "64-300-100-10, digits",
    "lenet_300_100": "LeNet-300-100, MNIST",
    "lenet_5_caffe": "LeNet-5-Caffe, MNIST",
    "augmented/lenet_5_caffe": "LeNet-5-Caffe, MNIST, images moved",
    "paper/lenet_300_100": "LeNet-300-100, the paper's settings",
    "paper/lenet_5_caffe": "LeNet-5-Caffe, the paper's settings",
}


MIXTURES = "mixture", "mixture, before the search", "mixture, augmented"
DENSITY_WAYS = ("mixture_same_family", "portable", "compiled", "c_loop")
CODER_ORDER = ("context", "order0", "csr_huffman_2017", "nncodec", "xz", "zlib")
CODER_VARIANTS = ("as_they_are", "rewritten", "rewritten_for_it")
STEP_WAYS = (
    "torch",
    "exact",
    "compiled",
    "prior_subsample",
    "hyperparameters_every",
    "portable",
    "plain_svi",
    "textbook",
)


def main() -> None:
    stale = []
    for path, tables in pages().items():
        text = new = path.read_text()
        for name, content in tables.items():
            new = replaced(new, name, content)
        if new != text and "--check" in sys.argv:
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
            "first": table([row for row in rows if row["recipe"] == FIRST]),
            "recipes": table(rows),
            "coders_short": coders_short_table(results("coders")),
        },
        ROOT / "docs" / "speed.md": {
            "density": density_table(results("density")),
            "step": step_table(results("step")),
            "estimators": estimators_table(results("estimators")),
        },
        ROOT / "docs" / "coders.md": {
            "coders": coders_table(results("coders")),
            "coder_seconds": coder_seconds_table(results("coders")),
            "codec": codec_table(results("codec")),
            "fuzz": fuzz_table(results("fuzz")),
            "memoryless": memoryless_table(results("memoryless")),
        },
        ROOT / "docs" / "results.md": {
            "frontier": frontier_table(results("frontier"), _source(results("frontier"))),
            "baseline": baseline_table(results("frontier"), MIXTURES),
            "codes": code_table(results("frontier"), results("paper")),
            "paper": paper_table(results("paper"), _source(results("paper"))),
            "trials": trials_table(results("paper")),
            "ablation": ablation_table(results("ablation"), _source(results("ablation"))),
        },
        ROOT / "docs" / "priors.md": {
            "priors": priors_table(results("priors"), _source(results("priors"))),
            "components": components_table(results("components"), _source(results("components"))),
        },
    }


def all_recipe_rows() -> list[dict]:
    """Of the frontier where it has a recipe's own point, else of the recipes' own runs."""
    points = recipe_rows(results("frontier"))
    known = {row["recipe"] for row in points}
    return [*points, *(row for row in results("recipes") if row["recipe"] not in known)]


def results(name: str):
    return json.loads((RESULTS / f"{name}.json").read_text())


def density_table(found: dict) -> str:
    """Milliseconds a way, and how many times faster than MixtureSameFamily."""
    lines = ["| case | " + " | ".join(DENSITY_WAYS) + " |", "|---" * 5 + "|"]
    for case, ways in found.items():
        if case.startswith("_"):
            continue
        base = ways.get("mixture_same_family", {}).get("median_ms")
        cells = [_times(ways.get(way), base, faster=True) for way in DENSITY_WAYS]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    exponents = ", ".join(f"{w} {e}" for w, e in found["_about"]["exponent_of_n"].items())
    grows = f"Time grows as N to the power of: {exponents}."
    return "\n".join([*lines, "", grows, _source(found)])


def step_table(found: dict) -> str:
    """Milliseconds a step, and how many times a plain torch step's."""
    cases = [case for case in found if not case.startswith("_")]
    lines = ["| a step | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for way in STEP_WAYS:
        cells = [_times(found[case].get(way), found[case]["torch"]["median_ms"]) for case in cases]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _source(found)])


def estimators_table(found: dict) -> str:
    """Means over the seeds, with the smallest and the largest."""
    lines = ["| way | file, bytes | error after | seeds |", "|---|---|---|---|"]
    for way, rows in found.items():
        if not way.startswith("_"):
            size = _mean_and_range([row["file_bytes"] for row in rows], ",.0f")
            error = _mean_and_range([row["error_percent"] for row in rows], ".2f", " %")
            lines.append(f"| {way} | {size} | {error} | {len(rows)} |")
    return "\n".join([*lines, "", _source(found)])


def coders_table(found: dict) -> str:
    """Bytes of a whole file, and in brackets the payload over the order-0 entropy."""
    coders = [coder for coder in CODER_ORDER if any(coder in row for row in found.values())]
    head = ["network", "weights", "non-zero", "test error", "order-0 entropy", *coders]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in found.items():
        if name.startswith("_"):
            continue
        error = row["test_error_percent"]
        cells = [
            f"`{name}`",
            f"{row['weights']:,}",
            f"{row['nonzero']:,}",
            "-" if error is None else f"{error:.2f} %",
            f"{row['order0_entropy_bytes']:,.0f}",
            *(_bytes_cell(row.get(coder)) for coder in coders),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _source(found)])


def codec_table(found: dict) -> str:
    """Weights a second, and bytes of memory a weight where they were measured."""
    lines = ["| network | way | encode, weights/s | decode | memory: encode | decode |"]
    lines.append("|---" * 6 + "|")
    for case, ways in found.items():
        for way, row in ways.items() if not case.startswith("_") else ():
            speeds = [f"{row[f'{what}_weights_per_second']:,.0f}" for what in ("encode", "decode")]
            memory = [row.get(f"{what}_bytes_per_weight") for what in ("encode", "decode")]
            cells = speeds + ["-" if m is None else f"{m:.1f} bytes/weight" for m in memory]
            lines.append(f"| {case} | {way} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _source(found)])


def memoryless_table(found: dict) -> str:
    """The worst case of each size."""
    lines = ["| symbols | cases | worst: alphabet, source | bytes | excess |", "|---" * 5 + "|"]
    for size, row in found.items():
        if not size.startswith("_"):
            worst = row["worst"]
            case = f"{worst['levels']}, {worst['source']}{', a zero' if worst['zero'] else ''}"
            cells = f"{worst['bytes']:,} | {worst['excess_bytes']:.2f} bytes"
            lines.append(f"| {int(size):,} | {row['cases']} | {case} | {cells} |")
    return "\n".join([*lines, "", _source(found)])


def fuzz_table(found: dict) -> str:
    """Kinds of mutants by outcome, and what was worst."""
    outcomes = ("refused", "wrong or no architecture", "decoded")
    lines = ["| mutants | refused | architecture | decoded |", "|---" * 4 + "|"]
    for kind, counts in found["outcomes"].items():
        cells = [f"{counts.get(outcome, 0):,}" for outcome in outcomes]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    slowest, peak = found["slowest"]["seconds"], found["peak_resident_mb"]
    worst = (
        f"{found['mutants']:,} mutants, seed {found['seed']}: {found['failed']} failed; slowest "
        f"{slowest:.2f} s; at most {peak:.0f} MB more resident; {found['seconds']:.0f} s in all."
    )
    return "\n".join([*lines, "", worst, "", _source(found)])


def coders_short_table(found: dict) -> str:
    """Whole files: ours and nncodec's, each also where nncodec has its own order of units."""
    lines = ["| network | error | this file | nncodec | its own order | 2017 format | xz |"]
    lines.append("|---" * 7 + "|")
    for name, row in found.items():
        if name.startswith("_"):
            continue
        own = row["context"]["bytes"]
        nncodec = row["nncodec"]
        others = [nncodec["bytes"], nncodec["bytes_rewritten_for_it"]]
        cells = [f"{other:,} ({100 * (own / other - 1):+.1f} %)" for other in others]
        cells += [f"{row[name]['bytes']:,}" for name in ("csr_huffman_2017", "xz")]
        error = row["context"]["test_error_percent"]
        lines.append(f"| `{name}` | {error:.2f} % | {own:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _bytes_cell(row: dict | None) -> str:
    if row is None:
        return "-"
    ratio = row["ratio_to_order0_entropy"]
    return f"{row['bytes']:,}" + ("" if ratio is None else f" ({ratio:.3f})")


def coder_seconds_table(found: dict) -> str:
    """Bytes as it is and rewritten, and seconds, a coder and network."""
    lines = ["| network | coder | as it is | rewritten | rewritten for it | encode | decode |"]
    lines.append("|---" * 7 + "|")
    for name, row in found.items():
        for coder in CODER_ORDER if not name.startswith("_") else ():
            if coder in row:
                one = row[coder]
                sizes = (one.get(f"bytes_{which}") for which in CODER_VARIANTS)
                cells = ["-" if size is None else f"{size:,}" for size in sizes]
                cells += [f"{one[f'{side}_seconds']:.3g} s" for side in ("encode", "decode")]
                lines.append(f"| `{name}` | {coder} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _mean_and_range(values: list[float], style: str, unit: str = "") -> str:
    low, high = (format(value, style) for value in (min(values), max(values)))
    spread = f" ({low}-{high})" if len(values) > 1 else ""
    return f"{statistics.fmean(values):{style}}{unit}{spread}"


def _times(row: dict | None, base: float | None, faster: bool = False) -> str:
    if row is None:
        return "-"
    value = row["median_ms"]
    shown = f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"
    if base is None:
        return shown
    return f"{shown} ({base / value if faster else value / base:.3g}x)"


def _source(found: dict) -> str:
    about, machine = found["_about"], found["_about"]["machine"]
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    where = f"{threads} of {machine['cores']} cores ({machine['cpu_capability']})"
    source = f"`{about['command']}`, {about['date']}: {where}, torch {about['versions']['torch']}."
    return " ".join([source, *([about["note"]] if "note" in about else [])])


def table(rows: list[dict]) -> str:
    """One line a recipe: means over its seeds, and the seeds' ranges of errors and bytes."""
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
    errors = _mean_and_range([row["score"]["decoded"] for row in rows], ".2f", " %")
    sizes = _mean_and_range([row["file_bytes"] for row in rows], ",.0f")
    ratio = rows[0]["parameter_bytes"] / mean(row["file_bytes"] for row in rows)
    nonzero = mean(row["nonzero_percent"] for row in rows)
    start = f", from {rows[0]['start']}" if rows[0]["start"] else ""
    return (
        f"| {title} | {before:.2f} % | {errors} | {sizes} | {ratio:.0f}x "
        f"| {nonzero:.1f} % | {len(rows)} | `models/{name}.toml`{start} |"
    )


def replaced(text: str, name: str, new: str) -> str:
    """The text with what stands between a table's two marks replaced."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    return f"{text[: text.index(first) + len(first)]}\n{new}\n{text[text.index(last) :]}"


if __name__ == "__main__":
    main()
