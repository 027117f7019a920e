"""Pictures of a fit: where the weights went, and how the mixture got there. Matplotlib, no pyplot.

Every function returns a Figure of its own; the caller's settings and open figures are left alone.
Weights are flat tensors in the mixture's units: divided by their scale, where the prior has scales.
What the colours mean is said in ``style``.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from pyro_sws.assess.figures.style import (
    FAINT,
    INK,
    LEGEND,
    MUTED,
    RETRAINED,
    TRAINED,
    ZERO,
    bin_edges,
    blank,
    colours,
    counts_on,
    draw_density,
    flat,
    headed,
    padded,
    panels_in_rows,
    plain,
)
from pyro_sws.inference.history import HistoryRow
from pyro_sws.weights.mixture import Mixture

ZEROS_DRAWN = 20_000  # of the weights at zero: more would only blacken their band


def weight_histogram(
    before: Tensor, after: Tensor, mixture: Mixture, levels: np.ndarray, title: str = ""
) -> Figure:
    """Counts of trained and retrained weights, and the counts that the mixture expects.

    The curves are N p(bin centred at w): N x bin width x p(w), averaged over one bin, so that a
    component narrower than a bin is as high as its bin could be. ``levels`` (K,), the codebook, are
    the ticks at the top.
    """
    trained, retrained, levels = flat(before), flat(after), np.asarray(levels, float).ravel()
    edges = bin_edges(np.concatenate([trained, retrained, levels]), len(retrained))
    width = edges[1] - edges[0]
    figure, (axes,) = panels_in_rows(4.2)
    counts = np.histogram(retrained, edges)[0]
    axes.stairs(counts, edges, fill=True, color=RETRAINED, alpha=0.25, label="retrained weights")
    counts = np.histogram(trained, edges)[0]
    axes.stairs(counts, edges, color=TRAINED, linewidth=1.4, label="trained weights")
    draw_density(axes, mixture, len(retrained), edges)
    axes.set(xlim=(edges[0], edges[-1]), yscale="log", ylim=(0.7, 3 * axes.dataLim.y1))
    axes.set(xlabel="weight", ylabel=f"weights per bin of {width:.1g}")
    counts_on(axes.yaxis)
    _ticks_at(axes, levels)
    axes.legend(loc="upper right", **LEGEND)
    headed(axes, title, pad=12)
    return figure


def before_after(
    before: Tensor, after: Tensor, mixture: Mixture, symbols: Tensor | None = None
) -> Figure:
    """Each weight before and after retraining, over the components; Ullrich et al. 2017, figure 1.

    A band is mean +- 2 deviations of a component that holds weights, the darker the more it holds.
    ``symbols`` are each weight's index in ``mixture.levels``; by default ``mixture.assign(after)``.
    Of the weights at zero a fixed random choice is drawn; the figure says how many. Raises
    ValueError where the arguments do not go together.
    """
    x, y, levels = flat(before), flat(after), flat(mixture.levels)
    index = (mixture.assign(after) if symbols is None else symbols).cpu().numpy().ravel()
    if not len(x) == len(y) == len(index):
        sizes = f"{len(x)}, {len(y)} and {len(index)}"
        raise ValueError(f"before, after and symbols must have as many entries, got {sizes}")
    if index.max() >= len(levels):
        raise ValueError(f"symbol {index.max()}, but the mixture has {len(levels)} levels")
    at_zero = levels[index] == 0
    zeros, others = np.flatnonzero(at_zero), np.flatnonzero(~at_zero)
    drawn = zeros
    if len(zeros) > ZEROS_DRAWN:
        drawn = np.random.default_rng(0).choice(zeros, ZEROS_DRAWN, replace=False)
    figure, axes, top, right = _with_margins(x, y)
    headed(top, _what_is_drawn(len(others), len(drawn), len(zeros)))
    _bands(axes, mixture, np.bincount(index, minlength=len(levels)))
    _scatter(axes, x[drawn], y[drawn], ZERO)
    _scatter(axes, x[others], y[others], RETRAINED)
    axes.axline((0, 0), slope=1, color=MUTED, linewidth=0.9, dashes=(5, 4), label="unchanged")
    axes.legend(loc="lower right", **LEGEND)
    axes.set(xlabel="weight before retraining", ylabel="weight after retraining")
    counts, edges = np.histogram(x, 150, range=axes.get_xlim())
    top.stairs(counts, edges, fill=True, color=TRAINED, alpha=0.6)
    counts, edges = np.histogram(y, 150, range=axes.get_ylim())
    right.stairs(counts, edges, orientation="horizontal", fill=True, color=RETRAINED, alpha=0.6)
    return figure


def component_history(
    history: Sequence[HistoryRow], group: str, mixture_after: Mixture | None = None
) -> Figure:
    """Means +- 2 deviations of a group's components by epoch; Ullrich et al. 2017, figure 3.

    A slab is the thicker and darker the larger its share of the mass outside the spike; the spike,
    a mean that stays at 0, stands apart. ``mixture_after``, the state after merging and refinement,
    goes to the right, on an axis of its own: refinement can move and widen it beyond all that the
    fit has seen. ``history`` is that of ``fit``; raises ValueError where it has no such group.
    """
    means, deviations, proportions = _trajectories(history, group)
    epochs = np.array([row["epoch"] for row in history])
    spike = (means == 0).all(0)
    figure, panels = panels_in_rows(4.4, (1,) if mixture_after is None else (9, 1))
    axes = panels[0]
    emphasis = _emphasis(proportions, spike)
    for j in np.argsort(emphasis[-1], kind="stable"):  # the heaviest last, on top
        _trajectory(axes, epochs, means[:, j], deviations[:, j], emphasis[:, j], bool(spike[j]))
    axes.set(xlim=(epochs[0] - 0.5, epochs[-1] + 0.5))
    axes.set(ylim=padded(np.concatenate([means - 2 * deviations, means + 2 * deviations])))
    axes.set(xlabel="epoch", ylabel="weight: mean ± 2 deviations")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    heading = "Slabs: the darker, the larger the share of the mass outside the spike"
    headed(axes, heading + (". Orange: the spike" if spike.any() else ""))
    if mixture_after is not None:
        _end_state(panels[1], mixture_after)
    return figure


def _with_margins(x: np.ndarray, y: np.ndarray) -> tuple[Figure, Axes, Axes, Axes]:
    """A panel that spans the points, and thin ones for log-counts above it and beside it."""
    figure = blank(6.2)
    grid = figure.add_gridspec(2, 2, width_ratios=(7, 1), height_ratios=(1, 6))
    axes = figure.add_subplot(grid[1, 0])
    top = figure.add_subplot(grid[0, 0], sharex=axes)
    right = figure.add_subplot(grid[1, 1], sharey=axes)
    for panel in (axes, top, right):
        plain(panel)
    axes.set(xlim=padded(x), ylim=padded(y))
    axes.grid(visible=False)
    top.set(yscale="log", ylim=(0.7, 2 * len(x)), ylabel="weights")
    right.set(xscale="log", xlim=(0.7, 2 * len(y)), xlabel="weights")
    top.tick_params(axis="x", labelbottom=False, length=0)
    right.tick_params(axis="y", labelleft=False, length=0)
    right.grid(visible=False)
    for axis in (top.yaxis, right.xaxis):
        counts_on(axis)
    return figure, axes, top, right


def _ticks_at(axes: Axes, levels: np.ndarray) -> None:
    """The codebook's values as ticks along the top."""
    top = axes.secondary_xaxis("top")
    top.set_xticks(levels, labels=[""] * len(levels))
    top.tick_params(color=INK, length=6, width=1)
    top.spines["top"].set(color=FAINT, linewidth=1)
    axes.annotate(
        f"codebook: {len(levels)} value{'s' * (len(levels) != 1)}",
        (1, 1),
        (0, 12),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=9,
        color=MUTED,
        ha="right",
    )


def _what_is_drawn(others: int, drawn: int, zeros: int) -> str:
    """The heading of a scatter that may leave out some of the weights at zero."""
    if not zeros:
        return f"Drawn: all {others:,} weights"
    of_zeros = f"all {zeros:,}" if drawn == zeros else f"{drawn:,} of the {zeros:,}"
    return f"Drawn: all {others:,} weights not at zero (blue), and {of_zeros} at zero (orange)"


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str) -> None:
    """Dots, the smaller and fainter the more there are; as pixels even in a vector file."""
    alpha = float(np.clip(5_000 / max(len(x), 1), 0.15, 0.7))
    size = 3 if len(x) > 2_000 else 5
    axes.plot(x, y, ".", color=colour, markersize=size, mew=0, alpha=alpha, rasterized=True)


def _bands(axes: Axes, mixture: Mixture, counts: np.ndarray) -> None:
    """Mean +- 2 deviations of the components whose level holds weights; counts (K,) by level."""
    means, deviations = flat(mixture.means), flat(mixture.deviations)
    level_of = np.unique(means, return_inverse=True)[1]
    for j, colour in enumerate(colours(mixture)):
        count = counts[level_of[j]]
        if count > 0:
            alpha = 0.06 + 0.24 * np.log1p(count) / np.log1p(counts.max())
            band = means[j] - 2 * deviations[j], means[j] + 2 * deviations[j]
            axes.axhspan(*band, color=colour, alpha=alpha, linewidth=0, zorder=1, gid=f"band {j}")


def _trajectories(
    history: Sequence[HistoryRow], group: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, deviations and proportions of a group, each (epochs, J)."""
    groups = list(history[0]["mixtures"])
    if group not in groups:
        raise ValueError(f"the history has no group {group!r}; choose from {', '.join(groups)}")
    rows = [row["mixtures"][group] for row in history]
    means = np.array([row["means"] for row in rows], float)
    precisions = np.array([row["precisions"] for row in rows], float)
    return means, precisions**-0.5, np.array([row["proportions"] for row in rows], float)


def _emphasis(proportions: np.ndarray, spike: np.ndarray) -> np.ndarray:
    """Square roots of the shares of the mass outside the spike, 1 for the spike; (..., J)."""
    slabs = np.where(spike, 0, proportions)
    total = np.maximum(slabs.sum(-1, keepdims=True), np.finfo(float).tiny)
    return np.where(spike, 1, np.sqrt(slabs / total))


def _trajectory(
    axes: Axes,
    epochs: np.ndarray,
    means: np.ndarray,
    deviations: np.ndarray,
    emphasis: np.ndarray,
    spike: bool,
) -> None:
    """One component: a band, and a line as thick and dark as its emphasis at each epoch."""
    colour = ZERO if spike else RETRAINED
    band = means - 2 * deviations, means + 2 * deviations
    axes.fill_between(epochs, *band, color=colour, alpha=0.04 + 0.2 * emphasis[-1], linewidth=0)
    if len(epochs) == 1:
        axes.errorbar(epochs, means, 2 * deviations, fmt="o", color=colour, alpha=emphasis[0])
        return
    points = np.stack([epochs, means], axis=1)
    line = LineCollection(
        list(np.stack([points[:-1], points[1:]], axis=1)),
        colors=colour,
        linewidths=1.6 if spike else 0.6 + 2.6 * emphasis[1:],
        alpha=0.25 + 0.75 * emphasis[1:],
    )
    axes.add_collection(line)


def _end_state(axes: Axes, mixture: Mixture) -> None:
    """The components at one moment: dots with bars of +- 2 deviations, all within the axis."""
    means, deviations = flat(mixture.means), flat(mixture.deviations)
    emphasis = _emphasis(flat(mixture.proportions), means == 0)
    for j, colour in enumerate(colours(mixture)):
        axes.errorbar(
            0,
            means[j],
            2 * deviations[j],
            fmt="o",
            color=colour,
            alpha=0.25 + 0.75 * emphasis[j],
            markersize=3 + 5 * emphasis[j],
            markeredgewidth=0,
            elinewidth=1.2,
        )
    ends = np.concatenate([means - 2 * deviations, means + 2 * deviations])
    axes.set(xlim=(-1, 1), xticks=[], xlabel=f"{len(mixture)} left", ylim=padded(ends))
    axes.yaxis.tick_right()  # its own values, not those of the panel beside it
    axes.spines["left"].set_visible(False)
    axes.spines["right"].set(visible=True, color=FAINT, linewidth=1)
    headed(axes, "At the end")
