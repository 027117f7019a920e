"""What each free choice of a walk is worth: one of them changed at a time, on three networks.

    python scripts/strangers/walk_ablation.py           # writes docs/results/walk_ablation.json
    python scripts/strangers/walk_ablation.py --smoke   # seconds, on made data; prints only

The call is ``compress(net, train, validation=...)``, in the default budget; bytes and held-out
scores are means over the walks' seeds. Rows of the same network and choice are replaced, all others
stay.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

import pyro_sws as sws

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.cells import source_of
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, earlier_rows, with_row, write_json
from scripts.strangers.networks import CACHE, STRANGERS, Stranger, unshuffled
from scripts.strangers.strangers import NOTE, SMOKE, before_and_after
from scripts.strangers.tables import ablation_table

NETWORKS = {"digits_demo": 3, "spoken_digits_cnn": 1, "lenet_300_100": 1}  # seeds of walks
WALK = sws.Walk()
CHOICES = {
    "as it is": WALK,
    "labels alone": replace(WALK, soft_targets=0.0),
    "rates halved": replace(WALK, rates=replace(WALK.rates, weights=WALK.rates.weights / 2)),
    "rates doubled": replace(WALK, rates=replace(WALK.rates, weights=WALK.rates.weights * 2)),
    "rates constant in a step": replace(WALK, decay=1.0),
    "a quarter of the pull": replace(WALK, pull=WALK.pull / 4),
    "four times the pull": replace(WALK, pull=WALK.pull * 4),
    "zero's least proportion 0.5": replace(WALK, zero=0.5),
    "zero's least proportion 0.9": replace(WALK, zero=0.9),
    "proportions as the shares": replace(WALK, sparser=1.0),
    "proportions at once": replace(WALK, following=1.0),
    "scales as they are": replace(WALK, rates=replace(WALK.rates, scales=0.0)),
    "growth 1.2": replace(WALK, growth=1.2),
    "twice as many steps": replace(WALK, steps=2 * WALK.steps),
}


def measured(
    stranger: Stranger, choice: str, seeds: int, data: Path | None, cache: Path, smoke: bool
) -> dict[str, Any]:
    """A row of the results."""
    splits = stranger.splits(data)
    net, held_out = stranger.trained(splits, 0, data, cache), unshuffled(splits["validation"])
    bytes_, scores, failed = [], [], 0
    for seed in range(seeds):
        given: dict[str, Any] = {"fit": CHOICES[choice], "seed": seed, **(SMOKE if smoke else {})}
        train, likelihood = stranger.train(splits), stranger.likelihood
        try:
            run = sws.compress(net, train, validation=held_out, likelihood=likelihood, **given)
        except (FloatingPointError, sws.CompressionFailed):
            failed += 1
            continue
        bytes_.append(len(run.data))
        scores.append(before_and_after(likelihood, net, run.decoded.cpu(), held_out)["after"])
    row = {"name": stranger.name, "title": stranger.title, "choice": choice, "seeds": seeds}
    means = {"bytes": fmean(bytes_), "held_out": fmean(scores)} if bytes_ else {}
    return {**row, "failed": failed, **means}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--names", type=lambda text: text.split(","), default=list(NETWORKS))
    parser.add_argument("--choices", type=lambda text: text.split(","), default=list(CHOICES))
    parser.add_argument("--data-dir", type=Path, help="instead of $PYRO_SWS_DATA")
    parser.add_argument("--cache", type=Path, default=CACHE, help="of trained networks")
    parser.add_argument("--out", type=Path, default=RESULTS / "walk_ablation.json")
    parser.add_argument("--smoke", action="store_true", help="made data, two passes; prints only")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [] if given.smoke else earlier_rows(given.out)
    with tempfile.TemporaryDirectory() as made:
        cache = Path(made) if given.smoke else given.cache
        for choice in given.choices:
            for name in given.names:
                stranger = STRANGERS[name].made() if given.smoke else STRANGERS[name]
                seeds = 1 if given.smoke else NETWORKS.get(name, 1)
                row = measured(stranger, choice, seeds, given.data_dir, cache, given.smoke)
                new = {**row, "provenance": provenance("cpu")}
                rows = with_row(rows, new, ("name", "choice"))
                found = {"rows": rows, "_about": {**provenance("cpu"), "note": NOTE}}
                if not given.smoke:
                    write_json(given.out, found)
    print(ablation_table(found, source_of(found)))


if __name__ == "__main__":
    main()
