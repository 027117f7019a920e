"""What figures share: colours, plain axes, bins, and a mixture drawn over them. Matplotlib.

Colours mean the same everywhere, and colour-blind readers can tell them apart (Okabe and Ito's):
grey is the trained network, blue the retrained one and its slabs, orange whatever is at zero.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.special import ndtr

if TYPE_CHECKING:  # pictures of plain arrays need no torch
    from torch import Tensor

    from pyro_sws.weights.mixture import Mixture

INK, MUTED, FAINT = "#1f2933", "#5f6b76", "#d5dade"
TRAINED, RETRAINED, ZERO = "#8b96a1", "#0072b2", "#d55e00"
WIDTH_INCHES = 8.6


class LegendStyle(TypedDict):
    """Keywords of matplotlib's ``legend``."""

    frameon: bool
    fontsize: int
    labelcolor: str


LEGEND: Final[LegendStyle] = {"frameon": False, "fontsize": 9, "labelcolor": INK}


def blank(height: float) -> Figure:
    """A figure without panels, as high as this in inches; of no window."""
    figure = Figure((WIDTH_INCHES, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def panels_in_rows(
    height: float, widths: Sequence[float] = (1,), rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure with rows of panels of the given relative widths; the panels row by row."""
    figure = blank(height)
    panels = figure.subplots(rows, len(widths), width_ratios=widths, squeeze=False).ravel()
    for panel in panels:
        plain(panel)
    return figure, list(panels)


def plain(axes: Axes) -> None:
    """Two thin spines, faint lines behind the data, muted labels: whatever the caller's style."""
    axes.set_facecolor("white")
    for side, spine in axes.spines.items():
        spine.set(visible=side in ("left", "bottom"), color=FAINT, linewidth=1)
    axes.tick_params(which="both", color=FAINT, labelcolor=MUTED, labelsize=9)
    axes.tick_params(which="minor", length=0)
    axes.grid(visible=True, which="major", axis="y", color=FAINT, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=INK, fontsize=10)


def headed(axes: Axes, text: str, pad: float = 6) -> None:
    """Give the axes a title at the left; ``pad`` is in points."""
    axes.set_title(text, loc="left", fontsize=10, color=INK, pad=pad)


def counts_on(axis: Axis) -> None:
    """Tick labels such as 2e−5, 12k and 1.5M, each whole: no power of ten beside the axis."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))


def bin_edges(values: np.ndarray, weights: int) -> np.ndarray:
    """Equal bins over the values, one centred at 0, more of them for more weights (Rice's rule)."""
    low, high = padded(values)
    width = (high - low) / np.clip(4 * weights ** (1 / 3), 48, 240)
    return (np.arange(np.floor(low / width - 0.5), np.ceil(high / width + 0.5)) + 0.5) * width


def padded(values: np.ndarray) -> tuple[float, float]:
    """The range of the values with 3 % to spare; never empty."""
    low, high = float(values.min()), float(values.max())
    room = 0.03 * (high - low) or 0.1 * abs(low) or 0.01
    return low - room, high + room


def draw_density(axes: Axes, mixture: Mixture, weights: int, edges: np.ndarray) -> None:
    """The mixture's expected counts, and those of each component as a halo around them."""
    grid = _fine_grid(mixture, edges)
    expected = weights * _bin_probabilities(mixture, grid, edges[1] - edges[0])
    total = expected.sum(1)
    axes.plot(grid, total, color=INK, lw=1, zorder=3, label="fitted mixture", gid="density")
    labels = {ZERO: "its spike", RETRAINED: "its slabs"}
    for j, colour in enumerate(colours(mixture)):
        if expected[:, j].max() > 0.5:  # the rest lie below the axis
            label = labels.pop(colour, None)
            axes.plot(grid, expected[:, j], color=colour, lw=2.4, alpha=0.6, label=label)


def colours(mixture: Mixture) -> list[str]:
    """One colour a component: the zero's, or that of retrained weights."""
    return [ZERO if mean == 0 else RETRAINED for mean in flat(mixture.means)]


def flat(w: Tensor) -> np.ndarray:
    """A tensor of any shape, anywhere, as a vector of doubles."""
    return w.detach().reshape(-1).cpu().double().numpy()


def _fine_grid(mixture: Mixture, edges: np.ndarray) -> np.ndarray:
    """Points that resolve the bins and every component out to 6 deviations."""
    offsets = np.linspace(-6, 6, 97)[:, None] * flat(mixture.deviations)
    sides = np.array([0, -0.5, 0.5])[:, None, None] * (edges[1] - edges[0])
    around = (flat(mixture.means) + offsets + sides).ravel()
    return np.unique(np.concatenate([np.linspace(edges[0], edges[-1], 1000), around]))


def _bin_probabilities(mixture: Mixture, centres: np.ndarray, width: float) -> np.ndarray:
    """P(component j, weight within width / 2 of the centre); centres (G,) -> (G, J)."""
    deviations = np.maximum(flat(mixture.deviations), 1e-9 * width)  # a collapsed one is a point
    distance = np.abs(centres[:, None] - flat(mixture.means))  # tails are exact on the left only
    inside = ndtr((width / 2 - distance) / deviations) - ndtr((-width / 2 - distance) / deviations)
    return flat(mixture.proportions) * inside


def _short(value: float) -> str:
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{unit}".replace("-", "−")
    return f"{value:.4g}".replace("e-0", "e-").replace("-", "−")


def as_png(figure: Figure, dpi: float = 150) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, facecolor="white")
    return file.getvalue()
