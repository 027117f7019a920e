"""Table 1 of Ullrich, Meeds & Welling 2017 and their figures, with the paper's method.

    python scripts/paper/reproduce.py --trials     # over what they left open; held-out images
    python scripts/paper/reproduce.py --changes    # single changes to the best trial; the same
    python scripts/paper/reproduce.py              # the table's rows, on the test images
    python scripts/paper/reproduce.py --collect    # writes what was run, and runs nothing

The method: their prior, merging and most probable components, biases with the weights, nothing
retrained after snapping. Runs are kept in --folder and not run again; with --part i/n, n processes
share them. The table's rows are the paper's own settings, the best trial, the best of those within
the paper's error, and the best change: of what is in --folder, or else on record in
docs/results/paper.json. The last two commands write that, and the pictures in docs/results/paper;
with --animate a film of each network's retraining, too, for which its fit is run once more. A row
has both accountings: CSR and Huffman codes as the paper counts them, and every byte of the file.
The file is of the rewritten network, without units that do nothing; the paper drops weights alone,
so what its count gives for that network is a ratio of its own.

All trials of a network share a start: its recipe's own pre-training, on the images that are not
held out (which comes out otherwise on another kind of CPU), or a published network (--start
lenet_5_caffe=FILE), which has seen those, too.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.paper.animation import animate
from scripts.paper.figures import draw_run, draw_trials
from scripts.paper.settings import CHANGES, NETWORKS, PART_OF_THE_PRIOR, PUBLISHED, SOURCE, TRIALS
from scripts.shared.provenance import provenance
from scripts.shared.recipe_runs import Run
from scripts.shared.results import RESULTS, write_json
from scripts.shared.study import add_arguments, run_part

# What a point of error is worth in log ratio: about what files of this prior show around the
# paper's errors, 1.2 at 2 %; at half that error a point is twice as much of it.
LOG_RATIO_A_POINT = {"lenet_300_100": 1.2, "lenet_5_caffe": 2.4}
PAPERS = "the paper's settings"
NOTE = (
    "Trials and changes: errors on 5,000 training images held out, standard error 0.20 points at "
    "2 %, one seed, the prior estimated at every step from a 64th of the weights; rows: on the "
    "10,000 test images, 0.14 points, under the whole prior. The paper drops weights alone; a file "
    "is of the network without the units that do nothing then, whose ratio stands as rewritten."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", type=_network, default=list(NETWORKS))
    stage = parser.add_mutually_exclusive_group()
    stage.add_argument("--trials", action="store_true", help="run the trials")
    stage.add_argument("--changes", action="store_true", help="run single changes to the best")
    stage.add_argument("--collect", action="store_true", help="only write what was run")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="of the table's rows")
    parser.add_argument(
        "--start",
        action="append",
        type=_start,
        default=[],
        metavar="NETWORK=FILE",
        help="safetensors that all its runs start from, instead of pre-training",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--animate", action="store_true", help="draw the film, too")
    add_arguments(parser, Path("runs/paper"), RESULTS / "paper.json")
    arguments = parser.parse_args()
    if not arguments.collect:
        run_part(runs(arguments), arguments)
    if not (arguments.trials or arguments.changes):
        # What the other networks gave stays.
        before = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
        found = {**before, **collected(arguments)}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.out, found)
        draw(found, arguments)


def runs(arguments: argparse.Namespace) -> Iterator[Run]:
    """What the chosen stage has to run."""
    for network in arguments.networks:
        if arguments.trials:
            yield from trials(network, arguments)
        elif arguments.changes:
            found = changes(network, arguments)
            if not found:
                sys.exit(f"{network}: changes are to the best trial; run all --trials first")
            yield from found
        else:
            yield from (run for _, run in rows(network, arguments))


def trials(network: str, arguments: argparse.Namespace) -> list[Run]:
    return [made(network, name, sets, arguments) for name, sets in TRIALS[network].items()]


def changes(network: str, arguments: argparse.Namespace) -> list[Run]:
    """Each change to the best trial; none before all trials were run."""
    trial = best(trials(network, arguments), arguments)
    if trial is None:
        return []
    return [
        made(network, f"{trial.name}; {name}", (*trial.changes, *sets), arguments)
        for name, sets in CHANGES.items()
    ]


def rows(network: str, arguments: argparse.Namespace) -> Iterator[tuple[str, Run]]:
    """Which of the table's rows a run is, and the run: a frozen choice, on all training images.

    Under the whole prior at every step, as in the paper.
    """
    tried = trials(network, arguments)
    chosen = {
        "paper": Run(NETWORKS[network], PAPERS),
        "within": best(tried, arguments, within=PUBLISHED[network][-1]["error_percent"]),
        "trial": best(tried, arguments),
        "change": best(changes(network, arguments), arguments),
    }
    if chosen["within"] == chosen["trial"]:
        del chosen["within"]
    for variant, run in chosen.items():
        if run is None:
            continue
        for seed in arguments.seeds:
            sets = tuple(change for change in run.changes if change != PART_OF_THE_PRIOR)
            yield variant, made(network, run.name, sets, arguments, seed, held_out=False)


def made(
    network: str,
    name: str,
    sets: tuple[str, ...],
    arguments: argparse.Namespace,
    seed: int = 0,
    held_out: bool = True,
) -> Run:
    start = dict(arguments.start).get(network)
    return Run(NETWORKS[network], name, sets, seed, held_out, start, arguments.device)


def best(
    candidates: Sequence[Run], arguments: argparse.Namespace, within: float = math.inf
) -> Run | None:
    """The run of the best row, once all of them were run; none of those that failed.

    Of those with at most ``within`` percent of errors, if there are any.
    """
    found = {run: row for run in candidates if (row := known(run, arguments))}
    whole = {
        run: row for run, row in found.items() if finished(row) and row["error_percent"] <= within
    }
    if len(found) < len(candidates) or not whole:
        return None
    return max(whole, key=lambda run: merit(whole[run]))


def known(run: Run, arguments: argparse.Namespace) -> dict[str, Any] | None:
    """What it gave, if it was run: as --folder has it, else as --out has it on record."""
    on_record, own = recorded(arguments.out, run.network), run.settings.items()
    rows = (row for row in on_record if own <= row.items())
    return run.kept(arguments.folder) or next(rows, None)


def recorded(out: Path, network: str) -> Iterator[dict[str, Any]]:
    part = json.loads(out.read_text()).get(network, {}) if out.exists() else {}
    for kind in ("rows", "trials", "changes"):
        for row in part.get(kind, ()):
            yield {key: value for key, value in row.items() if key != "variant"}


def finished(row: Mapping[str, Any] | None) -> bool:
    return row is not None and "failed" not in row


def merit(row: Mapping[str, Any]) -> float:
    """About the logarithm of the ratio, as the paper counts it, at one error.

    Of the network in the file: of most trials on record there is no other ratio.
    """
    return (
        math.log(row["ratio_paper_rewritten"])
        - LOG_RATIO_A_POINT[row["network"]] * row["error_percent"]
    )


def collected(arguments: argparse.Namespace) -> dict[str, Any]:
    """{network: the published rows, ours, the trials, the changes, and which of both is best}.

    Rows of other seeds than are asked for stay, if they are on record.
    """
    found: dict[str, Any] = {}
    for network in arguments.networks:
        tried, changed = trials(network, arguments), changes(network, arguments)
        seeds = {*arguments.seeds, *(row["seed"] for row in recorded(arguments.out, network))}
        every = argparse.Namespace(**{**vars(arguments), "seeds": sorted(seeds)})
        measured = [(variant, known(run, every)) for variant, run in rows(network, every)]
        found[network] = {
            "published": PUBLISHED[network],
            "rows": [{"variant": variant, **row} for variant, row in measured if row],
            "trials": all_known(tried, arguments),
            "best_trial": getattr(best(tried, arguments), "name", None),
            "changes": all_known(changed, arguments),
            "best_change": getattr(best(changed, arguments), "name", None),
        }
    return {**found, "_about": {**provenance(), "published": SOURCE, "note": NOTE}}


def all_known(candidates: Sequence[Run], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [row for run in candidates if (row := known(run, arguments))]


def draw(found: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    """The pictures: of all trials, and of the best run of the paper's method of each network."""
    folder = arguments.out.parent / "paper"
    folder.mkdir(parents=True, exist_ok=True)
    tried = {name: found[name] for name in NETWORKS if found.get(name, {}).get("trials")}
    if tried:
        draw_trials(folder / "trials.png", tried)
    for network in arguments.networks:
        candidates = [run for variant, run in rows(network, arguments) if variant != "change"]
        whole = [run for run in candidates if finished(known(run, arguments))]
        if whole and (shown := whole[-1]).kept(arguments.folder):
            draw_run(shown.path(arguments.folder), folder, network)
            if arguments.animate:
                film = folder / f"{network}.gif"
                animate(shown.path(arguments.folder), film, arguments.data_dir)


def _network(name: str) -> str:
    if name not in NETWORKS:
        raise argparse.ArgumentTypeError(f"{name!r}: choose from {', '.join(NETWORKS)}")
    return name


def _start(word: str) -> tuple[str, str]:
    name, _, file = word.partition("=")
    if not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"{word!r}: give NETWORK=FILE, with a file that is there")
    return _network(name), file


if __name__ == "__main__":
    main()
