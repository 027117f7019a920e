"""Picture of a run's history: what each epoch of fit and refinement came to. Matplotlib."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyro_sws.assess.figures.style import (
    INK,
    LEGEND,
    MUTED,
    RETRAINED,
    TRAINED,
    counts_on,
    headed,
    panels_in_rows,
)
from pyro_sws.inference.history import HistoryRow

PANELS_A_ROW = 3


class _Panel(NamedTuple):
    heading: str
    lines: Mapping[str, tuple[str, str]]  # key in a row -> label, colour


PANELS = (
    _Panel("Error cost (nats)", {"error_cost_nats": ("", INK)}),
    _Panel("Complexity cost before tau (nats)", {"complexity_cost_nats": ("", INK)}),
    _Panel("Description (nats)", {"description_nats": ("", INK)}),
    _Panel(
        "Validation score",
        {
            "validation_posterior": ("as fitted", TRAINED),
            "validation_quantized": ("quantized", RETRAINED),
        },
    ),
)


def training_curves(history: Sequence[HistoryRow], refinement: Sequence[HistoryRow] = ()) -> Figure:
    """Costs and, where there are any, descriptions and validation scores, epoch by epoch.

    ``refinement`` is the history of ``Refined``; its epochs go on after the fit's, behind a dashed
    line, with a dot at the one that was kept.
    """
    panels, end = _panels(history, refinement), history[-1]["epoch"]
    later: list[HistoryRow] = [{**row, "epoch": end + row["epoch"]} for row in refinement]
    rows = -(-len(panels) // PANELS_A_ROW)
    columns = -(-len(panels) // rows)
    figure, axes = panels_in_rows(2.9 * rows, (1,) * columns, rows)
    for ax, panel in zip(axes, panels, strict=False):
        for key, (label, colour) in panel.lines.items():
            _curve(ax, history, key, colour, label)
            _curve(ax, later, key, colour)
        if later:
            _mark_refinement(ax, later, panel)
        low, high = ax.dataLim.intervaly
        if 0 < low < high / 30:
            ax.set_yscale("log")
        last = (later or history)[-1]["epoch"]
        ax.set(xlabel="epoch", xlim=(history[0]["epoch"] - 0.5, last + 0.5))
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        counts_on(ax.yaxis)
        headed(ax, panel.heading)
        if len(panel.lines) > 1:
            ax.legend(loc="best", **LEGEND)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return figure


def training_caption(history: Sequence[HistoryRow], refinement: Sequence[HistoryRow] = ()) -> str:
    """What ``training_curves`` of the same histories draws, and no more."""
    scores = any(key in row for row in history for key in PANELS[-1].lines)
    said = "Costs and validation scores" if scores else "Costs"
    if not refinement:
        return f"{said} by epoch of the fit."
    return (
        f"{said} by epoch. Behind the dashed line, refinement: it computes with snapped weights "
        "under widened components, so its costs do not continue the fit's. The description is what "
        "it makes short; the dot is the epoch that was kept."
        + (" It has no validation scores." if scores else "")
    )


def _panels(history: Sequence[HistoryRow], refinement: Sequence[HistoryRow]) -> list[_Panel]:
    """Those of which there is anything to draw."""
    known = {key for row in (*history, *refinement) for key in row}
    return [panel for panel in PANELS if known & set(panel.lines)]


def _curve(axes: Axes, rows: Sequence[HistoryRow], key: str, colour: str, label: str = "") -> None:
    known = [(row["epoch"], row.get(key)) for row in rows if row.get(key) is not None]
    if known:
        marker = "." if len(known) < 10 else ""
        axes.plot(*zip(*known, strict=True), color=colour, lw=1.6, marker=marker, label=label)


def _mark_refinement(axes: Axes, later: Sequence[HistoryRow], panel: _Panel) -> None:
    """A line at its border, and a dot at the epoch kept where the description is drawn."""
    axes.axvline(later[0]["epoch"] + 0.5, color=MUTED, lw=0.9, dashes=(4, 3), gid="border")
    if "description_nats" in panel.lines:
        lengths = [(row["description_nats"], row["epoch"]) for row in later]
        # The least, and the first of those that are equally long.
        nats, epoch = min((nats, epoch) for nats, epoch in lengths if nats is not None)
        axes.plot(
            epoch, nats, "o", color=RETRAINED, markersize=6, zorder=3, clip_on=False, gid="kept"
        )
