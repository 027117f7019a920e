"""Bytes against test error: the mixture's recipes over tau, and the baselines that it must beat.

    python scripts/frontier/frontier.py run --network lenet_300_100 --part 0/2    # and 1/2
    python scripts/frontier/frontier.py collect

Methods: "mixture" is the network's recipe in models/ at several tau, widenings and epochs of
refinement; "pruned" is magnitude pruning with a mask that can come back, k-means and the same
refinement with the zeros held. Both are written by the same coder. Settings were chosen on 5,000 of
the training images (--held-out) and frozen; the points are of all 60,000 and of the test images.
"published pruned" are the networks that Guo et al. published in 2016, clustered and coded, from
docs/results/coders.json. "before the search" are both with the settings that LeNet-300-100's recipe
had until then, "augmented" both of a recipe that moves the training images. Runs are kept in
--folder; ``collect`` writes docs/results/frontier.json, in which points of other runs stay, and the
picture, and runs nothing.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.frontier.figure import draw
from scripts.frontier.magnitude_pruning import Pruning
from scripts.frontier.pruned_runs import PrunedRun
from scripts.shared.provenance import provenance
from scripts.shared.recipe_runs import Run
from scripts.shared.results import RESULTS, write_json
from scripts.shared.study import BEFORE_SEARCH, add_arguments, run_part

MODELS = Path(__file__).parents[2] / "models"
NETWORKS = {name: MODELS / f"{name}.toml" for name in ("lenet_300_100", "lenet_5_caffe")}
# Of the mixture: tau, how much wider refinement makes the components, and its epochs. The first are
# what the recipe itself says.
POINTS = {
    "lenet_300_100": (
        (0.28, 6, 60),
        (0.25, 6, 60),
        (0.5, 6, 60),
        (0.8, 9, 60),
        (1.2, 9, 60),
    ),
    "lenet_5_caffe": (
        (0.6, 5, 40),
        (0.7, 9, 80),
        (0.85, 9, 80),
        (0.4, 5, 20),
        (0.8, 5, 20),
        (0.8, 9, 20),
        (1.2, 9, 20),
        (0.3, 5, 20),
    ),
}
# Of the pruned networks, by what a point's name says of it: changes to the recipe, and options of
# the pruning. Refinement is the recipe's; on LeNet-300-100 also a trial's of search_pruned.py.
SEARCHED = (
    "refinement.epochs=60",
    "tau=0.34",
    "refinement.widening=4.0",
    "refinement.rates.weights=3.2e-3",
    "refinement.rates.means=7.7e-4",
)
Ways = dict[str, dict[str, tuple[tuple[str, ...], dict[str, Any]]]]
PRUNED: Ways = {
    "lenet_300_100": {
        "": (("refinement.epochs=60",), {}),
        ", searched": (SEARCHED, {"levels": 20, "rate": 1.5e-3}),
    },
    "lenet_5_caffe": {"": (("refinement.epochs=40",), {})},
}
DENSITIES = {  # of the pruned networks: the share of weights that is left
    "lenet_300_100": (0.018, 0.014, 0.011),
    "lenet_5_caffe": (0.009, 0.007),
}
EARLIER_POINTS = {
    "lenet_300_100": (
        (0.2, 5, 30),
        (0.3, 5, 30),
        (0.4, 5, 30),
        (0.4, 5, 100),
        (0.6, 5, 30),
        (0.5, 9, 30),
        (0.8, 9, 30),
        (1.2, 9, 30),
    )
}
EARLIER_PRUNED_SETS = ("refinement.epochs=30", "refinement.widening=5.0", *BEFORE_SEARCH)
EARLIER_PRUNED: Ways = {"lenet_300_100": {"": (EARLIER_PRUNED_SETS, {})}}
# Recipes whose training images are moved, and their points; their baseline is as the others'.
AUGMENTED = {"lenet_5_caffe": MODELS / "augmented" / "lenet_5_caffe.toml"}
AUGMENTED_POINTS = {"lenet_5_caffe": ((0.8, 5, 40),)}
# By method: recipes and points by network; more changes to the recipe, or nothing.
MIXTURES: dict[str, tuple[dict[str, Path], Mapping[str, Any], tuple[str, ...]]] = {
    "mixture": (NETWORKS, POINTS, ()),
    "mixture, before the search": (NETWORKS, EARLIER_POINTS, BEFORE_SEARCH),
    "mixture, augmented": (AUGMENTED, AUGMENTED_POINTS, ()),
}
BASELINES: dict[str, tuple[dict[str, Path], Ways]] = {
    "pruned": (NETWORKS, PRUNED),
    "pruned, before the search": (NETWORKS, EARLIER_PRUNED),
    "pruned, augmented": (AUGMENTED, PRUNED),
}
METHODS = *MIXTURES, *BASELINES
NOW = "mixture", "pruned"
OF_SOME = "pruning", "code_bits", "provenance"
PUBLISHED = "published pruned"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["run", "collect"])
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument(
        "--method", nargs="+", choices=METHODS, help="default: all; to run, mixture and pruned"
    )
    parser.add_argument("--names", nargs="+", help='only these points, such as "density 0.011"')
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--held-out", action="store_true", help="score on held-out images")
    add_arguments(parser, Path("runs/frontier"), RESULTS / "frontier.json")
    arguments = parser.parse_args()
    arguments.method = arguments.method or (NOW if arguments.stage == "run" else METHODS)
    if arguments.stage == "run":
        names = arguments.names
        known = {run.name for _, run in runs(arguments)}
        if unknown := set(names or ()) - known:
            parser.error(f"no points {sorted(unknown)}; there are {sorted(known)}")
        run_part((run for _, run in runs(arguments) if not names or run.name in names), arguments)
    elif arguments.held_out:
        parser.error("the frontier is of the test images: collect without --held-out")
    else:
        points = *kept(arguments), *collected(arguments), *published(RESULTS / "coders.json")
        found = [{**point, "is_recipe": is_recipe(point)} for point in points]
        write_json(arguments.out, {"points": found, "_about": provenance()})
        draw(found, arguments.out.with_suffix(".png"))


def runs(arguments: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    """Method and run, seed by seed."""
    for seed in arguments.seeds:
        for network in arguments.network:
            for method in arguments.method:
                for run in of_method(method, network, seed, arguments.held_out):
                    yield method, run


def of_method(method: str, network: str, seed: int, held: bool) -> Iterator[Run]:
    """Its runs of a network; none where the method has no recipe or no settings for that."""
    if method in MIXTURES:
        recipes, points, more = MIXTURES[method]
        for tau, widening, epochs in points.get(network, ()):
            wide = f"refinement.widening={float(widening)}"
            sets = f"tau={tau}", wide, f"refinement.epochs={epochs}", *more
            yield Run(recipes[network], point_name(tau, widening, epochs), sets, seed, held)
        return
    recipes, ways = BASELINES[method]
    own = ways.get(network, {}) if network in recipes else {}
    for way, (sets, options) in own.items():
        for density in DENSITIES[network]:
            pruning = Pruning(density, **options)
            yield PrunedRun(
                recipes[network], f"density {density}{way}", sets, seed, held, pruning=pruning
            )


def point_name(tau: float, widening: int, epochs: int) -> str:
    return f"tau {tau}, widening {widening}, {epochs} epochs"


def kept(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The points that are there already, but for those that were collected again."""
    if not arguments.out.exists():
        return []
    keys = ("network", "method", "name", "seed")
    again = {tuple(point[key] for key in keys) for point in collected(arguments)}
    points = json.loads(arguments.out.read_text())["points"]
    points = [point for point in points if point["method"] != PUBLISHED]
    return [point for point in points if tuple(point[key] for key in keys) not in again]


def collected(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A point a run, of those that were run."""
    return [
        {
            "network": run.network,
            "method": method,
            "recipe": run.recipe.relative_to(MODELS.parent).as_posix(),
            "name": row["name"],
            "changes": row["changes"],
            "seed": row["seed"],
            "bytes": row["file_bytes"],
            "test_error_percent": row["error_percent"],
            "trained_error_percent": row["error_before_percent"],
            "nonzero_percent": row["nonzero_percent"],
            "cpu_seconds": row["cpu_seconds"],
            # Of runs since 2026-11-29, and of one method or the other alone.
            **{key: row[key] for key in OF_SOME if key in row},
        }
        for method, run in runs(arguments)
        if (row := run.kept(arguments.folder)) and "failed" not in row
    ]


def is_recipe(point: Mapping[str, Any]) -> bool:
    """Whether its settings are its network's recipe's own."""
    _, points, more = MIXTURES.get(point["method"], (None, {}, ()))
    own = points.get(point["network"], ())[:1]
    return not more and point["name"] in [point_name(*settings) for settings in own]


def published(coders: Path) -> list[dict[str, Any]]:
    """The points of pruned networks that others published, from the benchmark of the coders."""
    found = json.loads(coders.read_text())
    return [
        {
            "network": network,
            "method": PUBLISHED,
            "recipe": None,
            "name": f"Guo et al. 2016, {name.rpartition('_')[2]} values",
            "changes": [],
            "seed": None,
            "bytes": row["context"]["bytes"],
            "test_error_percent": row["context"]["test_error_percent"],
            "trained_error_percent": None,
            "nonzero_percent": 100 * row["context"]["nonzero"] / row["weights"],
        }
        for network in NETWORKS
        for name, row in found.items()
        if name.startswith(f"{network}_pruned_")
    ]


if __name__ == "__main__":
    main()
