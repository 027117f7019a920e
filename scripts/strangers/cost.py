"""Time a walk beside plain training of as many passes, on the strangers' networks and data.

    python scripts/strangers/cost.py                     # writes docs/results/walk_cost.json
    python scripts/strangers/cost.py --smoke             # seconds, on made data; prints only

Both go through the same training batches, one after the other, in turn for ``--rounds``. A walk's
time has its measuring in it: each file encoded and scored; not the setting up and the packing of
the file that comes back. Plain training is the library's own pre-training: Adam on the likelihood.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

import pyro_sws as sws

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from pyro_sws.compression.pretrain import Pretraining, pretrain
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json
from scripts.shared.timing import interleaved
from scripts.strangers.networks import CACHE, STRANGERS, Stranger, unshuffled

NAMES = ("digits_demo", "spoken_digits_cnn", "lenet_300_100")


def cost(stranger: Stranger, passes: int, rounds: int, data: Path | None, cache: Path) -> Any:
    """Seconds of both, by round, and the median of their ratios."""
    splits = stranger.splits(data)
    net = stranger.trained(splits, 0, data, cache)
    train, validation = stranger.train(splits), unshuffled(splits["validation"])
    files: list[int] = []

    def trained() -> list[float]:
        began = time.perf_counter()
        pretrain(net, train, stranger.likelihood, Pretraining(epochs=passes))
        return [time.perf_counter() - began]

    def walked() -> list[float]:
        run = sws.compress(
            net,
            train,
            validation=validation,
            likelihood=stranger.likelihood,
            tolerance=1e6,  # no file is refused
            budget=sws.Budget(passes=passes, minutes=None),
        )
        assert run.frontier is not None
        files.append(len(run.frontier))
        return [run.report.seconds["walk"] * passes / run.frontier[-1].passes]

    seconds = interleaved({"training": trained, "walk": walked}, rounds)
    ratios = [w / t for w, t in zip(seconds["walk"], seconds["training"], strict=True)]
    return {
        "name": stranger.name,
        "title": stranger.title,
        "passes": passes,
        "files": files,
        "seconds": {way: [round(s, 2) for s in times] for way, times in seconds.items()},
        "ratio": round(median(ratios), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", type=lambda text: text.split(","), default=NAMES)
    parser.add_argument("--passes", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=RESULTS / "walk_cost.json")
    parser.add_argument("--smoke", action="store_true", help="made data, two passes, one round")
    given = parser.parse_args()
    torch.set_num_threads(1)
    passes, rounds = (2, 1) if given.smoke else (given.passes, given.rounds)
    rows = []
    for name in given.names:
        stranger = STRANGERS[name].made() if given.smoke else STRANGERS[name]
        rows.append(cost(stranger, passes, rounds, given.data_dir, given.cache))
        print(f"{name}: {rows[-1]['ratio']} times as long as training, {rows[-1]['seconds']}")
    if not given.smoke:
        write_json(given.out, {"rows": rows, "_about": provenance("cpu")})


if __name__ == "__main__":
    main()
