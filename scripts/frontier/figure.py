"""The picture of the frontier: bytes against test error, beside what others published."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure

from pyro_sws.tuning.pareto import pareto_front
from scripts.shared.study import TITLES

# Method, bytes, test error in percent, what the number counts. As given by the papers, or by those
# that quote them: Ullrich et al. 2017 (tab. 1), Havasi et al. 2019 (tab. 1), Oktay et al. 2020; the
# toolkit is a student project with files.
PUBLISHED: dict[str, list[tuple[str, float, float, str]]] = {
    "lenet_300_100": [
        ("Deep Compression 2015", 26_700, 1.58, "bit budget"),
        ("soft weight-sharing 2017", 16_600, 1.94, "bit budget"),
        ("EPR 2020", 8_560, 1.9, "file"),
    ],
    "lenet_5_caffe": [
        ("Deep Compression 2015", 44_000, 0.74, "bit budget"),
        ("soft weight-sharing 2017", 10_600, 0.97, "bit budget"),
        ("Weightless 2018", 4_520, 1.0, "bit budget"),
        ("EPR 2020", 2_840, 1.0, "file"),
        ("Bayesian compression 2017", 2_230, 1.0, "bit budget"),
        ("MIRACLE 2019", 3_030, 0.69, "file"),
        ("MIRACLE 2019", 1_520, 0.96, "file"),
        ("a MIRACLE toolkit,\nunreviewed", 1_720, 0.83, "file"),
        ("a MIRACLE toolkit,\nunreviewed", 1_150, 0.98, "file"),
    ],
}
MARKERS = {"file": "D", "bit budget": "o"}
COLOURS = {
    "mixture": "tab:blue",
    "mixture, before the search": "tab:cyan",
    "mixture, augmented": "tab:purple",
    "pruned": "tab:orange",
    "pruned, before the search": "moccasin",
    "pruned, augmented": "tab:red",
    "published pruned": "tab:green",
}
# Of names over their points, where they would overlap.
HEIGHTS: dict[float, int] = {1520: -18, 2230: 26, 4520: -18}
TICKS = (1000, 2000, 5000, 10_000, 20_000, 50_000)


def draw(points: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A panel a network: our methods over their seeds, and the published numbers by their kind."""
    networks = list(dict.fromkeys(point["network"] for point in points))
    figure = Figure(figsize=(6 * len(networks), 5), layout="constrained")
    for i, network in enumerate(networks):
        axes = figure.add_subplot(1, len(networks), i + 1)
        for method in dict.fromkeys(p["method"] for p in points):
            _method(
                axes,
                method,
                [p for p in points if (p["network"], p["method"]) == (network, method)],
            )
        for name, size, error, counts in PUBLISHED[network]:
            axes.plot(size, error, MARKERS[counts], color="0.4", markerfacecolor="none")
            axes.annotate(
                f"{name} ({counts})" if "\n" in name else f"{name}\n({counts})",
                (size, error),
                (5, HEIGHTS.get(size, 4)),
                textcoords="offset points",
                fontsize=7,
                color="0.3",
            )
        axes.set(xscale="log", xlabel="bytes", ylabel="test error, %", title=TITLES[network])
        axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS], minor=False)
        axes.minorticks_off()
        low, high = axes.get_xlim()
        axes.set_xlim(low, 3 * high)  # room for the names at the right
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def _method(axes: Any, method: str, points: Sequence[Mapping[str, Any]]) -> None:
    """Every run as a dot; a line through the means of the settings that none beats in both."""
    colour = COLOURS[method]
    axes.plot(
        [p["bytes"] for p in points],
        [p["test_error_percent"] for p in points],
        ".",
        color=colour,
        alpha=0.4,
    )
    if points:
        sizes, errors = zip(*front(points), strict=True)
        axes.plot(sizes, errors, "s-", color=colour, markersize=4, label=f"{method} (file)")


def front(points: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """The means of the settings that no others beat in both, by rising bytes."""
    means = [mean for _, mean in by_settings(points)]
    return [means[i] for i in pareto_front(means)]


def by_settings(
    points: Sequence[Mapping[str, Any]],
) -> list[tuple[str, tuple[float, float]]]:
    """Mean bytes and error over the seeds, by what is the same but for the seed."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for point in points:
        groups.setdefault(point["name"], []).append(point)
    return [
        (name, (fmean(p["bytes"] for p in group), fmean(p["test_error_percent"] for p in group)))
        for name, group in groups.items()
    ]
