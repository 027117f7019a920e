"""Pictures of posterior draws: intervals, traces, ranks and pairs. Matplotlib, no pyplot, no torch.

Drawn here and not by ArviZ, whose pictures go through pyplot and differ from major to major. Every
function returns a Figure of its own; ``save_figure`` writes it. Each scalar of the posterior has a
row or panel; ``var_names`` chooses. ValueError is raised for a point estimate, and for more
scalars than a reader could tell apart.
"""

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.stats import rankdata

from pyro_sws.assess.draws.scalar_draws import ScalarDraws, check_spread, scalar_draws
from pyro_sws.assess.draws.summary import hdi
from pyro_sws.assess.figures.style import (
    INK,
    LEGEND,
    MUTED,
    RETRAINED,
    WIDTH_INCHES,
    blank,
    counts_on,
    headed,
    padded,
    plain,
)
from pyro_sws.files import write_whole

CHAINS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito's
FORMATS = ("png", "svg", "pdf")
DRAWS_DRAWN = 2_000  # of a pair; more would only blacken the cloud
NARROW = 0.04  # of the axis: the median's mark would hide an interval that is
LONG = 12  # letters of a label beside a small panel


def forest(
    tree: xr.DataTree, var_names: Sequence[str] | None = None, *, ci_prob: float = 0.94
) -> Figure:
    """Medians, and the shortest intervals of half (thick) and of ``ci_prob`` of the draws.

    Where all intervals would be too narrow to see, a second panel has them around the medians.
    """
    scalars = _scalars(tree, var_names, 60)
    ends = {prob: hdi(scalars.values, prob) for prob in (ci_prob, 0.5)}
    medians = np.median(scalars.flat, 0)
    narrow = np.ptp(ends[ci_prob], axis=1).max() < NARROW * np.ptp(ends[ci_prob])
    figure, panels = _figure(1, 2 if narrow else 1, 0.9 + 0.22 * len(scalars.labels))
    _intervals(panels[0, 0], ends, medians, scalars.labels)
    headed(panels[0, 0], f"Median; shortest intervals of 50 % and {100 * ci_prob:g} % of the draws")
    if narrow:
        around = {prob: pair - medians[:, None] for prob, pair in ends.items()}
        _intervals(panels[0, 1], around, 0 * medians, scalars.labels)
        panels[0, 1].tick_params(labelleft=False)
        headed(panels[0, 0], f"Median; intervals of 50 % and {100 * ci_prob:g} %")
        headed(panels[0, 1], "The same intervals, less the medians")
    return figure


def _intervals(
    axes: Axes, ends: Mapping[float, np.ndarray], medians: np.ndarray, labels: Sequence[str]
) -> None:
    """A row a scalar; ``ends``: probability -> (E, 2), the widest first."""
    rows = np.arange(len(labels))
    for (prob, pair), width in zip(ends.items(), (1.2, 3.6), strict=True):
        axes.hlines(rows, *pair.T, color=RETRAINED, lw=width, gid=f"{prob}")
    axes.plot(medians, rows, "o", color="white", mec=RETRAINED, ms=5, gid="median")
    axes.set(yticks=rows, yticklabels=labels, ylim=(len(rows) - 0.5, -0.5))
    axes.grid(visible=False)
    axes.grid(visible=True, axis="x", alpha=0.5)


def trace(tree: xr.DataTree, var_names: Sequence[str] | None = None) -> Figure:
    """By scalar: a histogram of each chain's draws, and the draws in their order."""
    scalars = _scalars(tree, var_names, 12)
    figure, panels = _figure(len(scalars.labels), 2, 1.5 * len(scalars.labels), (1, 2))
    for (left, right), label, draws in _panels(panels, scalars):
        edges = np.histogram_bin_edges(draws, int(np.clip(len(draws[0]) ** 0.5, 6, 60)))
        for i, chain in enumerate(draws):
            colour = CHAINS[i % len(CHAINS)]
            counts = np.histogram(chain, edges)[0]
            left.stairs(counts, edges, color=colour, lw=1, label=f"chain {i}")
            right.plot(chain, color=colour, lw=0.6, alpha=0.8)
        headed(left, label)
        left.set(yticks=[])
        left.xaxis.set_major_locator(MaxNLocator(3))
        right.set(xlim=(0, max(draws.shape[1] - 1, 1)))
    panels[-1, 1].set_xlabel("draw")
    _chains(figure, panels[0, 0], len(scalars.values))
    return figure


def ranks(tree: xr.DataTree, var_names: Sequence[str] | None = None) -> Figure:
    """By scalar: how the ranks of each chain's draws among all draws are spread; even, if they mix.

    The line is what a chain is expected to have in a bin, the band three standard errors of
    independent draws around it. Vehtari et al. 2021, section 4.2. Raises ValueError for one chain.
    """
    scalars = _scalars(tree, var_names, 12)
    chains, draws = scalars.values.shape[:2]
    if chains < 2:
        raise ValueError("ranks compare chains with each other, and the tree has one")
    figure, panels = _figure(len(scalars.labels), 1, 1.6 * len(scalars.labels))
    bins = int(np.clip(draws**0.5, 2, 20))
    edges, expected = np.linspace(0, chains * draws, bins + 1), draws / bins
    # The count is hypergeometric: how many of a bin's draws are the chain's.
    error = np.sqrt(expected * (1 - 1 / bins) * (1 - 1 / chains))
    for (axes,), label, values in _panels(panels, scalars):
        axes.axhline(expected, color=INK, lw=1)
        axes.axhspan(expected - 3 * error, expected + 3 * error, color=MUTED, alpha=0.15, lw=0)
        for i, ranked in enumerate(rankdata(values).reshape(chains, draws)):
            counts = np.histogram(ranked - 0.5, edges)[0]
            colour = CHAINS[i % len(CHAINS)]
            axes.stairs(counts, edges, color=colour, lw=1.2, label=f"chain {i}", baseline=None)
        headed(axes, label)
        axes.set(xlim=(edges[0], edges[-1]))
    panels[-1, 0].set_xlabel("rank among the draws of all chains")
    _chains(figure, panels[0, 0], chains)
    return figure


def pairs(tree: xr.DataTree, var_names: Sequence[str] | None = None) -> Figure:
    """Each scalar against each other, and their histograms on the diagonal."""
    scalars = _scalars(tree, var_names, 8)
    count = len(scalars.labels)
    figure, panels = _figure(count, count, WIDTH_INCHES if count > 1 else 3)
    flat = scalars.flat
    drawn = flat[:: -(-len(flat) // DRAWS_DRAWN)]
    for (i, j), axes in np.ndenumerate(panels):
        if j > i:
            axes.remove()
            continue
        if i == j:
            axes.hist(flat[:, i], bins=30, color=RETRAINED, alpha=0.4)
            axes.set(yticks=[])
        else:
            axes.plot(drawn[:, j], drawn[:, i], ".", color=RETRAINED, ms=3, mew=0, alpha=0.4)
            axes.yaxis.set_major_locator(MaxNLocator(3))
        axes.xaxis.set_major_locator(MaxNLocator(2 if count > 2 else 5))
        if j == 0 and i > 0:
            axes.set_ylabel(_in_lines(scalars.labels[i]))
        if i == count - 1:
            axes.set_xlabel(_in_lines(scalars.labels[j]))
        # A column has one range of its scalar, and so has a row left of its histogram.
        axes.tick_params(labelbottom=i == count - 1, labelleft=j == 0)
        axes.grid(visible=False)
        axes.set_xlim(*padded(flat[:, j]))
    return figure


def _in_lines(label: str) -> str:
    """A long label in two lines: its entry, or its last word, in the second."""
    if len(label) <= LONG:
        return label
    head, mark, entry = label.partition("[") if "[" in label else label.rpartition("_")
    return f"{head}\n{mark}{entry}"


def save_figure(figure: Figure, path: str | os.PathLike, dpi: float = 150) -> None:
    """Write the figure whole, in the format that the path ends in, one of ``FORMATS``."""
    ending = Path(path).suffix[1:].lower()
    if ending not in FORMATS:
        raise ValueError(f"cannot write {path}: end its name in .{', .'.join(FORMATS)}")
    file = io.BytesIO()
    figure.savefig(file, format=ending, dpi=dpi, facecolor="white")
    write_whole(path, file.getvalue())


def _scalars(tree: xr.DataTree, var_names: Sequence[str] | None, most: int) -> ScalarDraws:
    check_spread(tree, "a picture of draws")
    scalars = scalar_draws(tree, var_names)
    if len(scalars.labels) > most:
        raise ValueError(
            f"{len(scalars.labels)} scalars are too many for one picture; choose at most {most} by "
            "var_names"
        )
    return scalars


def _figure(
    rows: int, columns: int, height: float, widths: Sequence[float] | None = None
) -> tuple[Figure, np.ndarray]:
    """A figure with plain panels (rows, columns)."""
    figure = blank(height)
    panels = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    for axes in panels.ravel():
        plain(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        counts_on(axes.xaxis)
        counts_on(axes.yaxis)
    return figure, panels


def _panels(panels: np.ndarray, scalars: ScalarDraws) -> list[tuple[np.ndarray, str, np.ndarray]]:
    """A row of panels, label and draws (chain, draw) for each scalar."""
    return list(zip(panels, scalars.labels, np.moveaxis(scalars.values, 2, 0), strict=True))


def _chains(figure: Figure, axes: Axes, count: int) -> None:
    """Which colour is which chain, where there are several and not too many to name."""
    if 1 < count <= len(CHAINS):
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=count, **LEGEND)
