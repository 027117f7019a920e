"""Compress the strangers' networks, each from one line, beside plain rounding.

    python scripts/strangers/strangers.py --list
    python scripts/strangers/strangers.py --names digits_demo,diabetes --seeds 0,1,2
    python scripts/strangers/strangers.py --names digits_demo --alone   # compress(net, train)
    python scripts/strangers/strangers.py --smoke --names spoken_digits_gru   # seconds, no data

Rows of the same name, seed and call in docs/results/strangers.json are replaced, all others stay.
The call has the held-out examples as validation data where there are any, but for ``--alone``. A
row has test and held-out scores of the network before and as decoded from the file. "rounding" is
the smallest file of a network whose tensors are rounded to uniform grids, without learning again,
and whose held-out score rises by no more than the stranger's tolerance. What is published was
trained on all its training data: there the first training examples stand for held-out ones.
``--smoke`` is the whole line on a few random examples, and writes nothing unless --out is given.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import pyro_sws as sws

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from pyro_sws.compression.walk.judge import standard_error
from pyro_sws.inference.batches import Batches
from pyro_sws.inference.evaluation import Evaluation, evaluate_network
from pyro_sws.inference.likelihoods import Likelihood
from scripts.shared.cells import source_of
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, earlier_rows, with_row, write_json
from scripts.strangers.networks import CACHE, STRANGERS, Stranger, unshuffled
from scripts.strangers.rounding import Rounded, smallest
from scripts.strangers.tables import strangers_table

STANDING_IN = 5000  # training examples, where none were held out
EXAMPLE = 256  # inputs on which a rewritten network is compared
NOTE = "This is of the last row; each has its own command, date and machine in the JSON."
SMOKE: dict[str, Any] = {"budget": sws.Budget(passes=2), "tolerance": 1e6}
CPU = torch.device("cpu"), torch.float32


@dataclass(frozen=True)
class Asked:
    """What the command line says of every compression."""

    data_dir: Path | None
    cache: Path
    device: str = "cpu"
    smoke: bool = False  # whether any file will do, in next to no time
    alone: bool = False  # whether the call has the training data alone
    times: float = 1.0  # the default budget


def compressed(
    net: nn.Module, stranger: Stranger, train: Batches, validation: Batches | None, **given: Any
) -> sws.Run:
    """The one line: what a user writes who knows nothing but the network and its data."""
    return sws.compress(net, train, validation=validation, likelihood=stranger.likelihood, **given)


def measured(stranger: Stranger, seed: int, asked: Asked) -> dict[str, Any]:
    """A row of the results."""
    splits = stranger.splits(asked.data_dir)
    net = stranger.trained(splits, seed, asked.data_dir, asked.cache)
    size = sum(p.numel() * p.element_size() for p in net.parameters())
    row: dict[str, Any] = {
        "name": stranger.name,
        "title": stranger.title,
        "seed": seed,
        "parameters": sum(p.numel() for p in net.parameters()),
        "parameter_bytes": size,
        "given": "train" if asked.alone or "validation" not in splits else "train, validation",
        "tolerance": stranger.tolerance,
        "data": {split: len(inputs) for split, (inputs, _) in splits.items()},
    }
    validation = unshuffled(splits["validation"]) if "validation" in splits else None
    settings = {"seed": seed, "device": asked.device, **(SMOKE if asked.smoke else {})}
    if asked.times != 1:
        row["times"] = asked.times
        settings["budget"] = budget(asked.times)
    began = time.perf_counter()
    try:
        judged = None if asked.alone else validation
        run = compressed(net, stranger, stranger.train(splits), judged, **settings)
    except (FloatingPointError, sws.CompressionFailed) as error:  # that is a result, too
        return {**row, "failed": str(error), "provenance": provenance(asked.device)}
    minutes = (time.perf_counter() - began) / 60
    test = unshuffled(splits["test"])
    inputs, targets = splits["train"]
    held_out = validation or unshuffled((inputs[:STANDING_IN], targets[:STANDING_IN]))
    decoded = run.decoded.cpu()
    rounded = rounding(net, stranger, held_out, inputs[:EXAMPLE])
    return {
        **row,
        "bytes": len(run.data),
        "ratio": size / len(run.data),
        "score": before_and_after(stranger.likelihood, net, decoded, test),
        "held_out": {
            "data": "validation" if validation else "training",
            **before_and_after(stranger.likelihood, net, decoded, held_out),
        },
        "minutes": round(minutes, 2),
        "held_to": run.report.walk,
        "frontier": frontier(run, net, stranger.likelihood, test),
        "rounding": rounded and described(rounded, net, stranger.likelihood, test, held_out),
        "warnings": list(run.report.warnings),
        "provenance": provenance(asked.device),
    }


def budget(times: float) -> sws.Budget:
    """So many times the default one."""
    own = sws.Budget()
    return sws.Budget(passes=times * (own.passes or 1), minutes=times * (own.minutes or 1))


def frontier(
    run: sws.Run, net: nn.Module, likelihood: Likelihood, test: Batches
) -> list[dict[str, Any]] | None:
    """The front of the files that were met, with their test scores."""
    if run.frontier is None:
        return None
    return [
        {
            "bytes": point.bytes,
            "score": point.score,
            "test": evaluated(sws.load(point.data, into=net), likelihood, test).score,
            "within": point.within,
            "width": round(point.width, 4),
            "passes": round(point.passes, 2),
            "seconds": round(point.seconds, 1),
        }
        for point in run.frontier.front
    ]


def rounding(
    net: nn.Module, stranger: Stranger, held_out: Batches, example: torch.Tensor
) -> Rounded | None:
    """The baseline's smallest file within the tolerance."""
    most = evaluated(net, stranger.likelihood, held_out).score + stranger.tolerance

    def good_enough(candidate: nn.Module) -> bool:
        return evaluated(candidate, stranger.likelihood, held_out).score <= most

    return smallest(net, good_enough, example)


def described(
    rounded: Rounded, net: nn.Module, likelihood: Likelihood, test: Batches, held_out: Batches
) -> dict[str, Any]:
    decoded = sws.load(rounded.data, into=net)
    return {
        "bytes": len(rounded.data),
        "levels": rounded.levels,
        "vectors": rounded.vectors,
        "score": evaluated(decoded, likelihood, test).score,
        "held_out": evaluated(decoded, likelihood, held_out).score,
    }


def before_and_after(
    likelihood: Likelihood, net: nn.Module, decoded: nn.Module, batches: Batches
) -> dict[str, Any]:
    """Scores, and the standard error of the second by the sample of examples."""
    before, after = (evaluated(each, likelihood, batches) for each in (net, decoded))
    return {
        "name": likelihood.score_name,
        "unit": likelihood.score_unit,
        "before": before.score,
        "after": after.score,
        "standard_error": standard_error(after, likelihood),
    }


def evaluated(net: nn.Module, likelihood: Likelihood, batches: Batches) -> Evaluation:
    return evaluate_network(net, likelihood, batches, CPU)


def merged(rows: Sequence[Mapping], new: Mapping) -> list[Mapping]:
    """The rows with this one in the place of that of its name, seed and call, in table order."""
    order = list(STRANGERS)
    return sorted(
        with_row(rows, new, ("name", "seed", "given")),
        key=lambda row: (order.index(row["name"]), row["given"], row["seed"]),
    )


def main() -> None:
    arguments = parsed()
    if arguments.list:
        print(listed())
        return
    torch.set_num_threads(1)
    out = arguments.out or (None if arguments.smoke else RESULTS / "strangers.json")
    rows = earlier_rows(out) if out else []
    with tempfile.TemporaryDirectory() as made:
        cache = Path(made) if arguments.smoke else arguments.cache
        device, smoke, alone = arguments.device, arguments.smoke, arguments.alone
        asked = Asked(arguments.data_dir, cache, device, smoke, alone, arguments.times)
        for seed in arguments.seeds:
            for name in arguments.names:
                stranger = STRANGERS[name].made() if arguments.smoke else STRANGERS[name]
                rows = merged(rows, measured(stranger, seed, asked))
                if out:
                    write_json(out, results(rows, arguments.device))
    found = results(rows, arguments.device)
    print(strangers_table(found, source_of(found)))


def results(rows: Sequence[Mapping], device: str) -> dict[str, Any]:
    return {"rows": rows, "_about": {**provenance(device), "note": NOTE}}


def listed() -> str:
    """A line a stranger."""
    lines = []
    for name, stranger in STRANGERS.items():
        weights = sum(p.numel() for p in stranger.structure().parameters())
        lines.append(
            f"{name:26}{weights:8,} weights  {stranger.likelihood.score_name:6}"
            f"{stranger.minutes:4} minutes  {stranger.title}"
        )
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--names", type=lambda text: text.split(","), default=list(STRANGERS), help="default: all"
    )
    parser.add_argument(
        "--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[0]
    )
    parser.add_argument("--out", type=Path, help="default: docs/results/strangers.json")
    parser.add_argument("--data-dir", type=Path, help="instead of $PYRO_SWS_DATA")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of trained networks")
    parser.add_argument("--device", default="cpu", help="of the compression")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--alone", action="store_true", help="compress(net, train), no validation")
    parser.add_argument("--times", type=float, default=1.0, help="the default budget")
    parser.add_argument("--smoke", action="store_true", help="a few random examples, two passes")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in STRANGERS]:
        parser.error(f"no stranger {', '.join(unknown)}; choose from {', '.join(STRANGERS)}")
    return arguments


if __name__ == "__main__":
    main()
