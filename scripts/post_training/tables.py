"""Tables of the post-training study: bytes at equal score, and each method's cost."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from scripts.post_training.fronts import Axis, bytes_at, log_kl

Rows = Sequence[Mapping[str, Any]]

KL_TARGETS = (0.001, 0.003, 0.01, 0.03, 0.1)  # nats a prediction
LOSSES = (0.1, 0.3, 1.0)  # points of test score
PREDICTED = 0.1  # nats, up to which files are of use
LARGER, MACHINES, CORES = 7e9, 16, 2
NAMES = {
    "nncodec": "nncodec",
    "rounding": "rounding",
    "gptq": "GPTQ",
    "post_training": "post-training",
}


def post_training_tables(found: Mapping[str, Any], source: str) -> str:
    """At equal divergence from the network's predictions, at equal test score, and the costs."""
    rows = found["rows"]
    parts = [
        source,
        "Bytes at a mean KL divergence from the network's own predictions:",
        _equal(rows, [(f"{t:g} nats", math.log(t)) for t in KL_TARGETS], log_kl),
        "Bytes at a loss of test score, along the files on the front above:",
        _equal(rows, [(f"+{loss:g}", loss) for loss in LOSSES], test_loss),
        _costs(rows),
        "What the curvature says that files lose, a prediction, beside what they lose on inputs "
        "that nothing was learnt from:",
        _predicted(rows),
    ]
    return "\n\n".join(parts) + "\n"


def growth_tables(found: Mapping[str, Any], source: str) -> str:
    """Of checkpoints without data; and what follows for a larger one, by arithmetic."""
    lines = [
        "| weights | workers | given, bytes | file, bytes | bits a weight | largest error "
        "| seconds, load | processor-seconds | weights a processor-second "
        "| expanding, processor-seconds | memory, MB | before, MB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        cells = [
            f"{row['weights']:,}", row["workers"], f"{row['given_bytes']:,}", f"{row['bytes']:,}",
            row["bits"], row["largest_error"], f"{row['seconds']}, {row['load']}",
            row["processor_seconds"], f"{row['weights_per_processor_second']:,.0f}",
            row["expand_processor_seconds"], row["memory_mb"], row["baseline_mb"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n\n".join([source, "\n".join(lines), _larger(found["rows"][-1])]) + "\n"


def tolerances_table(found: Mapping[str, Any], source: str) -> str:
    """What networks lose without data."""
    lines = [
        "| network | tolerance | bytes | bits a weight | ratio | KL, nats | test error, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        ratio = row["given_bytes"] / row["bytes"]
        lines.append(
            f"| {row['network']} | {row['tolerance']:g} | {row['bytes']:,} | {row['bits']} "
            f"| {ratio:.1f} | {row['kl_nats']:g} | {row['test_before']:.2f} -> {row['test']:.2f} |"
        )
    return "\n\n".join([source, "\n".join(lines)]) + "\n"


def _larger(row: Mapping[str, Any]) -> str:
    """How long a checkpoint of LARGER weights takes on MACHINES at the rate of a row."""
    rate, cores = row["weights_per_processor_second"], CORES
    seconds = LARGER / (MACHINES * cores * rate)
    return (
        f"So {LARGER / 1e9:.0f} billion weights on {MACHINES} machines of {cores} cores, at "
        f"{rate:,.0f} weights a processor-second, would take {LARGER:,.0f} / ({MACHINES} x {cores} "
        f"x {rate:,.0f}) = {seconds:,.0f} s, {seconds / 60:.0f} minutes: by arithmetic, not "
        "measured. Reading, waiting for the largest tensor, and putting the file together come on "
        "top."
    )


def test_loss(row: Mapping[str, Any]) -> float:
    return row["test"] - row["test_before"]


def networks_of(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["network"] for row in rows))


def of(rows: Rows, network: str, method: str) -> Rows:
    return [row for row in rows if (row["network"], row["method"]) == (network, method)]


def _equal(rows: Rows, targets: Sequence[tuple[str, float]], axis: Axis) -> str:
    methods = [method for method in NAMES if any(row["method"] == method for row in rows)]
    best = "post_training" if "post_training" in methods else None
    head = ["network", "at", *(NAMES[m] for m in methods)]
    head += [f"ours over {NAMES[m]}" for m in methods if best and m != best]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for network in networks_of(rows):
        for name, target in targets:
            sizes = {m: bytes_at(of(rows, network, m), target, axis) for m in methods}
            if not any(sizes.values()):
                continue
            cells = [network, name, *(f"{size:,.0f}" if size else "-" for size in sizes.values())]
            cells += [_ratio(sizes[best], sizes[m]) for m in methods if best and m != best]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _predicted(rows: Rows) -> str:
    """How much files lost over what was predicted, by network, of files of up to PREDICTED nats."""
    lines = [
        f"| network | files of up to {PREDICTED:g} nats | lost over predicted, median | range "
        "| lost no more than predicted |",
        "|---|---|---|---|---|",
    ]
    for network in networks_of(rows):
        ratios = sorted(
            row["kl_nats"] / row["predicted_nats"]
            for row in rows
            if row["network"] == network
            and row.get("predicted_nats")
            and row["kl_nats"] <= PREDICTED
        )
        if ratios:
            held = sum(ratio <= 1 for ratio in ratios)
            lines.append(
                f"| {network} | {len(ratios)} | {median(ratios):.2g} "
                f"| {ratios[0]:.2g} to {ratios[-1]:.2g} | {held} of {len(ratios)} |"
            )
    return "\n".join(lines)


def _ratio(one: float | None, other: float | None) -> str:
    return f"{one / other:.2f}" if one and other else "-"


def _costs(rows: Rows) -> str:
    head = ["network", "method", "files", "seconds a file", "memory, MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for network in networks_of(rows):
        for method, name in NAMES.items():
            own = of(rows, network, method)
            if own:
                held = [row["peak_megabytes"] for row in own if row["peak_megabytes"] is not None]
                seconds = median(row["seconds"] for row in own)
                memory = f"{max(held):,.0f}" if held else "-"
                files = max(row["files"] for row in own)
                lines.append(f"| {network} | {name} | {files} | {seconds:.2g} | {memory} |")
    return "\n".join(lines)
