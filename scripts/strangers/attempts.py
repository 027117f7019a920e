"""Networks and data that an earlier default destroyed, each compressed by ``compress(net, train)``.

    python scripts/strangers/attempts.py              # writes docs/results/attempts.json
    python scripts/strangers/attempts.py --list
    python scripts/strangers/attempts.py --names wine    # in place of its row, all others stay
    python scripts/strangers/attempts.py --smoke      # seconds, on made data; prints only

A fit of fixed length, snapped at its end, had left of these networks what "then" says (test score
before, and of the decoded file). Data that is not there is left out, and said.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import pyro_sws as sws

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from models.lenet import lenet_5_caffe, lenet_300_100
from models.mlp import digits_mlp, perceptron
from models.spoken_cnn import spectrogram_cnn, spoken_cnn
from models.spoken_digits import BANDS, FRAMES
from pyro_sws.compression.pretrain import Pretraining
from scripts.shared.cells import source_of
from scripts.shared.made import labelled
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, earlier_rows, with_row, write_json
from scripts.strangers.data import digits, fashion_mnist, mnist, spoken, wine
from scripts.strangers.networks import CACHE, IMAGE, Stranger, unshuffled
from scripts.strangers.strangers import NOTE, SMOKE, before_and_after
from scripts.strangers.tables import attempts_table

FEW = 10_000  # training images of the attempt that had no more


@dataclass(frozen=True)
class Attempt:
    """A network, how its training data is given, and what had come back."""

    stranger: Stranger
    then: str
    one_batch: bool = False  # a list of one pair
    examples: int | None = None  # of the training data; None: all

    def train(self, splits: Any) -> Iterable:
        inputs, targets = (part[: self.examples] for part in splits["train"])
        if self.one_batch:
            return [(inputs, targets)]
        return sws.Batches(inputs, targets, self.stranger.batch_size)


QUICK = Pretraining(epochs=40, batch_size=32)
_mlp = partial(
    Stranger,
    read=partial(digits, validation=0),
    make=partial(labelled, (64,), 10),
    pretraining=QUICK,
)
_spoken = partial(
    Stranger,
    read=spoken,
    make=partial(labelled, (BANDS, FRAMES), 10),
    pretraining=Pretraining(epochs=30, batch_size=32),
    batch_size=32,
)

ATTEMPTS = (
    Attempt(
        _mlp("digits_128", "MLP 64-128-10, digits", partial(perceptron, (64, 128, 10))),
        "5.00 -> 56.67, 85.83 and 72.78 % by three settings",
    ),
    Attempt(
        _mlp("digits_one_batch", "MLP 64-32-10, one batch", partial(perceptron, (64, 32, 10))),
        "6.11 -> 23.89 %",
        one_batch=True,
    ),
    Attempt(
        _mlp("digits_recipe", "MLP 64-300-100-10, digits", partial(digits_mlp, dropout=0.2)),
        "5.56 -> 92.50 % in 4 + 4 epochs",
    ),
    Attempt(
        _spoken("spectrogram", "2-D CNN with batch norm, spoken digits", spectrogram_cnn),
        "4.67 -> 90.00 and 61.00 % by two settings",
    ),
    Attempt(
        _spoken("log_mel", "1-D CNN with batch norm, spoken digits", spoken_cnn),
        "0.67 -> 90.00 % by two settings",
    ),
    Attempt(
        Stranger(
            "lenet_5_few",
            "LeNet-5, published, 10,000 images",
            lenet_5_caffe,
            partial(mnist, input_scale=256.0),
            partial(labelled, IMAGE, 10),
            pretraining=None,
            published="lenet5-caffe.safetensors",
        ),
        "0.86 -> 90.20 %",
        examples=FEW,
    ),
    Attempt(
        Stranger(
            "wine",
            "MLP 13-32-3, wine",
            partial(perceptron, (13, 32, 3)),
            wine,
            partial(labelled, (13,), 3),
            pretraining=Pretraining(epochs=40, batch_size=16),
            batch_size=16,
        ),
        "6.9 -> 69.0 %",
    ),
    Attempt(
        Stranger(
            "fashion",
            "LeNet-300-100, Fashion-MNIST",
            lenet_300_100,
            fashion_mnist,
            partial(labelled, IMAGE, 10),
            pretraining=Pretraining(epochs=20),
        ),
        "10.32 -> 12.45 and 12.75 % by two settings",
    ),
)


def measured(attempt: Attempt, data: Path | None, cache: Path, smoke: bool) -> dict[str, Any]:
    """A row of the results."""
    stranger = attempt.stranger.made() if smoke else attempt.stranger
    row: dict[str, Any] = {"name": stranger.name, "title": stranger.title, "then": attempt.then}
    try:
        splits = stranger.splits(data)
    except (FileNotFoundError, OSError) as error:
        return {**row, "left_out": str(error)}
    net: nn.Module = stranger.trained(splits, 0, data, cache)
    began = time.perf_counter()
    try:
        run = sws.compress(net, attempt.train(splits), **(SMOKE if smoke else {}))
    except (FloatingPointError, sws.CompressionFailed) as error:
        return {**row, "failed": str(error)}
    assert run.frontier is not None
    chosen, size = run.frontier.smallest(), sum(4 * p.numel() for p in net.parameters())
    return {
        **row,
        "bytes": len(run.data),
        "ratio": size / len(run.data),
        "score": before_and_after(
            stranger.likelihood, net, run.decoded.cpu(), unshuffled(splits["test"])
        ),
        "judged": {
            "reference": run.frontier.reference,
            "score": chosen.score,
            "tolerance": run.frontier.tolerance,
        },
        "minutes": round((time.perf_counter() - began) / 60, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--names", type=lambda text: text.split(","), help="default: all")
    parser.add_argument("--smoke", action="store_true", help="made data, two passes; prints only")
    parser.add_argument("--data-dir", type=Path, help="instead of $PYRO_SWS_DATA")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of trained networks")
    parser.add_argument("--out", type=Path, default=RESULTS / "attempts.json")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(f"{a.stranger.name:20}{a.stranger.title}: {a.then}" for a in ATTEMPTS))
        return
    torch.set_num_threads(1)
    rows = [] if arguments.smoke else earlier_rows(arguments.out)
    with tempfile.TemporaryDirectory() as made:
        cache = Path(made) if arguments.smoke else arguments.cache
        for attempt in ATTEMPTS:
            if arguments.names and attempt.stranger.name not in arguments.names:
                continue
            row = measured(attempt, arguments.data_dir, cache, arguments.smoke)
            rows = with_row(rows, {**row, "provenance": provenance("cpu")}, ("name",))
            found = {"rows": rows, "_about": {**provenance("cpu"), "note": NOTE}}
            if not arguments.smoke:
                write_json(arguments.out, found)
    print(attempts_table(found, source_of(found)))


if __name__ == "__main__":
    main()
