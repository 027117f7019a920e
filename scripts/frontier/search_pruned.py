"""The baseline's settings, searched as LeNet-300-100's were: as many trials, the same sampler.

    python scripts/frontier/search_pruned.py --trials 60     # on 5,000 training images held out
    python scripts/frontier/search_pruned.py --trials 0      # writes what was found, runs nothing

A trial is magnitude pruning, k-means and refinement at settings that the sampler chooses, for few
bytes and a low held-out error. It has the epochs of a trial of the recipe's own search: those of
its fit become the pruning's. Called again it adds trials, and several processes may at once. What
was found goes to docs/results/search/pruned.json, and a picture of it beside the recipe's search.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from pyro_sws.recipes.search_table import Range, SearchSettings
from pyro_sws.tuning import study as search_study
from pyro_sws.tuning.pareto import pareto_front

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.frontier.figure import COLOURS
from scripts.frontier.magnitude_pruning import Pruning
from scripts.frontier.pruned_runs import PrunedRun
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json

OWN = RESULTS / "search" / "search.json"  # the recipe's own search
RECIPE = Path(__file__).parents[2] / "models" / "lenet_300_100.toml"
PRUNING_EPOCHS, REFINEMENT_EPOCHS = 4, 8
# Keys of the pruning, and paths of the recipe: what its own search varies, too, has its range.
SETTINGS = SearchSettings(
    space={
        "pruning.density": Range(0.004, 0.04, log=True),
        "pruning.levels": Range(4, 32),
        "pruning.rate": Range(3e-4, 1e-2, log=True),
        "tau": Range(0.1, 2.0, log=True),
        "refinement.widening": Range(2.0, 12.0, log=True),
        "refinement.rates.weights": Range(5e-4, 5e-3, log=True),
        "refinement.rates.means": Range(2e-4, 4e-3, log=True),
    },
    worst_score=6.0,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--data-dir", help="folder with the data")
    parser.add_argument("--folder", type=Path, default=Path("runs/search-pruned"))
    parser.add_argument("--out", type=Path, default=RESULTS / "search" / "pruned.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    storage = str(arguments.folder / "study.log")
    study = search_study.open_study("pruned", storage, SETTINGS, {"recipe": RECIPE.name})
    for _ in range(arguments.trials):
        trial, params = search_study.ask(study, SETTINGS)
        row = run(trial.number, params).row(arguments.folder, arguments.data_dir)
        if "failed" in row:
            search_study.fail(study, trial, FloatingPointError(row["failed"]))
        else:
            pair = row["file_bytes"], row["error_percent"]
            search_study.complete(study, trial, SETTINGS, pair)
        print(f"trial {trial.number}: {row}", flush=True)
    pruned = found(study)
    if not pruned["trials"]:
        sys.exit(f"{storage} has no trials; make some by --trials 60")
    write_json(arguments.out, pruned)
    searches = {"mixture": json.loads(OWN.read_text()), "pruned": pruned}
    draw(searches, arguments.out.with_suffix(".png"))


def run(number: int, params: Mapping[str, Any]) -> PrunedRun:
    """A trial's run, on held-out images."""
    own = {path.partition(".")[2]: v for path, v in params.items() if path.startswith("pruning.")}
    changes = [f"{path}={v}" for path, v in params.items() if not path.startswith("pruning.")]
    sets = (f"refinement.epochs={REFINEMENT_EPOCHS}", *changes)
    pruning = Pruning(**own, epochs=PRUNING_EPOCHS)
    return PrunedRun(RECIPE, f"trial {number}", sets, held_out=True, pruning=pruning)


def found(study: Any) -> dict[str, Any]:
    """The trials, and the numbers of those that none beats in both, by rising bytes."""
    trials = [trial.to_dict() for trial in search_study.trials_of(study, SETTINGS)]
    pairs = useful(trials)
    numbers = list(pairs)
    return {
        "trials": trials,
        "front": [numbers[i] for i in pareto_front(list(pairs.values()))],
        "_about": provenance(),
    }


def draw(searches: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Bytes and held-out error of each search's useful trials, and lines through the fronts."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    for method, search in searches.items():
        pairs, colour = useful(search["trials"]), COLOURS[method]
        for size, error in pairs.values():
            axes.plot(size, error, ".", color=colour, alpha=0.4)
        sizes, errors = ([pairs[number][i] for number in search["front"]] for i in (0, 1))
        axes.plot(sizes, errors, "-", color=colour, label=f"{method}, best trials")
    axes.set(xscale="log", xlabel="bytes", ylabel="held-out error, %")
    ticks = 1000, 2000, 5000, 10_000
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def useful(trials: Sequence[Mapping[str, Any]]) -> dict[int, tuple[int, float]]:
    """Bytes and score by trial, of those that came to their end with a network worth having."""
    return {
        trial["number"]: (trial["file_bytes"], trial["score"])
        for trial in trials
        if trial["state"] == "complete" and trial["score"] <= SETTINGS.worst_score
    }


if __name__ == "__main__":
    main()
