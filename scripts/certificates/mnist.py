"""What files of MNIST networks prove: by themselves, and as differences to a base.

    python scripts/certificates/mnist.py plain --taus 2.0 2.6    # 20 minutes each
    python scripts/certificates/mnist.py walk --start FILE       # tau="certificate", 20 minutes
    python scripts/certificates/mnist.py based --seen 30000      # half an hour
    python scripts/certificates/mnist.py adapted                 # negatives, half an hour

Each adds rows to docs/results/certificates.json. ``plain`` follows models/lenet_5_caffe.toml at
another tau and certifies the file; --start takes trained weights, and a folder in --runs that holds
the run is taken as it is. ``based`` trains a base on the first --seen images, goes on with the
rest, and certifies the differences on these: nothing of them was seen by the base. ``adapted`` is
no certificate: a network of all digits learns their negatives, and its update is written down.
"""

import argparse
import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

import pyro_sws as sws
from models.augmentation import nudged
from models.data import mnist
from models.lenet import lenet_5_caffe
from pyro_sws.certification.of_recipe import certify_by_recipe
from pyro_sws.compression.pretrain import pretrain
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, ROOT, earlier_rows, with_row, write_json

RECIPE = ROOT / "models" / "lenet_5_caffe.toml"
KEYS = "name", "seed"
Rows: TypeAlias = Iterator[dict[str, Any]]
Images: TypeAlias = tuple[torch.Tensor, torch.Tensor]
SCALE = 256  # pixels over it, as Caffe's weights expect


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)  # of initial weights
    kinds = {"plain": plain, "walk": walked, "based": based, "adapted": adapted}
    for row in kinds[arguments.kind](arguments):
        whole = {**row, "seed": arguments.seed, **provenance()}
        write_json(arguments.out, {"rows": with_row(earlier_rows(arguments.out), whole, KEYS)})
        print(row.get("sentence", row), flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=["plain", "walk", "based", "adapted"])
    parser.add_argument("--taus", nargs="+", type=float, default=[2.0])
    parser.add_argument("--widening", type=float, default=9.0)
    parser.add_argument("--refine", type=int, default=20, help="epochs of refinement")
    parser.add_argument("--seen", type=int, default=30_000, help="images that the base learns from")
    parser.add_argument("--epochs", type=int, default=20, help="of a base's training")
    parser.add_argument("--passes", type=float, default=20.0, help="of a walk; 0: none")
    parser.add_argument("--start", type=Path, help="trained weights (safetensors), for plain, walk")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", help="folder with the data")
    parser.add_argument("--runs", type=Path, default=Path("runs/certificates"))
    parser.add_argument("--out", type=Path, default=RESULTS / "certificates.json")
    return parser.parse_args()


def plain(arguments: argparse.Namespace) -> Rows:
    for tau in arguments.taus:
        folder = arguments.runs / f"plain-{tau:g}-{arguments.seed}"
        changes = [
            f"tau={tau}",
            "fingerprint=true",
            f"refinement.widening={arguments.widening}",
            f"refinement.epochs={arguments.refine}",
            f"seed={arguments.seed}",
            *start_of(arguments),
        ]
        if not (folder / "report.json").exists():
            plan = sws.read_recipe(RECIPE, changes)
            sws.run_recipe(plan, folder, resume=True, data_dir=arguments.data_dir)
        found = certify_by_recipe(folder / "model.sws", RECIPE, data_dir=arguments.data_dir)
        yield {
            "name": f"LeNet-5-Caffe, tau {tau:g}",
            "settings": changes[:4],
            **found.to_dict(),
        }


def walked(arguments: argparse.Namespace) -> Rows:
    folder = arguments.runs / f"walk-{arguments.seed}"
    if not (folder / "report.json").exists():
        splits = images(arguments)
        net = lenet_5_caffe()
        net.load_state_dict(load_file(arguments.start))
        run = sws.compress(
            net,
            sws.Batches(*splits["train"], 128),
            tau="certificate",
            budget=sws.Budget(passes=arguments.passes, minutes=None),
            packing=sws.Packing(fingerprint=True, nonnegative_inputs=True),
            seed=arguments.seed,
        )
        run.save(folder)
    found = certify_by_recipe(folder / "model.sws", RECIPE, data_dir=arguments.data_dir)
    yield {"name": "LeNet-5-Caffe, a walk by the certificate", **found.to_dict()}


def based(arguments: argparse.Namespace) -> Rows:
    splits, n = images(arguments), arguments.seen
    seen, rest = (part_of(splits["train"], of) for of in (slice(n), slice(n, None)))
    began = time.perf_counter()
    base = trained(lenet_5_caffe(dropout=0.3), seen, arguments.epochs, arguments.seed)
    net = trained(
        copy.deepcopy(base), rest, max(1, arguments.epochs // 4), arguments.seed + 1, 1e-4
    )
    whole = {"base": base, "train": sws.Batches(*rest, 128), "seed": arguments.seed}
    whole |= {"packing": sws.Packing(fingerprint=True)}
    runs = {"no difference": sws.compress(base, tau=0.1, epochs=0, **whole)}
    if arguments.passes:
        budget = sws.Budget(passes=arguments.passes, minutes=None)
        runs["differences"] = sws.compress(net, tau="certificate", budget=budget, **whole)
    for name, run in runs.items():
        yield {
            "name": f"LeNet-5-Caffe, {name} to a base of {n:,} images",
            **certified(run, base, rest, seen, splits["test"]),
            "frontier": [[p.bytes, p.score] for p in run.frontier or ()],
            "base_error_percent": error(base, rest),
            "network_error_percent": error(net, rest),
            "seconds": time.perf_counter() - began,
        }


def certified(
    run: sws.Run, base: nn.Module, rest: Images, seen: Images, test: Images
) -> dict[str, Any]:
    found = sws.certify(
        run.data,
        base,
        sws.Batches(*rest, 1000, shuffle=False),
        holdout=[test],
        base=base,
        base_saw=[seen],
    )
    return found.to_dict()


def adapted(arguments: argparse.Namespace) -> Rows:
    splits = images(arguments)
    base = lenet_5_caffe(dropout=0.3)
    if arguments.start is None:
        base = trained(base, splits["train"], arguments.epochs, arguments.seed)
    else:
        base.load_state_dict(load_file(arguments.start))
    negatives = {name: (255 / SCALE - x, y) for name, (x, y) in splits.items()}
    parts = {"train": slice(0, 55_000), "validation": slice(55_000, None)}
    data = {name: part_of(negatives["train"], of) for name, of in parts.items()}
    net = trained(copy.deepcopy(base), data["train"], arguments.epochs // 2, arguments.seed + 1)
    for name, own in {"an update": base, "a file of its own": None}.items():
        run = sws.compress(
            net,
            sws.Batches(*data["train"], 128),
            base=own,
            validation=sws.Batches(*data["validation"], 1000, shuffle=False),
            test=sws.Batches(*negatives["test"], 1000, shuffle=False),
            tolerance=0.3,
            budget=sws.Budget(passes=arguments.passes, minutes=None),
            seed=arguments.seed,
        )
        yield {
            "name": f"LeNet-5-Caffe on negatives, {name}",
            "base_error_percent": error(base, negatives["test"]),
            "file_bytes": len(run.data),
            "score": run.report.score,
        }


def images(arguments: argparse.Namespace) -> dict[str, Images]:
    return dict(mnist(input_scale=SCALE, data_dir=arguments.data_dir))


def part_of(data: Images, of: slice) -> Images:
    return data[0][of], data[1][of]


def start_of(arguments: argparse.Namespace) -> list[str]:
    return [] if arguments.start is None else [f'start="{arguments.start.resolve()}"']


def trained(
    net: nn.Module,
    data: Images,
    epochs: int,
    seed: int,
    rate: float = 1e-3,
) -> nn.Module:
    settings = replace(sws.Pretraining(), epochs=epochs, rate=rate, schedule="cosine")
    return pretrain(
        net, sws.Batches(*data, 128, augment=nudged), "categorical", settings, seed=seed
    )


@torch.no_grad()
def error(net: nn.Module, data: Images) -> float:
    parts = zip(data[0].split(1000), data[1].split(1000), strict=True)
    wrong = sum(int((net(x).argmax(1) != y).sum()) for x, y in parts)
    return 100 * wrong / len(data[1])


if __name__ == "__main__":
    main()
