"""The pictures of the benchmarks."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import StrMethodFormatter

LABELS = {
    "mixture_same_family": ("MixtureSameFamily", "#999999", "o"),
    "broadcast": ("broadcast, logsumexp", "#56b4e9", "v"),
    "portable": ("portable", "#0072b2", "s"),
    "compiled": ("compiled", "#d55e00", "D"),
    "c_loop": ("plain C loop", "#000000", "x"),
}
STEP_COLOURS = {"plain_svi": "#e69f00", "textbook": "#d55e00"}  # Pyro's; torch's are grey

Rows = Mapping[int, Mapping[str, Mapping[str, float]]]  # N or J -> way -> numbers


def draw_density(path: Path, over_n: Rows, over_j: Rows) -> None:
    """Two panels, both logarithmic, a line a way."""
    figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
    named = {"weights N, at J = 17": over_n, "components J, at N = 266,610": over_j}
    for axes, (title, rows) in zip(panels, named.items(), strict=True):
        for way, (label, colour, marker) in LABELS.items():
            points = [(x, row[way]["median_ms"]) for x, row in sorted(rows.items()) if way in row]
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, label=label, color=colour, marker=marker, ms=4, lw=1.4)
        axes.set(xscale="log", yscale="log", xlabel=title)
        axes.grid(True, which="major", lw=0.4, alpha=0.5)
        axes.spines[["top", "right"]].set_visible(False)
    panels[1].set_xticks(sorted(over_j), [str(j) for j in sorted(over_j)])
    panels[1].minorticks_off()
    panels[0].set_ylabel("value and all gradients, ms")
    handles, labels = panels[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"wrote {path.name}")


def draw_step(path: Path, times_torch: Mapping[str, Mapping[str, float]]) -> None:
    """A panel a network: each way's step over the plain torch step, as bars on one log scale."""
    size = (3.6 * len(times_torch) + 1, 4)
    figure, grid = plt.subplots(1, len(times_torch), figsize=size, squeeze=False)
    figure.set_layout_engine("constrained")
    largest = max(times for ways in times_torch.values() for times in ways.values())
    for axes, (name, ways) in zip(grid[0], times_torch.items(), strict=True):
        colours = [
            "#999999" if "torch" in way else STEP_COLOURS.get(way, "#0072b2") for way in ways
        ]
        bars = axes.barh(list(ways), list(ways.values()), color=colours, height=0.7)
        axes.bar_label(bars, [f"{times:.3g}" for times in ways.values()], padding=3, fontsize=8)
        axes.set(xscale="log", title=name, xlim=(0.5, 2 * largest))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.invert_yaxis()
        axes.axvline(1, color="black", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("time of a step over that of plain torch")
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"wrote {path.name}")
