"""Simulation-based calibration in one picture: how far ranks are from uniform. Matplotlib."""

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pyro_sws.assess.draws.simulation_based_calibration import SimulationCalibration
from pyro_sws.assess.figures.style import (
    INK,
    LEGEND,
    MUTED,
    RETRAINED,
    ZERO,
    blank,
    headed,
    plain,
)

COLUMNS = 3
LETTERS = 32  # of a heading, over one of as many columns
COLOURS = (RETRAINED, ZERO, "#009e73", "#cc79a7")  # Okabe and Ito's


def simulation_calibration_figure(
    methods: Mapping[str, SimulationCalibration], title: str = ""
) -> Figure:
    """Method -> its calibration, up to four, on the same quantities: a panel a quantity.

    A line is the share of simulations with at most such a rank, less what is expected of uniform
    ranks. Above 0 on the left and below on the right, the posterior is too narrow; above 0
    throughout, its draws are too high. The grey band is the ``SimulationCalibration``'s own, one
    for each number of simulations and draws. Raises ValueError for no method, more than there are
    colours, and methods of different quantities.
    """
    if not 1 <= len(methods) <= len(COLOURS):
        raise ValueError(f"give 1 to {len(COLOURS)} methods, got {len(methods)}")
    quantities = {each.quantities for each in methods.values()}
    if len(quantities) > 1:
        raise ValueError(f"methods are compared on the same quantities, got {sorted(quantities)}")
    (names,) = quantities
    rows = -(-len(names) // COLUMNS)
    columns = min(COLUMNS, len(names))
    figure = blank(1 + 1.75 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for q, (axes, name) in enumerate(zip(panels.flat, names, strict=False)):
        plain(axes)
        for band in _bands(methods):
            axes.fill_between(*band, color=MUTED, alpha=0.18, lw=0, step="mid")
        axes.axhline(0, color=INK, lw=0.8)
        for (method, each), colour in zip(methods.items(), COLOURS, strict=False):
            axes.plot(_shares(each), each.differences[q], color=colour, lw=1.3, label=method)
        leaving = [method for method, each in methods.items() if name in each.leaving]
        heading = f"{name}: {', '.join(leaving)} outside" if leaving else name
        headed(axes, textwrap.fill(heading, LETTERS * COLUMNS // columns))
    for axes in panels.flat[len(names) :]:
        axes.remove()
    _dress(figure, panels, len(names))
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    return figure


def _shares(calibration: SimulationCalibration) -> np.ndarray:
    """Of the ranks, 0 to 1: where the counts of ``differences`` are taken; (draws,)."""
    return np.arange(1, calibration.draws + 1) / (calibration.draws + 1)


def _bands(
    methods: Mapping[str, SimulationCalibration],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Shares, lower and upper edge of each band that differs from the others."""
    different = {(f.simulations, f.draws, f.alpha): f for f in methods.values()}
    return [
        (_shares(f), *(edge / f.simulations - _shares(f) for edge in f.band))
        for f in different.values()
    ]


def _dress(figure: Figure, panels: np.ndarray, count: int) -> None:
    for axes in panels.flat[:count]:
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_locator(MaxNLocator(2))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for axes in panels.flat[max(0, count - panels.shape[1]) : count]:  # each column's lowest
        axes.tick_params(labelbottom=True)
    figure.supxlabel("rank among the posterior's draws, as a share", fontsize=10, color=INK)
    label = "share of simulations up to\nthat rank, less expected"
    figure.supylabel(label, fontsize=10, color=INK)
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), **LEGEND)
