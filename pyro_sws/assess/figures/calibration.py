"""What compression does to calibration, in one picture: reliability and rejection. Matplotlib."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pyro_sws.assess.figures.style import (
    FAINT,
    INK,
    LEGEND,
    MUTED,
    RETRAINED,
    TRAINED,
    blank,
    counts_on,
    headed,
    plain,
)
from pyro_sws.assess.point.calibration import Predictions, calibration, rejection, reliability

WIDTHS = 10  # bins of equal width, as readers know the diagram
FEWEST_IN_A_BIN = 5  # of fewer, the interval is nearly all there is
FEWEST_KEPT = 50  # the rejection curve ends there: its standard error is then up to 7 %
APART = 0.012  # of the axis: points of one bin
# Trained, retrained, snapped, averaged; the last is Okabe and Ito's bluish green.
STAGES = ((TRAINED, "o"), (RETRAINED, "s"), (INK, "D"), ("#009e73", "^"))


def calibration_figure(stages: Mapping[str, Predictions], title: str = "") -> Figure:
    """Stage -> predictions on the same examples, up to four: trained, retrained, snapped, averaged.

    Left: accuracy by confidence in ten bins of equal width, with bars of 95 %, where a bin has 5
    examples or more, and below how many; on the line a network is as often right as it says. Points
    are set a little apart sideways, so as not to hide each other. Right: accuracy on those kept as
    the least confident examples are rejected. The legend's ECE is that of ``calibration``, with the
    95 % that chance alone would give. Raises ValueError for no stage, and for more than there are
    colours.
    """
    if not 1 <= len(stages) <= len(STAGES):
        raise ValueError(f"give 1 to {len(STAGES)} stages, got {len(stages)}")
    height = 4.9 + 0.22 * len(stages)
    figure = blank(height)
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1))
    diagram = figure.add_subplot(grid[0, 0])
    strip = figure.add_subplot(grid[1, 0], sharex=diagram)
    curve = figure.add_subplot(grid[:, 1])
    for axes in (diagram, strip, curve):
        plain(axes)
    for i, ((label, predictions), style) in enumerate(zip(stages.items(), STAGES, strict=False)):
        offset = (i - (len(stages) - 1) / 2) * APART
        _draw_reliability(diagram, predictions, style, offset)
        _draw_counts(strip, predictions, style[0])
        _draw_rejection(curve, predictions, style[0], _numbers(label, predictions))
    _dress(
        diagram, strip, curve, min(predictions.confidence.min() for predictions in stages.values())
    )
    handles, labels = curve.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", **LEGEND)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, color=INK)
    return figure


def _draw_reliability(
    axes: Axes, predictions: Predictions, style: tuple[str, str], offset: float
) -> None:
    bins, (colour, marker) = reliability(predictions, WIDTHS, "equal_width"), style
    drawn = bins.counts >= FEWEST_IN_A_BIN
    reach = np.abs(np.stack([bins.low, bins.high]) - bins.accuracy)
    axes.errorbar(
        bins.confidence[drawn] + offset,
        bins.accuracy[drawn],
        reach[:, drawn],
        color=colour,
        fmt=marker,
        markersize=5,
        elinewidth=1.2,
        alpha=0.85,
    )


def _draw_counts(axes: Axes, predictions: Predictions, colour: str) -> None:
    counts, edges = np.histogram(predictions.confidence, WIDTHS, (0, 1))
    axes.stairs(counts, edges, color=colour, linewidth=1.3, baseline=0.7)


def _draw_rejection(axes: Axes, predictions: Predictions, colour: str, label: str) -> None:
    kept = rejection(predictions)
    drawn = max(len(predictions) - FEWEST_KEPT, 0) + 1
    axes.plot(
        kept.rejected[:drawn], kept.accuracy[:drawn], color=colour, linewidth=1.6, label=label
    )


def _numbers(label: str, predictions: Predictions) -> str:
    c = calibration(predictions)
    return (
        f"{label}: accuracy {100 * c.accuracy:.2f} %, NLL {c.nll_nats:.3g} nats, Brier "
        f"{c.brier:.3g}, ECE {100 * c.ece:.2g} % (chance alone: up to "
        f"{100 * c.ece_by_chance_high:.2g} %)"
    )


def _dress(diagram: Axes, strip: Axes, curve: Axes, least: float) -> None:
    low = np.floor(10 * least) / 10
    diagram.plot([low, 1], [low, 1], color=MUTED, linewidth=0.9, dashes=(5, 4), zorder=1)
    diagram.set(xlim=(low - 0.02, 1.02), ylim=(-0.03, 1.03), ylabel="accuracy")
    diagram.tick_params(labelbottom=False)
    headed(diagram, "Reliability: on the line, as often right as it says")
    strip.set(yscale="log", xlabel="confidence", ylabel="examples")
    strip.set_ylim(bottom=0.7)
    counts_on(strip.yaxis)
    curve.set(xlabel="share rejected, least confident first", ylabel="accuracy on those kept")
    curve.set_xlim(0, 1)
    curve.yaxis.set_major_locator(MaxNLocator(6))
    curve.yaxis.set_major_formatter(PercentFormatter(1))
    curve.xaxis.set_major_formatter(PercentFormatter(1))
    curve.axhline(1, color=FAINT, linewidth=0.8)
    headed(curve, "Rejection: accuracy on what is left")
