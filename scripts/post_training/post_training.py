"""Compress networks after their training, by this project's method and by others.

    python scripts/post_training/post_training.py --networks lenet_5_caffe --methods rounding,gptq
    python scripts/post_training/post_training.py --methods nncodec --nncodec ENVIRONMENT/bin/python
    python scripts/post_training/post_training.py --tables     # and the picture, from the rows

A method has the network and some inputs without labels. A file's network is compared with the
original on other inputs of the training data: mean KL divergence, in nats, and how many predictions
differ. The files that no other of the method beats in both are kept, and scored on the test data
at the end (--test for fewer examples). Every file holds the whole network. Rows of the same
network, method and setting in docs/results/post_training.json are replaced, and those that are
beaten by new ones left out. nncodec's environment: scripts/coders/nncodec.py.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.post_training.figure import draw
from scripts.post_training.fronts import front
from scripts.post_training.lines import Made
from scripts.post_training.methods import METHODS, Tools
from scripts.post_training.networks import CACHE, NETWORKS, Agreement, Case
from scripts.post_training.tables import of, post_training_tables
from scripts.shared.cells import source_of
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, earlier_rows, with_row, write_json

WORST = 1.0  # nats: a line ends there
BEST = 1e-4  # nats: nobody needs better
NOTE = "This is of the last rows; each has its own command, date and machine in the JSON."


def measured(
    network: str, method: str, case: Case, tools: Tools, tested: int | None
) -> list[dict[str, Any]]:
    """The rows of a method's files that are on the front, with test scores."""
    rows: list[Mapping[str, Any]] = []
    nets = {}
    for made, agreement in files(case, method, tools):
        row = {
            "network": network,
            "method": method,
            "setting": made.setting,
            "bytes": made.bytes,
            **agreement._asdict(),
            "seconds": round(made.seconds, 3),
            "peak_megabytes": made.peak_megabytes,
        }
        if made.predicted_nats is not None:
            row["predicted_nats"] = made.predicted_nats
        rows.append(row)
        nets[made.setting] = made.net
    before = case.test(case.net, tested)
    return [
        {
            **row,
            "test": case.test(nets[row["setting"]], tested),
            "test_before": before,
            "test_examples": tested,
            "files": len(rows),
            "provenance": provenance(),
        }
        for row in of_use(front(rows))
    ]


def of_use(best: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a front, what is not needlessly good: one such file alone."""
    good = [row for row in best if row["kl_nats"] < BEST]
    return [*good[-1:], *best[len(good) :]]


def files(case: Case, method: str, tools: Tools) -> Iterator[tuple[Made, Agreement]]:
    """A method's files, each line until its network says other things than the original."""
    for line in METHODS[method](case, tools):
        for made in line:
            agreement = case.judge.of(made.net)
            figures = f"{made.bytes:9,}  {agreement.kl_nats:.5f}"
            print(f"{method:14}{figures}  {made.setting}", flush=True)
            if not agreement.kl_nats < WORST:
                break
            yield made, agreement


def main() -> None:
    arguments = parsed()
    out = arguments.out
    torch.set_num_threads(1)
    rows = earlier_rows(out)
    tools = Tools(arguments.nncodec, arguments.ioq)
    for network in [] if arguments.tables else arguments.networks:
        case = NETWORKS[network].case(arguments.data_dir, arguments.cache)
        for method in arguments.methods:
            for row in measured(network, method, case, tools, arguments.test):
                rows = with_row(rows, row, ("network", "method", "setting"))
            rows = in_order(unbeaten(rows))
            write_json(out, results(rows))
    draw(rows, out.with_suffix(".png"))
    found = results(rows)
    print(post_training_tables(found, source_of(found)))


def unbeaten(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those on the front of their network and method."""
    pairs = dict.fromkeys((row["network"], row["method"]) for row in rows)
    return [row for pair in pairs for row in of_use(front(of(rows, *pair)))]


def in_order(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    networks, methods = list(NETWORKS), list(METHODS)
    return sorted(
        rows, key=lambda row: (networks.index(row["network"]), methods.index(row["method"]))
    )


def results(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"rows": rows, "_about": {**provenance(), "note": NOTE}}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for option, table in (("--networks", NETWORKS), ("--methods", METHODS)):
        parser.add_argument(
            option, type=lambda text: text.split(","), default=list(table), help="default: all"
        )
    parser.add_argument("--nncodec", type=Path, help="the Python of an environment with nncodec")
    parser.add_argument("--ioq", action="store_true", help="nncodec by its slow search alone")
    parser.add_argument("--test", type=int, help="test examples that are scored; default: all")
    parser.add_argument("--data-dir", type=Path, help="instead of $PYRO_SWS_DATA")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of trained networks")
    parser.add_argument("--out", type=Path, default=RESULTS / "post_training.json")
    parser.add_argument("--tables", action="store_true", help="only the tables and the picture")
    arguments = parser.parse_args()
    for option, table in (("networks", NETWORKS), ("methods", METHODS)):
        if unknown := [name for name in getattr(arguments, option) if name not in table]:
            parser.error(f"no {option} {', '.join(unknown)}; choose from {', '.join(table)}")
    return arguments


if __name__ == "__main__":
    main()
