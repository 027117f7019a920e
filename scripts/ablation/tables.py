"""The table of the ablation, from docs/results/ablation.json."""

from collections.abc import Mapping, Sequence
from typing import Any

# A row's own columns, in their order, and what the table says for each choice.
PARTS: dict[str, dict[Any, str]] = {
    "refinement": {True: "yes", False: "no"},
    "gammas": {True: "yes", False: "no"},
    "zeros": {"fixed": "fixed", "Beta": "Beta"},
    "merging": {True: "yes", False: "no"},
}
WITHOUT = {  # a part -> what the effect is of
    "refinement": "no refinement, as many epochs of fitting instead",
    "gammas": "no Gammas",
    "zeros": "a Beta on the zero proportion",
    "merging": "no merging",
    "coder": "the order-0 coder",
}


def ablation_table(found: Mapping[str, Any], source: str) -> str:
    """A row a combination but for the coder, which is in its columns; then each part's effect."""
    target = found["target_error_percent"]
    lines = [
        "| refinement | Gammas | zero proportion | merging | bytes at test error, smaller tau "
        f"| larger tau | bytes at {target} % | order-0 coder | components |",
        "|---" * 9 + "|",
    ]
    groups: dict[tuple, dict[str, Mapping[str, Any]]] = {}
    for row in found["rows"]:
        key = tuple(row[part] for part in PARTS)
        groups.setdefault(key, {})[row["coder"]] = row
    for key in sorted(groups, key=lambda key: [str(choice) for choice in key], reverse=True):
        cells = [names[choice] for names, choice in zip(PARTS.values(), key, strict=True)]
        lines.append("| " + " | ".join([*cells, *_cells(groups[key])]) + " |")
    effects = [
        f"- {WITHOUT[part]}: {e['mean']:+.0f} % ({e['least']:+.0f} to {e['most']:+.0f})"
        for part, e in found["effects"].items()
    ]
    head = (
        f"Bytes at {target} % against the same combination with the part, mean and extremes, of "
        "the pairs that reach it:"
    )
    return "\n".join([*lines, "", head, "", *effects, "", source])


def _cells(rows: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    row, order0 = rows["contexts"], rows["order-0"]
    path = [f"{p['file_bytes']:,.0f} at {p['error_percent']:.2f} %" for p in row["path"]]
    matched = [_bytes(r["bytes_at_target"]) for r in (row, order0)]
    return [*path, *[""] * (2 - len(path)), *matched, f"{row['path'][0]['components']:.0f}"]


def _bytes(value: float | None) -> str:
    """A dash where the path over tau does not reach the error."""
    return "-" if value is None else f"{value:,.0f}"
