"""The picture of turnover: which weights are still being chosen, epoch by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

COLOURS = ("tab:purple", "tab:blue", "tab:green", "tab:orange")  # by widening, in turn
PLAIN = "0.35"  # a grey
LEFT, RIGHT = "came_percent", "overlap_percent"
TITLES = {
    LEFT: "Nonzero weights that were zero an epoch before, %",
    RIGHT: "Nonzero weights in common with the last epoch's, %",
}
LEAST = 0.1  # percent: below it the logarithmic axis is a straight one, down to 0


def draw(ways: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A line a way, from the second epoch on: before it there is nothing to compare with.

    The grey upright is where refinement begins. Seeds of one way share its colour; the numbers
    beside its name are the first one's.
    """
    widenings = sorted({way["widening"] for way in ways if "widening" in way})
    colours = {w: COLOURS[i % len(COLOURS)] for i, w in enumerate(widenings)}
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    for axes, key in zip(figure.subplots(1, 2), TITLES, strict=True):
        for way in ways:
            shown = way["epochs"][1:]
            axes.plot(
                [row["epoch"] for row in shown],
                [row[key] for row in shown],
                color=colours.get(way.get("widening"), PLAIN),
                label=way_name(way),
                linewidth=1.8,
            )
        for end in {fit_epochs(way) for way in ways if "widening" in way}:
            axes.axvline(end, color="0.8", zorder=0)
        axes.set_title(TITLES[key], fontsize=10.5)
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    left, right = figure.axes
    left.set_yscale("symlog", linthresh=LEAST)
    ticks = [0, LEAST, 1, 10, 100]
    left.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    left.set_ylim(0, 100)
    right.set_ylim(0, 102)
    labels: dict[str, Any] = {}
    for line, way in zip(left.lines, ways, strict=False):  # the uprights come after
        labels.setdefault(way_name(way), (line, ends(way)))
    figure.legend(
        [line for line, _ in labels.values()],
        [f"{name}; {end}" for name, (_, end) in labels.items()],
        loc="outside lower center",
        ncols=2,
        frameon=False,
        fontsize=9,
    )
    figure.savefig(path, dpi=110)


def way_name(way: Mapping[str, Any]) -> str:
    if "widening" in way:
        return f"fit, then refined: tau {way['tau']:g}, widening {way['widening']:g}"
    return f"fit alone: tau {way['tau']:g}"


def ends(way: Mapping[str, Any]) -> str:
    """The file, and whether it is of the fit, because no epoch of refinement was shorter."""
    thrown_away = way.get("epoch_kept") == fit_epochs(way)
    file = f"{way['file_bytes']:,} bytes, {way['decoded_error_percent']:.2f} %"
    return f"nothing gained, so the fit's {file}" if thrown_away else file


def fit_epochs(way: Mapping[str, Any]) -> int:
    return sum(row["phase"] == "fit" for row in way["epochs"])
