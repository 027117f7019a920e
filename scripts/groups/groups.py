"""Do embeddings, attention and recurrent weights want mixtures of their own? Walks, side by side.

    python scripts/groups/groups.py --recipes shakespeare_gru --seeds 0 1 2
    python scripts/groups/groups.py --smoke   # minutes, on made data; prints only

Each recipe runs from one pre-trained network under several choices of groups, all with the prior
that the recipe has for its matrices: "one" is one group of all tensors, "recipe" the recipe's own
(matrices, and vectors), "own KIND" that with one kind of layers apart, "own all" with all of them.
The budget is in passes alone, so that a busy machine changes nothing. Rows of the same recipe,
variant, seed and passes in docs/results/groups.json are replaced, all others stay; each has the
score on the data that the walk is judged on, and on test data, which nothing looks at before.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import pyro_sws as sws

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from pyro_sws.compression.plan import Plan
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import named_parts, run_recipe
from scripts.shared.made import instead
from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, ROOT, earlier_rows, with_row, write_json
from scripts.shared.starts import start
from scripts.strangers.networks import unshuffled
from scripts.strangers.strangers import before_and_after

KEYS = "recipe", "variant", "seed", "passes"
# Kind of layers -> which tensors they are: a glob on names, and a module's class or None.
TENSORS: dict[str, tuple[str, str | None]] = {
    "embedding": ("*", "Embedding"),
    "position": ("position", None),
    "attention": ("*self_attn*weight", None),
    "recurrent": ("*weight_hh_l*", None),
    "gates": ("*weight_ih_l*", None),
    "convolution": ("*.weight", "_ConvNd"),
}
# Recipe -> the kinds that are set apart, and passes of its walk.
KINDS: dict[str, tuple[tuple[str, ...], float]] = {
    "shakespeare_gru": (("embedding", "recurrent", "gates"), 20),
    "shakespeare_transformer": (("embedding", "position", "attention"), 20),
    "spoken_digits_cnn": (("convolution",), 60),
    "spoken_digits_gru": (("recurrent", "gates"), 60),
    "wide_resnet_16_4": (("convolution",), 20),
    "resnet_20": (("convolution",), 20),
}
SMOKE = ["pretraining.epochs=1", "tolerance=1e6"]


def variants(recipe: str) -> list[str]:
    """The choices of groups for a recipe."""
    kinds, _ = KINDS[recipe]
    several = ["own all"] if len(kinds) > 1 else []
    return ["one", "recipe", *(f"own {kind}" for kind in kinds), *several]


def rules(recipe: str, variant: str, plan: Plan) -> tuple[Rule, ...]:
    """The plan's rules under a variant; the first that fits a tensor has it."""
    prior = plan.prior[0].prior
    if variant == "one":
        return (Rule(prior),)
    apart = variant.removeprefix("own ")
    kinds = [kind for kind in KINDS[recipe][0] if apart in (kind, "all")]
    own = [Rule(prior, match, kind, module) for kind in kinds for match, module in [TENSORS[kind]]]
    return (*own, *plan.prior)


def planned(recipe: str, variant: str, seed: int, changes: Sequence[str]) -> Plan:
    """The recipe with the variant's groups."""
    plan = read_recipe(ROOT / "models" / f"{recipe}.toml", [f"seed={seed}", *changes])
    return replace(plan, prior=rules(recipe, variant, plan))


def measured(plan: Plan, data_dir: str | None) -> dict[str, Any]:
    """What a run gave."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = run_recipe(plan, Path(folder) / "run", data_dir=data_dir)
        except (FloatingPointError, sws.CompressionFailed) as error:  # that is a result, too
            return {"failed": str(error)}
    report, source = run.report.to_dict(), named_parts(plan)[1].source
    test = unshuffled(source(**({} if data_dir is None else {"data_dir": data_dir}))["test"])
    return {
        "bytes": report["file_bytes"],
        "ratio": report["ratio"],
        "groups": {name: group["weights"] for name, group in report["groups"].items()},
        "values": {name: group["used_components"] for name, group in report["groups"].items()},
        "held_to": run.report.walk,
        "judged": report["score"],
        "test": before_and_after(plan.likelihood, run.network.cpu(), run.decoded.cpu(), test),
        "seconds": round(time.perf_counter() - began, 1),
    }


def row(recipe: str, variant: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """A row of the results."""
    passes = 2 if arguments.smoke else arguments.passes or KINDS[recipe][1]
    changes = [f"budget={{passes = {passes}, minutes = 100_000}}"]
    if arguments.device:
        changes.append(f"device={json.dumps(arguments.device)}")
    if arguments.smoke:
        changes += [*SMOKE, instead(recipe)]
    else:
        trained = start(ROOT / "models" / f"{recipe}.toml", seed, data_dir=arguments.data_dir)
        changes.append(f"start={json.dumps(str(trained.resolve()))}")
    plan = planned(recipe, variant, seed, changes)
    told = dict(zip(KEYS, (recipe, variant, seed, passes), strict=True))
    found = measured(plan, arguments.data_dir)
    return {**told, **found, "provenance": provenance(arguments.device or "cpu")}


def summary(found: dict[str, Any]) -> str:
    """A row as a line."""
    name = f"{found['recipe']:26}{found['variant']:18}seed {found['seed']}"
    if "failed" in found:
        return f"{name}  failed: {found['failed']}"
    test = found["test"]
    change = f"test {test['name']} {test['before']:.4g} -> {test['after']:.4g} {test['unit']}"
    return f"{name}{found['bytes']:9,} bytes  {change}"


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    out = arguments.out or (None if arguments.smoke else RESULTS / "groups.json")
    rows = earlier_rows(out) if out else []
    for seed in arguments.seeds:
        for recipe in arguments.recipes:
            for variant in arguments.variants or variants(recipe):
                if variant not in variants(recipe):
                    continue
                found = row(recipe, variant, seed, arguments)
                print(summary(found), flush=True)
                rows = with_row(rows, found, KEYS)
                if out:
                    about = provenance(arguments.device or "cpu")
                    write_json(out, {"rows": rows, "_about": about})


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    small = [name for name in KINDS if name not in ("resnet_20", "wide_resnet_16_4")]
    known = sorted({variant for recipe in KINDS for variant in variants(recipe)})
    add = partial(parser.add_argument, nargs="+")
    add("--recipes", choices=KINDS, default=small, metavar="RECIPE", help="default: not CIFAR-10's")
    add("--variants", choices=known, metavar="VARIANT", help=f"default: all of {', '.join(known)}")
    add("--seeds", type=int, default=[0])
    parser.add_argument("--passes", type=float, help="of each walk; default: 20, or 60 of sounds")
    parser.add_argument("--out", type=Path, help="default: docs/results/groups.json")
    parser.add_argument("--data-dir", help="instead of $PYRO_SWS_DATA")
    parser.add_argument("--device", help="of the walk, such as cuda")
    parser.add_argument("--smoke", action="store_true", help="a few made examples, two passes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
