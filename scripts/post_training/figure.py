"""The picture of the post-training study: a panel a network, bytes against divergence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scripts.post_training.fronts import front
from scripts.post_training.networks import NETWORKS
from scripts.post_training.tables import NAMES, networks_of, of

COLOURS = {
    "nncodec": "tab:orange",
    "rounding": "0.5",
    "gptq": "tab:green",
    "post_training": "tab:blue",
}
COLUMNS = 3
WORST = 1.0  # nats


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Each method's front as a line."""
    networks = networks_of(rows)
    down = -(-len(networks) // COLUMNS)
    across = min(COLUMNS, len(networks))
    figure = Figure(figsize=(3.6 * across, 3.1 * down + 0.4), layout="constrained")
    for i, network in enumerate(networks):
        axes = figure.add_subplot(down, across, i + 1)
        for method, name in NAMES.items():
            _method(axes, of(rows, network, method), name, COLOURS[method])
        axes.set(xscale="log", yscale="log", title=NETWORKS[network].title)
        axes.set_ylim(1e-4, WORST)
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    figure.supxlabel("bytes of the file", fontsize=10)
    figure.supylabel("KL from the network's own predictions, nats", fontsize=10)
    figure.savefig(path, dpi=110)
    print(f"wrote {path.name}")


def _method(axes: Any, rows: Sequence[Mapping[str, Any]], name: str, colour: str) -> None:
    if not rows:
        return
    best = front(rows)
    sizes, nats = [row["bytes"] for row in best], [row["kl_nats"] for row in best]
    axes.plot(sizes, nats, ".-", color=colour, label=name, markersize=4, linewidth=1.4)
