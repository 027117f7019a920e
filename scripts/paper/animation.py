"""The retraining as a film: the weights' histogram and the mixture over it, epoch by epoch.

    python scripts/paper/animation.py RUN --out FILE.gif

A fit's callback is given the mixture, not the weights; but a guide can be read by who made it. So
the run's fit is run once more, from its own start, recipe and seed, through ``joint``,
``delta_guide`` and ``fit``, and after each epoch the weights in the guide are counted. The counts
are kept in the run folder.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.animation import PillowWriter

import pyro_sws as sws
from pyro_sws.assess.figures.style import (
    LEGEND,
    counts_on,
    draw_density,
    flat,
    headed,
    padded,
    plain,
)
from pyro_sws.files import write_whole
from pyro_sws.inference.batches import Batches
from pyro_sws.inference.fit import posterior_at
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import named_parts
from pyro_sws.runs.inputs import given_network, load_data, training_batches
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import weights_site

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.paper.figures import GREY, SLAB, plt

BINS = 161
MOST_FRAMES = 50
FRAMES_A_SECOND = 8
LAST = 12  # frames for which the end stands still
DPI = 100
FIELDS = "means", "precisions", "proportions"


def animate(folder: Path, path: Path, data_dir: str | None = None) -> None:
    """Draw the film of a run to a GIF."""
    kept = folder / "frames.json"
    if not kept.exists():
        write_whole(kept, json.dumps(frames(folder, data_dir)) + "\n")
    draw_film(path, json.loads(kept.read_text()))


def frames(folder: Path, data_dir: str | None = None) -> list[dict[str, Any]]:
    """Edges, counts and mixture of a run's first group, before the first epoch and after each."""
    run, plan = sws.Run.open(folder), read_recipe(folder / "recipe.toml")
    _, data = named_parts(plan)
    train = training_batches(data, load_data(data, data_dir), data.batch_size)
    assert isinstance(train, Batches)  # of models/data.py
    model = plan.joint(given_network(plan, run.given), len(train.inputs))
    guide = sws.delta_guide(model)
    name = next(iter(model.groups))
    start = model.start()
    low, high = padded(flat(start[weights_site(name)]))
    edges = np.linspace(low, high, BINS)

    def frame(epoch: int, weights: torch.Tensor, mixture: Mapping[str, Any]) -> dict[str, Any]:
        counts = np.histogram(flat(weights), edges)[0].tolist()
        return {"epoch": epoch, "edges": edges.tolist(), "counts": counts, **mixture}

    mixture = posterior_at(model, start).priors[name].mixture
    fields = {field: getattr(mixture, field).tolist() for field in FIELDS}
    found = [frame(0, start[weights_site(name)], fields)]
    sws.fit(
        model,
        guide,
        train,
        plan.fit,
        seed=plan.seed,
        callback=lambda told: found.append(
            frame(told.done, guide.median()[weights_site(name)], told.row["mixtures"][name])
        ),
    )
    return found


def draw_film(path: Path, found: Sequence[Mapping[str, Any]]) -> None:
    """At most so many frames, evenly spaced, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(found) - 1, MOST_FRAMES).round().astype(int))
    figure, axes = plt.subplots(figsize=(7.6, 4.2), layout="constrained")
    writer = PillowWriter(fps=FRAMES_A_SECOND)
    with writer.saving(figure, path, DPI):
        for i in [*chosen, *[chosen[-1]] * LAST]:
            draw_frame(axes, found[i], found[0])
            writer.grab_frame()
    plt.close(figure)
    print(f"wrote {path.name}")


def draw_frame(axes: plt.Axes, frame: Mapping[str, Any], first: Mapping[str, Any]) -> None:
    axes.clear()
    plain(axes)
    edges, weights = np.array(frame["edges"]), sum(first["counts"])
    axes.stairs(frame["counts"], edges, fill=True, color=SLAB, alpha=0.25, label="weights")
    axes.stairs(first["counts"], edges, color=GREY, lw=1.2, label="before retraining")
    mixture = Mixture(*(torch.tensor(frame[field], dtype=torch.float64) for field in FIELDS))
    draw_density(axes, mixture, weights, edges)
    axes.set(xlim=(edges[0], edges[-1]), yscale="log", ylim=(0.7, 3 * weights))
    axes.set(xlabel="weight", ylabel="weights a bin")
    counts_on(axes.yaxis)
    headed(axes, f"epoch {frame['epoch']}")
    axes.legend(loc="upper right", **LEGEND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run folder")
    parser.add_argument("--out", type=Path, required=True, help="the GIF")
    parser.add_argument("--data-dir", help="folder with the data")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    animate(arguments.run, arguments.out, arguments.data_dir)


if __name__ == "__main__":
    main()
