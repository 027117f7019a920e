"""Picture of a walk's frontier: each file's length and score, and the tolerance. Matplotlib."""

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from pyro_sws.assess.figures.style import LEGEND, MUTED, RETRAINED, TRAINED, blank, counts_on, plain


def frontier_points(
    points: Sequence[tuple[int, float, bool]],
    reference: float,
    tolerance: float,
    label: str,
    chosen: tuple[int, float] | None = None,
) -> Figure:
    """``points`` are (bytes, score, whether within), in the order in which they were met.

    Scores that are not finite, or beyond ten tolerances, are drawn at the upper edge. ``label`` is
    the score's name and unit; ``chosen`` the file that was handed back.
    """
    figure = blank(3.6)
    axes = figure.subplots()
    plain(axes)
    top = reference + 10 * tolerance
    seen = [(b, min(s, top) if math.isfinite(s) else top, within) for b, s, within in points]
    axes.plot([b for b, _, _ in seen], [s for _, s, _ in seen], color=MUTED, lw=0.8, zorder=1)
    for inside, colour, name in (True, RETRAINED, "within the tolerance"), (False, MUTED, "beyond"):
        own = [(b, s) for b, s, within in seen if within is inside]
        if own:
            axes.plot(*zip(*own, strict=True), "o", ms=4, color=colour, label=name, zorder=2)
    if chosen is not None:
        axes.plot(*chosen, "o", ms=10, mfc="none", color=TRAINED, label="the file", zorder=3)
    axes.axhline(reference + tolerance, color=TRAINED, lw=0.9, dashes=(4, 3))
    axes.set(xscale="log", xlabel="bytes", ylabel=label)
    counts_on(axes.xaxis)
    axes.legend(loc="best", **LEGEND)
    return figure
