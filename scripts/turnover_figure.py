"""The picture of turnover: which weights are still being chosen, epoch by epoch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

COLOURS = ("0.35", "tab:purple", "tab:blue", "tab:green", "tab:orange")
PANELS = {
    "came_percent": "of the nonzero weights, zero an epoch before, %",
    "overlap_percent": "nonzero weights in common with the last epoch's, %",
    "error_percent": "error on images held out, %",
}


def draw(ways: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """A panel a quantity, a line a way; from the second epoch on, before which there is nothing."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(PANELS))
    for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
        for colour, (way, rows) in zip(COLOURS, ways.items(), strict=True):
            shown = rows[1:]
            epochs = [row["epoch"] for row in shown]
            axes.plot(epochs, [row[key] for row in shown], color=colour, label=way, lw=1.5)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    panels[0].set_yscale("symlog", linthresh=0.1)
    panels[0].set_ylim(bottom=0)
    panels[2].set_yscale("log", subs=(2, 5))
    panels[2].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[2].set_yticks([1, 2, 5, 10, 20])
    panels[2].yaxis.set_minor_formatter(NullFormatter())
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=110)
