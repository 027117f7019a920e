"""Fits side by side: retrained weights and the densities over them, one panel a run. Matplotlib."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pyro_sws.assess.figures.style import (
    LEGEND,
    RETRAINED,
    bin_edges,
    blank,
    counts_on,
    draw_density,
    flat,
    headed,
    plain,
)
from pyro_sws.weights.mixture import Mixture

IN_A_LINE = 3  # panels; more would be too narrow to read at a laptop's width
TITLE_LETTERS = 36


@dataclass(frozen=True, eq=False)
class FittedWeights:
    """A group's retrained weights (N,), and in the same units the mixture fitted to them."""

    weights: Tensor
    mixture: Mixture
    scaled: bool = False  # whether the weights were divided by scales that differ among them


def fitted_densities(runs: Mapping[str, Mapping[str, FittedWeights]]) -> Figure:
    """Run -> group -> weights: a panel a run, at most three in a line, and so for each group.

    The curves are as in ``weight_histogram``. All panels of a group have one range of counts, and
    one of weights; scaled weights have each a range of their own. Where the runs' groups are not
    the same, each run's first stands beside the others' first. Raises ValueError for no group.
    """
    groups = _side_by_side(runs)
    if not groups:
        raise ValueError("there is nothing to draw; give at least one run with a group of weights")
    columns = min(len(runs), IN_A_LINE)
    lines = [-(-len(fits) // columns) for fits in groups]
    figure = blank(0.6 + 2.5 * sum(lines))
    panels = figure.subplots(sum(lines), columns, squeeze=False)
    for fits, part in zip(groups, np.split(panels, np.cumsum(lines)[:-1]), strict=True):
        _draw_group(part, fits)
    by_label = {label: handle for ax in panels.ravel() for handle, label in _legend_of(ax)}
    entries = list(by_label.values()), list(by_label)
    figure.legend(*entries, loc="outside lower center", ncols=4, **LEGEND)
    return figure


def _side_by_side(
    runs: Mapping[str, Mapping[str, FittedWeights]],
) -> list[dict[str, FittedWeights]]:
    """For each group the runs' fits by title: matched by name if all runs have the same names."""
    first = next(iter(runs.values()), {})
    alike = all(fits.keys() == first.keys() for fits in runs.values())
    names = {run: list(first if alike else fits) for run, fits in runs.items()}
    return [
        {
            run if len(names[run]) == 1 else f"{run}: {names[run][i]}": fits[names[run][i]]
            for run, fits in runs.items()
            if i < len(names[run])
        }
        for i in range(max(map(len, names.values()), default=0))
    ]


def _draw_group(panels: np.ndarray, fits: Mapping[str, FittedWeights]) -> None:
    """One group's panels (lines, columns), in the order of the runs."""
    alike = [fit for fit in fits.values() if not fit.scaled]
    used, unused = panels.ravel()[: len(fits)], panels.ravel()[len(fits) :]
    for ax, (title, fit) in zip(used, fits.items(), strict=True):
        _draw_fit(ax, fit, _shared_edges([fit] if fit.scaled else alike))
        headed(ax, textwrap.fill(title, TITLE_LETTERS))
        ax.tick_params(labelleft=ax in panels[:, 0])
    top = 3 * max(ax.dataLim.y1 for ax in used)
    for ax in used:
        ax.set_ylim(0.7, top)
    for ax in panels[:, 0]:
        ax.set_ylabel("weights per bin")
    for ax in unused:
        ax.set_visible(False)


def _draw_fit(axes: Axes, fit: FittedWeights, edges: np.ndarray) -> None:
    plain(axes)
    weights = flat(fit.weights)
    counts = np.histogram(weights, edges)[0]
    axes.stairs(counts, edges, fill=True, color=RETRAINED, alpha=0.25, label="retrained weights")
    draw_density(axes, fit.mixture, len(weights), edges)
    axes.set(xlim=(edges[0], edges[-1]), yscale="log")
    axes.set(xlabel="weight / its scale" if fit.scaled else "weight")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    counts_on(axes.yaxis)


def _legend_of(axes: Axes) -> list[tuple[Artist, str]]:
    return list(zip(*axes.get_legend_handles_labels(), strict=True))


def _shared_edges(fits: Sequence[FittedWeights]) -> np.ndarray:
    values = [flat(fit.weights) for fit in fits]
    return bin_edges(np.concatenate(values), max(map(len, values)))
