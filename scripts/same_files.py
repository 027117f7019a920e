"""Hash the file and the fit of every recipe at a few epochs: does a change of code change a bit?

    python scripts/same_files.py --out before.json   # in a checkout without the change
    python scripts/same_files.py --against before.json   # with it; ten minutes; reads MNIST
    python scripts/same_files.py --names digits "digits, normal" --against before.json

Digits is run whole over three seeds, every other recipe for an epoch or two; the variants change
what a recipe of ``models/`` leaves as it is. Walks, and WideResNet, see a few made examples.
The fit is hashed too, because a short one leaves nothing but zeros in some files, which are then
equal whatever was fitted. Hashes are equal on one machine and one build of torch alone. Exits with
1 where any differs.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.weights.posterior import Posterior

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from scripts.shared.made import instead
from scripts.shared.provenance import provenance
from scripts.shared.results import ROOT, write_json

FEW = ["epochs=2", "pretraining.epochs=2", "refinement.epochs=2", "rates.precisions=0.05"]
ONE = ["epochs=1", "pretraining.epochs=1"]
# Without a clock: how far a walk gets in some minutes is another thing each time.
WALK = ["pretraining.epochs=1", "budget={passes=4,minutes=1000}", "tolerance=1000"]
DIGITS = ["pretraining.epochs=10", "tau=0.003", "rates.precisions=0.02"]
SHORT = ["epochs=10", "pretraining.epochs=10", "refinement.epochs=6"]

# Name -> recipe in models/, and what is changed in it.
RUNS: dict[str, tuple[str, Sequence[str]]] = {
    "digits": ("digits.toml", ()),
    "digits, seed 1": ("digits.toml", ["seed=1"]),
    "digits, seed 2": ("digits.toml", ["seed=2"]),
    "digits, plain": ("plain/digits.toml", [*DIGITS, "epochs=30"]),
    "digits, merged": ("plain/digits.toml", [*DIGITS, "epochs=30", "merge_by=description"]),
    "digits, normal": (
        "plain/digits.toml",
        [*DIGITS, "epochs=8", "guide=normal", "signal_to_noise=0.5"],
    ),
    "digits, fingerprint": (
        "digits.toml",
        [
            *SHORT,
            "fingerprint=true",
            "codebook_dtype=float32",
            "annealing.tau={first=0.1,until=0.5}",
        ],
    ),
    "digits, double": (
        "digits.toml",
        [*SHORT, "prior_subsample=0.25", "hyperparameters_every=2", "rewrite=false"]
        + ["dtype=float64"],
    ),
    "digits, low rank": (
        "plain/digits.toml",
        [*DIGITS, "epochs=20", "guide=low_rank", "tau=0.0003"],
    ),
    "lenet_300_100": ("lenet_300_100.toml", FEW),
    "lenet_300_100, plain": ("plain/lenet_300_100.toml", ONE),
    "lenet_300_100, paper": ("paper/lenet_300_100.toml", ONE),
    "lenet_5_caffe": ("lenet_5_caffe.toml", FEW),
    "lenet_5_caffe, augmented": ("augmented/lenet_5_caffe.toml", FEW),
    "lenet_5_caffe, paper": ("paper/lenet_5_caffe.toml", ONE),
    "wide_resnet_16_4, paper": ("paper/wide_resnet_16_4.toml", [*ONE, instead("wide_resnet_16_4")]),
    **{
        name: (f"{name}.toml", [*WALK, instead(name)])
        for name in ("diabetes", "protein", "shakespeare_gru", "shakespeare_transformer")
        + ("spoken_digits_cnn", "spoken_digits_gru", "resnet_20", "wide_resnet_16_4")
    },
}


def digest(recipe: str, changes: Sequence[str], data_dir: str | None = None) -> dict[str, str]:
    """sha256 of the file that the recipe gives, and of the posterior that was fitted."""
    with tempfile.TemporaryDirectory() as folder:
        plan = read_recipe(ROOT / "models" / recipe, list(changes))
        run = run_recipe(plan, Path(folder) / "run", data_dir=data_dir)
    return {"file": hashlib.sha256(run.data).hexdigest(), "fit": posterior_digest(run.posterior)}


def posterior_digest(posterior: Posterior) -> str:
    """sha256 of its point and, where the guide has spread, its draws and deviations."""
    hashed = hashlib.sha256()
    for part in (posterior.point, posterior.draws, posterior.deviations):
        for name, tensor in sorted((part or {}).items()):
            hashed.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def differing(found: Mapping[str, object], before: Mapping[str, object]) -> list[str]:
    """The names of runs that are in both and not equal. ValueError where no name is in both."""
    both = found.keys() & before.keys()
    if not both:
        raise ValueError(f"no run is in both; there were {', '.join(before) or 'none'}")
    return sorted(name for name in both if found[name] != before[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    parser.add_argument("--out", type=Path, help="JSON of the hashes to write")
    parser.add_argument("--against", type=Path, help="JSON that was written before")
    parser.add_argument("--data-dir", help="folder with the data")
    arguments = parser.parse_args()
    found = {}
    for name in arguments.names:
        found[name] = digest(*RUNS[name], arguments.data_dir)
        print(*(value[:16] for value in found[name].values()), name, flush=True)
    if arguments.out is not None:
        write_json(arguments.out, {**provenance(), "sha256": found})
    if arguments.against is not None:
        before = json.loads(arguments.against.read_text(encoding="utf-8"))["sha256"]
        others = differing(found, before)
        print(f"differ: {', '.join(others)}" if others else "all that are in both are equal")
        sys.exit(bool(others))


if __name__ == "__main__":
    main()
