"""The figures of Ullrich, Meeds & Welling 2017, from a finished run and from recorded trials.

    python scripts/paper/figures.py RUN --out FOLDER

Of a run: weights before and after retraining (figure 1), components over the retraining (3), and
the filters before and after compression (appendix D). Of trials: loss against ratio (2).
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

import pyro_sws as sws
from pyro_sws.assess.figures.style import counts_on, flat, headed, padded, plain
from pyro_sws.runs.run import Run
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import weights_site

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.study import TITLES

GREY, INK, SPIKE, SLAB = "#8b96a1", "#1f2933", "#d55e00", "#0072b2"
# Neighbours in value differ: Okabe and Ito's colours in turn, without grey, which is zero's.
CYCLE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
WIDTH_INCHES = 8.6
DPI = 150
POINTS = 20_000  # drawn, of the weights at zero
MOST_LOSS = 2.0  # points of error; what loses more stands on the upper edge
MARKS: dict[str, tuple[str, str, float]] = {  # of figure 2: marker, colour, size
    "trial": ("o", "#56b4e9", 6),
    "best trial": ("o", "#08306b", 9),
    "one change to it": ("D", "#009e73", 6),
    "Han et al. 2015": ("^", SPIKE, 8),
    "Guo et al. 2016": ("v", SPIKE, 8),
    "Ullrich et al. 2017": ("*", SPIKE, 13),
}


@dataclass(frozen=True)
class Shown:
    """A run's weights, flat (N,), in three states, and the mixture that they snapped to."""

    before: np.ndarray
    after: np.ndarray
    snapped: np.ndarray
    mixture: Mixture
    history: Sequence[Mapping[str, Any]]
    filters: Mapping[str, tuple[np.ndarray, np.ndarray]]  # tensor -> before, snapped


def shown(run: Run) -> Shown:
    """Of the run's first group. Snapped before units are dropped or ordered, so that they match."""
    packing = run.plan.packing
    merged = sws.merge(run.posterior, packing.merge_threshold)
    values = sws.quantize(merged, packing.codebook_dtype).dequantize()
    name, group = next(iter(merged.groups.items()))
    return Shown(
        flat(group.flatten(run.given)),
        flat(merged.point[weights_site(name)]),
        np.concatenate([values[tensor].ravel() for tensor in group.shapes]),
        merged.priors[name].mixture,
        run.history,
        {t: (run.given[t].numpy(), values[t]) for t in group.shapes if values[t].ndim > 1},
    )


def draw_run(folder: Path, out: Path, name: str) -> None:
    """Every picture that a run folder gives, as OUT/NAME_*.png."""
    found = shown(sws.Run.open(folder))
    draw_weights(out / f"{name}_weights.png", found)
    draw_training(out / f"{name}_training.png", found)
    for tensor, (before, after) in list(found.filters.items())[:2]:
        path = out / f"{name}_{tensor.removesuffix('.weight')}.png"
        if before.ndim == 4:
            draw_kernels(path, tensor, before, after)
        elif round(before.shape[1] ** 0.5) ** 2 == before.shape[1]:
            draw_units(path, tensor, before, after)


def draw_weights(path: Path, found: Shown) -> None:
    """Figure 1: each weight before and after retraining, a colour a component, and counts."""
    figure, grid = plt.subplots(
        2,
        2,
        figsize=(WIDTH_INCHES, 6.4),
        layout="constrained",
        width_ratios=(7, 1),
        height_ratios=(1, 6),
    )
    (top, corner), (axes, right) = grid
    corner.set_axis_off()
    for panel in (top, axes, right):
        plain(panel)
    scatter(axes, found)
    axes.set(xlabel="weight before retraining", ylabel="weight after retraining, not yet snapped")
    levels = len(np.unique(found.snapped))
    headed(top, f"{len(found.before):,} weights; a colour for each of {levels} values, grey for 0")
    edges = np.linspace(axes.get_xlim()[0], axes.get_xlim()[1], 140)
    top.hist(found.before, edges, color=GREY)
    edges = np.linspace(axes.get_ylim()[0], axes.get_ylim()[1], 140)
    right.hist(found.after, edges, orientation="horizontal", color=SLAB)
    top.set(yscale="log", xlim=axes.get_xlim(), ylim=(0.7, None), xticklabels=[])
    right.set(xscale="log", ylim=axes.get_ylim(), xlim=(0.7, None), yticklabels=[])
    for axis in (top.yaxis, right.xaxis):
        counts_on(axis)
    save(figure, path)


def draw_training(path: Path, found: Shown) -> None:
    """Figure 3: means over the epochs, and where the weights went, over mean +- 2 deviations."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH_INCHES, 4.6), layout="constrained", sharey=True
    )
    for panel in (left, right):
        plain(panel)
    components(left, found.history)
    held = np.unique(found.snapped)
    means, deviations = flat(found.mixture.means), flat(found.mixture.deviations)
    for j in [np.abs(means - value).argmin() for value in held]:  # values are means, rounded
        band = means[j] - 2 * deviations[j], means[j] + 2 * deviations[j]
        right.axhspan(*band, color=SPIKE if means[j] == 0 else SLAB, alpha=0.15, lw=0)
    scatter(right, found)
    right.set(xlabel="weight before retraining")
    headed(right, f"Bands: the {len(held)} components that weights snapped to")
    save(figure, path)


def components(axes: Axes, history: Sequence[Mapping[str, Any]]) -> None:
    """Means of a group's components over the epochs, the darker the larger their proportion."""
    rows = [next(iter(row["mixtures"].values())) for row in history]
    epochs = [row["epoch"] for row in history]
    means, precisions, proportions = (
        np.array([row[key] for row in rows]) for key in ("means", "precisions", "proportions")
    )
    dot = "." if len(epochs) == 1 else ""
    shares = proportions[-1] / proportions[-1][means[-1] != 0].sum()
    for j, (mean, deviation) in enumerate(zip(means.T, precisions.T**-0.5, strict=True)):
        spike = (mean == 0).all()
        colour = SPIKE if spike else SLAB
        weight = 1.0 if spike else min(1.0, 0.2 + 2 * float(shares[j]) ** 0.5)
        band = mean - 2 * deviation, mean + 2 * deviation
        axes.fill_between(epochs, *band, color=colour, alpha=0.18 * weight, lw=0)
        axes.plot(epochs, mean, color=colour, alpha=weight, lw=1.6, marker=dot)
    axes.set(xlabel="epoch", ylabel="weight", xlim=(min(epochs) - 0.5, max(epochs) + 0.5))
    headed(axes, f"The {means.shape[1]} components: mean ± 2 deviations")


def scatter(axes: Axes, found: Shown) -> None:
    """After over before, coloured by the value that a weight snapped to; grey for 0."""
    zeros = np.flatnonzero(found.snapped == 0)
    if len(zeros) > POINTS:
        zeros = np.random.default_rng(0).choice(zeros, POINTS, replace=False)
    dots(axes, found, zeros, GREY)
    for i, value in enumerate(v for v in np.unique(found.snapped) if v != 0):
        dots(axes, found, np.flatnonzero(found.snapped == value), CYCLE[i % len(CYCLE)])
    axes.set(xlim=padded(found.before), ylim=padded(found.after))
    axes.axline((0, 0), slope=1, color=INK, lw=0.7, dashes=(5, 4))
    axes.grid(visible=False)


def dots(axes: Axes, found: Shown, chosen: np.ndarray, colour: str) -> None:
    alpha = float(np.clip(3_000 / max(len(chosen), 1), 0.2, 0.8))
    axes.plot(
        found.before[chosen], found.after[chosen], ".", color=colour, ms=3, mew=0, alpha=alpha
    )


def draw_units(path: Path, name: str, before: np.ndarray, after: np.ndarray) -> None:
    """Appendix D, a dense first layer: every fifth unit's input weights, as an image each."""
    side = round(before.shape[1] ** 0.5)
    order = np.argsort(-np.count_nonzero(after, axis=1), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(60, len(order))).round().astype(int)]
    tiled = [tiles(w[chosen].reshape(-1, side, side), columns=15) for w in (before, after)]
    left = np.count_nonzero(after) / after.size
    text = f"{name}: {len(chosen)} of {len(before)} units, those with the most non-zeros first"
    draw_pair(path, tiled, (text, f"compressed: {100 * left:.1f} % non-zero"))


def draw_kernels(path: Path, name: str, before: np.ndarray, after: np.ndarray) -> None:
    """Appendix D, a convolution: a row an input channel, a column an output channel."""
    out, into = before.shape[:2]
    # A single row of channels is broken into two.
    columns = out if into > 1 else -(-out // 2)
    tiled = [
        tiles(w.transpose(1, 0, 2, 3).reshape(-1, *w.shape[2:]), columns) for w in (before, after)
    ]
    left = np.count_nonzero(after) / after.size
    what = f"{out} kernels"
    if into > 1:
        what = f"{into} rows of input, {out} columns of output channels"
    draw_pair(path, tiled, (f"{name}: {what}", f"compressed: {100 * left:.1f} % non-zero"))


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (n, h, w) in rows of ``columns``, a gap of one between them; gaps are nan."""
    n, height, width = images.shape
    lines = -(-n // columns)
    sheet = np.full((lines * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = image
    return sheet


def draw_pair(path: Path, sheets: Sequence[np.ndarray], titles: Sequence[str]) -> None:
    """Before over after, on one scale of colours around white, which is 0."""
    reach = float(np.nanquantile(np.abs(sheets[0]), 0.995))
    height = 0.9 * WIDTH_INCHES * sheets[0].shape[0] / sheets[0].shape[1]
    size = (WIDTH_INCHES, 2 * height + 0.7)
    figure, panels = plt.subplots(2, 1, figsize=size, layout="constrained")
    # Few colours: enough to read a weight by, and a third of the bytes.
    colours = plt.get_cmap("RdBu_r", 21).with_extremes(bad="#c3c9cf")
    for axes, sheet, title in zip(panels, sheets, titles, strict=True):
        image = axes.imshow(sheet, cmap=colours, vmin=-reach, vmax=reach, interpolation="nearest")
        axes.set_axis_off()
        headed(axes, title)
    bar = figure.colorbar(image, ax=panels, fraction=0.03, pad=0.01, aspect=30, shrink=0.6)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    save(figure, path)


def draw_trials(path: Path, found: Mapping[str, Any]) -> None:
    """Figure 2: points of error lost against the ratio, a dot a trial, published results beside."""
    size = (max(WIDTH_INCHES / 2 * len(found), 5), 4.6)
    figure, grid = plt.subplots(1, len(found), figsize=size, layout="constrained", squeeze=False)
    for axes, (network, part) in zip(grid[0], found.items(), strict=True):
        plain(axes)
        axes.axhline(0, color=INK, lw=0.6)
        for name, rows in kinds(part).items():
            points(axes, rows, *MARKS[name], name)
        tried = kinds(part)["trial"]
        above = sum(loss(row) > MOST_LOSS for row in tried)
        axes.set(xscale="log", ylim=(None, 1.05 * MOST_LOSS))
        axes.set_xlabel("ratio, as the paper counts it (ours: of the file's network)")
        axes.set_xticks([x for x in (5, 10, 20, 50, 100, 200, 500) if inside(axes, x)])
        axes.xaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        more = f"; {above} of {len(tried)} trials lose more" if above else ""
        headed(axes, TITLES[network] + more)
    grid[0][0].set_ylabel("points of error lost")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    save(figure, path)


def kinds(part: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """What a network's panel shows: rows by the name that its legend has for them.

    Not those that failed, or whose network collapsed into a single value.
    """
    tried, changed = (
        [row for row in part[which] if "failed" not in row and row["values"] > 1]
        for which in ("trials", "changes")
    )
    best = [row for row in tried if row["name"] == part["best_trial"]]
    shown = {"trial": tried, "best trial": best, "one change to it": changed}
    return shown | {row["method"]: [row] for row in part["published"]}


def points(
    axes: Axes, rows: Sequence[Mapping[str, Any]], marker: str, colour: str, size: float, name: str
) -> None:
    """Rows as points of one kind; those that lose more stand on the upper edge."""
    x = [row.get("ratio_paper_rewritten") or row["ratio_paper"] for row in rows]
    y = [min(loss(row), MOST_LOSS) for row in rows]
    axes.plot(x, y, marker, color=colour, ms=size, mec="white", mew=0.6, label=name)


def loss(row: Mapping[str, Any]) -> float:
    return row["error_percent"] - row["error_before_percent"]


def inside(axes: Axes, x: float) -> bool:
    low, high = axes.get_xlim()
    return low <= x <= high


def save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path, dpi=DPI)
    plt.close(figure)
    print(f"wrote {path.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--name", help="what their names begin with (default: the folder's)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    draw_run(arguments.run, arguments.out, arguments.name or arguments.run.resolve().name)


if __name__ == "__main__":
    main()
