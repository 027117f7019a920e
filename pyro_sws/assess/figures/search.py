"""Pictures of a search: bytes against score, and how much each key mattered. Matplotlib."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from pyro_sws.assess.figures.style import (
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


class Importances(TypedDict):
    """Shares of a search's keys in what varies; see ``importances``. Each dict is by key."""

    evaluator: str
    trials: int
    log_bytes: dict[str, float]
    score: dict[str, float]
    log_excess: dict[str, float]


Objective = Literal["log_bytes", "score", "log_excess"]
OBJECTIVES: dict[Objective, str] = {  # as ``importances`` has them -> what a reader is told
    "log_bytes": "bytes, their logarithm",
    "score": "validation score",
    "log_excess": "bytes at matched score",
}


def frontier(
    pairs: Sequence[tuple[float, float]], front: Mapping[int, str], score_label: str
) -> Figure:
    """Trials as (bytes, score), one or more; ``front``: index -> label of those that none beats.

    Bytes are on a logarithmic axis, and so are scores that differ more than tenfold. The steps are
    what is known to be reachable: at each score the fewest bytes found at one no worse.
    """
    data = np.array(pairs, float)
    figure = blank(4.6)
    axes = figure.subplots()
    plain(axes)
    axes.set_yscale("log")
    if 0 < 10 * data[:, 1].min() < data[:, 1].max():
        axes.set_xscale("log")
    axes.scatter(data[:, 1], data[:, 0], s=18, color=TRAINED, alpha=0.7, label="complete trial")
    best = data[sorted(front, key=lambda i: pairs[i][1])].reshape(-1, 2)
    axes.step(best[:, 1], best[:, 0], where="post", color=RETRAINED, linewidth=1.4)
    axes.scatter(best[:, 1], best[:, 0], s=34, color=RETRAINED, zorder=3, label="Pareto front")
    for i, label in front.items():
        axes.annotate(
            label,
            (pairs[i][1], pairs[i][0]),
            (-4, -3),  # no trial lies there: it would beat this one
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=9,
            color=INK,
        )
    axes.set(xlabel=score_label, ylabel="file, bytes")
    for axis in (axes.xaxis, axes.yaxis):
        _numbers_on(axis)
    axes.margins(0.07)
    figure.legend(loc="outside upper right", ncols=2, **LEGEND)
    headed(axes, "The fewest bytes found at each score; trials by their numbers")
    return figure


def importance_bars(importances: Importances) -> Figure:
    """Shares by objective and key, as bars: a panel an objective, a bar a key, in one order."""
    objectives = {name: importances[name] for name in OBJECTIVES if importances[name]}
    keys = sorted({key for shares in objectives.values() for key in shares})
    if "log_excess" in objectives:
        keys.sort(key=lambda key: objectives["log_excess"].get(key, 0.0))
    height = 1.3 + 0.3 * max(len(keys), 2)
    figure = blank(height)
    panels = figure.subplots(1, max(len(objectives), 1), sharey=True, squeeze=False)[0]
    for ax, (name, shares) in zip(panels, objectives.items(), strict=False):
        _bars(ax, OBJECTIVES[name], [100 * shares.get(key, 0.0) for key in keys], keys)
    return figure


def _bars(axes: Axes, title: str, percents: Sequence[float], keys: Sequence[str]) -> None:
    plain(axes)
    axes.grid(visible=False, axis="y")
    axes.barh(range(len(keys)), percents, color=RETRAINED, height=0.6)
    for i, percent in enumerate(percents):
        axes.text(percent + 1.5, i, f"{percent:.0f}", va="center", fontsize=9, color=MUTED)
    axes.set_yticks(range(len(keys)), keys)
    axes.set(xlim=(0, 112), xlabel="importance, %")
    headed(axes, title)


def _numbers_on(axis: Axis) -> None:
    """Ticks in plain numbers, at 1, 2 and 5 of each decade where the axis is logarithmic."""
    if axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_formatter(NullFormatter())
    counts_on(axis)
