"""What each part of the method is worth on LeNet-300-100: each on and off, beside all others.

    python scripts/ablation/ablation.py run --part 0/2    # and 1/2
    python scripts/ablation/ablation.py collect

Gammas on the precisions or none, a fixed zero proportion or one under a Beta, close components
merged or not, refinement or as many more epochs of fitting, contexts in the coder or order-0: all
combinations, with the recipe in models/ at a reduced number of epochs, on all training images and
the test images. Parts trade error for bytes in their own ways, so each combination is run at two
tau, and a part is judged by the bytes at one error (see study.matched_bytes), where its
path over tau reaches that. Runs are kept in --folder; ``collect`` writes
docs/results/ablation.json, and runs nothing; means there over seeds of which none is at hand any
more are taken in.
"""

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

import pyro_sws as sws
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.refine import Refinement
from pyro_sws.inference.batches import Batches
from pyro_sws.inference.fit import fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.weights.merge import merge
from pyro_sws.weights.posterior import Posterior

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.provenance import provenance
from scripts.shared.recipe_runs import Run, error_percent, joint_of, packed
from scripts.shared.results import RESULTS, write_json
from scripts.shared.study import NOTE, add_arguments, matched_bytes, run_part

RECIPE = Path(__file__).parents[2] / "models" / "lenet_300_100.toml"
SEEDS = (0, 1, 2)
FIT_EPOCHS, REFINEMENT_EPOCHS = 5, 9
# Without refinement the fit takes all epochs, and its prior has to pull less for the same error.
TAUS = {True: (0.3, 0.6), False: (0.2, 0.5)}  # with refinement, without
TARGET = 2.1  # percent
GAMMAS: dict[bool, tuple[str, ...]] = {
    True: (),
    False: ('prior.0.spike_precision="free"', 'prior.0.slab_precision="free"'),
}
# About as many counts as there are weights: fewer are outvoted.
ZEROS: dict[str, tuple[str, ...]] = {
    "fixed": (),
    "Beta": ("prior.0.zero_proportion={ zeros = 266000.0, nonzeros = 600.0 }",),
}
CODERS = {"contexts": "context", "order-0": "order0"}
PARTS = ("gammas", "zeros", "merging", "refinement", "coder")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["run", "collect"])
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    add_arguments(parser, Path("runs/ablation"), RESULTS / "ablation.json")
    arguments = parser.parse_args()
    if arguments.stage == "run":
        run_part(runs(arguments.seeds), arguments)
    else:
        before = json.loads(arguments.out.read_text())["rows"] if arguments.out.exists() else []
        rows = collected(arguments.seeds, arguments.folder, before)
        found = {"target_error_percent": TARGET, "rows": rows, "effects": effects(rows)}
        write_json(arguments.out, {**found, "_about": {**provenance(), "note": NOTE}})


@dataclass(frozen=True)
class AblationRun(Run):
    """One fit, and the files that come of it: merged or not, by either coder."""

    gammas: bool = True
    zeros: str = "fixed"
    refinement: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("gammas", "zeros", "refinement")}
        epochs = [FIT_EPOCHS, REFINEMENT_EPOCHS]
        return {**super().settings, **own, "epochs": epochs}

    def _fitted(self, path: Path, data_dir: str | None) -> dict[str, Any]:
        plan, data, net, train = self._parts(data_dir)
        model = joint_of(plan, net, train)
        began = time.process_time()
        fitted = fit(
            model,
            delta_guide(model),
            train,
            seed=self.seed,
            settings=sws.Fitting(
                epochs=FIT_EPOCHS + (0 if self.refinement else REFINEMENT_EPOCHS),
                rates=plan.fit.rates,
            ),
        )
        files = []
        for merging in (True, False):
            reached = merge(fitted.posterior, plan.packing.merge_threshold if merging else 0.0)
            if self.refinement:
                how = replace(plan.refinement or Refinement(), epochs=REFINEMENT_EPOCHS)
                reached = sws.refine(model, reached, train, how, seed=self.seed).posterior
            made = _files(net, plan.packing, reached, train, data[self.scored])
            files += [{"merging": merging, **file} for file in made]
        return {"files": files, "cpu_seconds": round(time.process_time() - began, 1)}


def _files(
    net: Any, packing: Packing, reached: Posterior, train: Batches, split: Any
) -> list[dict]:
    """A row a coder, of the same network."""
    held = packed(net, packing, reached, train)
    error = error_percent(sws.load(sws.encode(held), into=net).eval(), {}, *split)
    values = {name: len(group.mixture) for name, group in reached.priors.items()}
    return [
        {
            "coder": name,
            "file_bytes": len(sws.encode(held, coder)),
            "error_percent": error,
            "nonzero_percent": 100 * held.nonzero / sum(p.numel() for p in net.parameters()),
            "components": sum(values.values()),
        }
        for name, coder in CODERS.items()
    ]


def runs(seeds: Sequence[int]) -> Iterator[AblationRun]:
    for seed, refinement in itertools.product(seeds, TAUS):
        for tau, gammas, zeros in itertools.product(TAUS[refinement], GAMMAS, ZEROS):
            changes = f"tau={tau}", *GAMMAS[gammas], *ZEROS[zeros]
            name = f"tau {tau}, gammas {gammas}, zeros {zeros}"
            own: dict[str, Any] = {"gammas": gammas, "zeros": zeros, "refinement": refinement}
            yield AblationRun(RECIPE, name, changes, seed, **own)


def collected(
    seeds: Sequence[int], folder: Path, before: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """A row a combination: its mean path over tau, and the bytes at the target's error on it.

    ``before``: rows of an earlier call, for the seeds whose runs are not at hand any more.
    """
    paths: dict[tuple, dict[float, list[Mapping[str, Any]]]] = {}
    for run in runs(seeds):
        row = run.kept(folder)
        tau = float(run.changes[0].removeprefix("tau="))
        for file in (row or {}).get("files", ()):
            key = run.gammas, run.zeros, file["merging"], run.refinement, file["coder"]
            paths.setdefault(key, {}).setdefault(tau, []).append({**file, "seeds": [run.seed]})
    for earlier in before:
        path = paths.setdefault(tuple(earlier[part] for part in PARTS), {})
        for point in earlier["path"]:
            points = path.setdefault(point["tau"], [])
            if not any(set(point["seeds"]) & set(other["seeds"]) for other in points):
                points.append(point)
    return [
        _combination(dict(zip(PARTS, key, strict=True)), path)
        for key, path in sorted(paths.items(), key=str)
    ]


def _combination(parts: dict, path: Mapping[float, list[Mapping[str, Any]]]) -> dict[str, Any]:
    means = [{"tau": tau, **_mean(points)} for tau, points in sorted(path.items())]
    # A path that ends in far larger errors, as without Gammas, has no bytes at this one.
    reached = means[0]["error_percent"] < TARGET < means[-1]["error_percent"]
    matched = matched_bytes(means, TARGET)[0] if reached else None
    return {**parts, "path": means, "bytes_at_target": matched}


def _mean(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Over seeds, where a point may itself be a mean over some; of bytes the geometric mean."""
    weights = [len(point["seeds"]) for point in points]
    mean = {
        name: fmean((point[name] for point in points), weights)
        for name in ("error_percent", "nonzero_percent", "components")
    }
    logs = fmean((math.log(point["file_bytes"]) for point in points), weights)
    seeds = sorted(seed for point in points for seed in point["seeds"])
    return {"file_bytes": math.exp(logs), **mean, "seeds": seeds}


def effects(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Part -> what its other choice does to the bytes at the target's error, in percent.

    Each against the same combination of the other parts and over the same seeds: the geometric
    mean, and the extremes.
    """
    best = {"gammas": True, "zeros": "fixed", "merging": True, "refinement": True}
    best["coder"] = "contexts"
    found = {}
    for part in PARTS:
        pairs: dict[tuple, dict[bool, float]] = {}
        for row in rows:
            if row["bytes_at_target"] is not None:
                seeds = [point["seeds"] for point in row["path"]]
                others = *(row[other] for other in PARTS if other != part), str(seeds)
                pairs.setdefault(others, {})[row[part] == best[part]] = row["bytes_at_target"]
        ratios = [pair[False] / pair[True] for pair in pairs.values() if len(pair) == 2]
        if ratios:
            percent = [100 * (r - 1) for r in (geometric_mean(ratios), min(ratios), max(ratios))]
            found[part] = dict(zip(("mean", "least", "most"), percent, strict=True))
    return found


if __name__ == "__main__":
    main()
