"""Picture of what is in a file: which values its weights have, and how many each. Matplotlib."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pyro_sws.assess.figures.style import (
    MUTED,
    RETRAINED,
    ZERO,
    counts_on,
    headed,
    padded,
    panels_in_rows,
)

COUNTED = 24  # values whose counts are written above them: more would not be readable


def codebook_values(counts: Mapping[float, int], title: str = "") -> Figure:
    """How many weights have which value in the file: a stem for each value other than 0.

    ``counts`` are by value, see ``value_counts``. There are so many zeros that their stem would
    hide the others: they are a mark on the axis, and a number.
    """
    values = np.array(sorted(value for value, n in counts.items() if n and value != 0))
    heights = np.array([counts[value] for value in values])
    zeros = counts.get(0.0, 0)
    figure, (axes,) = panels_in_rows(3.2)
    axes.vlines(values, 0, heights, color=RETRAINED, linewidth=2, gid="stems")
    axes.plot(values, heights, "o", color=RETRAINED, markersize=4, gid="heads")
    if len(values) <= COUNTED:
        for value, height in zip(values, heights, strict=True):
            _label(axes, f"{height:,}", (value, height), (0, 5), MUTED)
    if zeros:
        axes.plot(0, 0, "^", color=ZERO, markersize=8, clip_on=False, zorder=3, gid="zero")
    axes.set(xlim=padded(np.append(values, 0.0)), xlabel="value in the file", ylabel="weights")
    axes.set(ylim=(0, 1.15 * heights.max(initial=1)))
    counts_on(axes.yaxis)
    headed(axes, _what_is_counted(title, int(heights.sum()), len(values), zeros))
    return figure


def _what_is_counted(title: str, others: int, values: int, zeros: int) -> str:
    """The heading of the values in a file."""
    whole = others + zeros
    parts = [title] if title else []
    parts.append(f"{others:,} weights at {values:,} value{'s' * (values != 1)} other than 0")
    if zeros:
        parts.append(f"{zeros:,} at 0 ({100 * zeros / whole:.1f}%, the triangle)")
    return ": ".join([parts[0], ", ".join(parts[1:])]) if title else ", ".join(parts)


def _label(
    axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], colour: str
) -> None:
    axes.annotate(
        text, at, offset, textcoords="offset points", fontsize=8, color=colour, ha="center"
    )
