"""Picture of priors before fitting: the weights that each expects, over those that were trained."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from scipy.special import ndtr
from torch import Tensor, nn

from pyro_sws.assess.figures.style import (
    INK,
    LEGEND,
    MUTED,
    TRAINED,
    bin_edges,
    blank,
    counts_on,
    flat,
    headed,
    plain,
)
from pyro_sws.assess.prior.starting_point import StartingPoint, starting_point
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.weights.weight_prior import MixturePrior, WeightPrior

DRAWN = "#009e73"  # Okabe and Ito's green: what was drawn from a prior, and never trained
DRAWN_LABEL = "the prior at drawn hyperparameters"
# At least, where a curve is drawn by weights: a share of 1 in 100,000 is then good to a half.
WEIGHTS_A_CURVE = 400_000
DRAWS_A_CURVE = 200  # at most, of a group of few weights
PANELS = 12  # the largest groups; more would leave none of them room


def prior_figure(
    net: nn.Module,
    rules: Prior | Sequence[Rule],
    *,
    start: Mapping[str, Tensor] | None = None,
    draws: int = 8,
    seed: int = 0,
) -> Figure:
    """By group: counts of the trained weights, and those that draws of its prior would have.

    The thick curve is the density at the start, the thin ones are at hyperparameters drawn from
    their hyperpriors (see ``StartingPoint.draw``): all as the counts that are expected in the same
    bins.
    """
    model = joint(net, rules, "categorical", data_size=1, start=start)
    largest = sorted(model.groups, key=lambda name: -model.groups[name].size)[:PANELS]
    names = [name for name in model.groups if name in largest]
    figure, panels = _panels(len(names))
    with forked_rng(seed, device_dtype(model)[0]), torch.no_grad():
        values = model.start()
        for name, axes in zip(names, panels, strict=True):
            with pyro_step():
                _group(axes, starting_point(model, name, values), draws)
    handles = {label: h for panel in panels for h, label in _labelled(panel)}
    figure.legend(handles.values(), handles, loc="outside upper right", ncols=3, **LEGEND)
    left_out = len(model.groups) - len(names)
    if left_out:
        note = f"The {PANELS} largest groups; {left_out} smaller ones are not drawn"
        figure.supxlabel(note, fontsize=9, color=MUTED)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """One below the other, from four on in two columns."""
    columns = 1 if count < 4 else 2
    rows = -(-count // columns)
    height = 4.0 if count == 1 else 2.9 * rows
    figure = blank(height)
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for spare in panels[count:]:
        spare.remove()
    for panel in panels[:count]:
        plain(panel)
    return figure, panels[:count]


def _group(axes: Axes, point: StartingPoint, draws: int) -> None:
    size, trained = point.group.size, flat(point.weights)
    edges = _edges(trained, _draw_weights(point.density, size))
    counts = np.histogram(trained, edges)[0]
    axes.stairs(counts, edges, fill=True, color=TRAINED, alpha=0.55, label="the weights as given")
    heading = f"{point.group.name}: {type(point.prior).__name__}, {size:,} weights"
    if all(site.free for site in point.sites.values()):
        heading, draws = f"{heading}; it has no hyperpriors", 0
    for _ in range(draws):
        drawn = size * expected_shares(point.draw()[0], size, edges)
        axes.stairs(drawn, edges, baseline=None, color=DRAWN, lw=0.8, label=DRAWN_LABEL)
    expected = size * expected_shares(point.density, size, edges)
    axes.stairs(expected, edges, baseline=None, color=INK, lw=2, label="the prior at the start")
    lowest = float(np.clip(size / 1000, 0.1, 0.7))  # below one weight, where there are few
    axes.set(xlim=(edges[0], edges[-1]), yscale="log", ylim=(lowest, 2 * axes.dataLim.y1))
    axes.set(xlabel="weight", ylabel=f"weights per bin of {edges[1] - edges[0]:.1g}")
    counts_on(axes.yaxis)
    axes.yaxis.set_minor_formatter(NullFormatter())  # labels that a short axis would have
    headed(axes, heading)


def _labelled(axes: Axes) -> Iterator[tuple[Artist, str]]:
    return zip(*axes.get_legend_handles_labels(), strict=True)


def expected_shares(prior: WeightPrior, size: int, edges: np.ndarray) -> np.ndarray:
    """How probable each bin is, averaged over the group's weights; (bins + 1,) -> (bins,).

    Exact for a MixturePrior, and for any other a count of drawn weights.
    """
    if not isinstance(prior, MixturePrior):
        drawn = _draw_weights(prior, size)
        return np.histogram(drawn, edges)[0] / len(drawn)
    mixture, scales = prior.mixture, np.ones(1) if prior.scales is None else flat(prior.scales)
    below = np.zeros(len(edges))
    for scale, count in zip(*np.unique(scales, return_counts=True), strict=True):
        standard = (edges[:, None] / scale - flat(mixture.means)) / flat(mixture.deviations)
        below += count / len(scales) * (ndtr(standard) @ flat(mixture.proportions))
    return np.diff(below)


def _draw_weights(prior: WeightPrior, size: int) -> np.ndarray:
    repeats = min(math.ceil(WEIGHTS_A_CURVE / size), DRAWS_A_CURVE)
    return np.concatenate([flat(prior.sample(size)) for _ in range(repeats)])


def _edges(trained: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Bins over the trained weights and all but the last thousandths of the expected ones."""
    tails = np.quantile(expected, [0.001, 0.999])
    return bin_edges(np.concatenate([trained, tails]), len(trained))
