"""Which weights are zero, over the epochs: of a plain fit, and of refinement at several widenings.

    python scripts/turnover/turnover.py run --part 0/2    # and 1/2
    python scripts/turnover/turnover.py collect

A fit of LeNet-300-100, with its recipe's settings before the search, and from where that ends
``refine`` with components 1, 2, 5 and 9 times as wide; beside them a plain fit of as many epochs,
under a tau that leaves a like error.
After every epoch the network is snapped as it would be then, and the set of its nonzero weights
compared with the epoch's before. Errors are of 5,000 training images held out. Rows and sets are
kept in --folder; ``collect`` writes docs/results/turnover.json and the picture, and runs nothing.
"""

import argparse
import io
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

import pyro_sws as sws
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.packing import Packing
from pyro_sws.compression.refine import Refinement
from pyro_sws.files import write_whole
from pyro_sws.inference.batches import Batches
from pyro_sws.inference.fit import as_weights, fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.joint import Joint
from pyro_sws.runs.inputs import first_batch
from pyro_sws.weights.merge import merge
from pyro_sws.weights.posterior import Posterior

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.provenance import provenance
from scripts.shared.recipe_runs import Run, error_percent, joint_of, packed
from scripts.shared.results import RESULTS, write_json
from scripts.shared.study import BEFORE_SEARCH, NOTE, add_arguments, run_part
from scripts.turnover.figure import draw

RECIPE = Path(__file__).parents[2] / "models" / "lenet_300_100.toml"
TAU = 0.3  # of the recipe then
WIDENINGS = (1.0, 2.0, 5.0, 9.0)
REFINEMENT_EPOCHS = 16
PLAIN_TAU = 0.1  # without refinement the prior has to pull less for the same error
SETS = "nonzero.npz"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["run", "collect"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--tau", type=float, default=PLAIN_TAU, help="of the plain fit")
    add_arguments(parser, Path("runs/turnover"), RESULTS / "turnover.json")
    arguments = parser.parse_args()
    if arguments.stage == "run":
        run_part(runs(arguments.seeds, arguments.tau), arguments)
        return
    ways = collected(arguments.seeds, arguments.tau, arguments.folder)
    if not ways:
        parser.error(f"no such run in {arguments.folder}; do it first, with: run")
    write_json(arguments.out, {"ways": ways, "_about": {**provenance(), "note": NOTE}})
    draw(ways, arguments.out.with_suffix(".png"))


@dataclass(frozen=True)
class TurnoverRun(Run):
    """A fit, and the ways on from it: refinements, or without any as many more epochs of fitting.

    Each way has a row an epoch. The sets lie beside the row: in SETS, by way, bits of epoch after
    epoch (epochs, weights / 8).
    """

    widenings: tuple[float, ...] = ()
    epochs: int = REFINEMENT_EPOCHS  # after the recipe's own

    @property
    def settings(self) -> dict[str, Any]:
        own = {"widenings": list(self.widenings), "further_epochs": self.epochs}
        return {**super().settings, **own}

    def _fitted(self, path: Path, data_dir: str | None) -> dict[str, Any]:
        plan, data, net, train = self._parts(data_dir)
        split: Any = first_batch(data[self.scored], self.scored)
        model = joint_of(plan, net, train)
        began = time.process_time()
        watch = Watch(model, split, plan.packing.codebook_dtype, plan.packing.merge_threshold)
        posterior = fit(
            model,
            delta_guide(model),
            train,
            seed=self.seed,
            inspect=watch,
            settings=sws.Fitting(
                epochs=plan.fit.epochs + (0 if self.widenings else self.epochs),
                rates=plan.fit.rates,
            ),
        ).posterior
        merged = merge(posterior, plan.packing.merge_threshold)
        ways: list[tuple[dict[str, Any], Posterior, Watch]] = []
        for widening in self.widenings:
            on = watch.going_on("refinement")
            found = sws.refine(
                model,
                merged,
                train,
                replace(plan.refinement or Refinement(), epochs=self.epochs, widening=widening),
                codebook_dtype=plan.packing.codebook_dtype,
                seed=self.seed,
                inspect=on,
            )
            known = {
                "widening": widening,
                "epoch_kept": plan.fit.epochs + found.epoch,
                "description_nats_before": found.history[0]["description_nats"],
            }
            ways.append((known, found.posterior, on))
        ways = ways or [({}, merged, watch)]
        path.mkdir(parents=True, exist_ok=True)
        packed = {f"way {i}": np.packbits(on.sets, axis=1) for i, (_, _, on) in enumerate(ways)}
        _write_arrays(path / SETS, packed)
        rows = [
            {
                "tau": plan.tau,
                **known,
                **_file(net, plan.packing, reached, train, split),
                "epochs": turnover(on.sets, on.notes),
            }
            for known, reached, on in ways
        ]
        return {"ways": rows, "cpu_seconds": round(time.process_time() - began, 1)}


def runs(seeds: Sequence[int], plain_tau: float) -> Iterator[TurnoverRun]:
    for seed in seeds:
        yield TurnoverRun(
            RECIPE,
            "refined",
            (f"tau={TAU}", *BEFORE_SEARCH),
            seed,
            held_out=True,
            widenings=WIDENINGS,
        )
        plain = f"tau={plain_tau}", *BEFORE_SEARCH
        yield TurnoverRun(RECIPE, f"fit, tau {plain_tau}", plain, seed, held_out=True)


def collected(seeds: Sequence[int], plain_tau: float, folder: Path) -> list[dict[str, Any]]:
    """The ways of the runs that were run; none of one that failed."""
    return [
        {"seed": run.seed, **way}
        for run in runs(seeds, plain_tau)
        for way in (run.kept(folder) or {}).get("ways", ())
    ]


@dataclass
class Watch:
    """What is noted after an epoch: the nonzero weights of the snapped network, and its error."""

    model: Joint
    split: tuple[Tensor, Tensor]
    codebook_dtype: str
    merge_threshold: float  # 0: nothing merges
    phase: str = "fit"
    sets: list[np.ndarray] = field(default_factory=list)
    notes: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, row: Mapping[str, Any], reached: Posterior) -> None:
        quantized = sws.quantize(merge(reached, self.merge_threshold), self.codebook_dtype)
        self.sets.append(nonzeros(quantized))
        weights = as_weights(self.model, quantized.dequantize())
        error = error_percent(self.model.net, weights, *self.split)
        known = {key: row[key] for key in ("description_nats",) if key in row}
        self.notes.append({"phase": self.phase, "error_percent": error, **known})

    def going_on(self, phase: str) -> "Watch":
        """With what it has so far, and of a network whose components stay as they are."""
        sets, notes = [*self.sets], [*self.notes]
        return replace(self, merge_threshold=0.0, phase=phase, sets=sets, notes=notes)


def nonzeros(quantized: Quantized) -> np.ndarray:
    """Whether each weight is other than 0, over all tensors in the order of their names."""
    values = quantized.dequantize()
    return np.concatenate([values[name].ravel() != 0 for name in sorted(values)])


def turnover(sets: Sequence[np.ndarray], notes: Sequence[Mapping[str, Any]]) -> list[dict]:
    """A row an epoch, with what has changed in the set of nonzero weights.

    ``came_percent``: of those now in the set, how many were not an epoch before; ``went_percent``:
    of those that were, how many are not now. ``came_since_percent``: of those now in the set, how
    many were not where the phase began, so that what comes and goes again does not count.
    ``overlap_start_percent`` and ``overlap_percent``: what is in both, of what is in either (the
    Jaccard index), of the set and that where the phase began, or the last. A phase begins where the
    one before ended, the first with its own first epoch; before that, all weights are in the set.
    """
    found = []
    start = sets[0]
    for i, (now, note) in enumerate(zip(sets, notes, strict=True)):
        before = sets[i - 1] if i else np.ones_like(now)
        if i and note["phase"] != notes[i - 1]["phase"]:
            start = before
        found.append(
            {
                "epoch": i + 1,
                **note,
                "nonzero_percent": 100 * float(now.mean()),
                "came_percent": _percent(now & ~before, now),
                "went_percent": _percent(before & ~now, before),
                "came_since_percent": _percent(now & ~start, now),
                "overlap_start_percent": overlap_percent(now, start),
                "overlap_percent": overlap_percent(now, sets[-1]),
            }
        )
    return found


def overlap_percent(one: np.ndarray, other: np.ndarray) -> float:
    """The Jaccard index of two sets; two empty ones are the same."""
    return _percent(one & other, one | other) if (one | other).any() else 100.0


def _percent(part: np.ndarray, whole: np.ndarray) -> float:
    """0 of an empty set."""
    return 100 * int(part.sum()) / max(int(whole.sum()), 1)


def _file(
    net: nn.Module, packing: Packing, reached: Posterior, train: Batches, split: Any
) -> dict[str, Any]:
    """What is written in the end, and the error of what is read back from it."""
    held = packed(net, packing, reached, train)
    data = sws.encode(held)
    decoded = sws.load(data, into=net).eval()
    return {
        "file_bytes": len(data),
        "decoded_error_percent": error_percent(decoded, {}, *split),
        "nonzero_percent": 100 * float(nonzeros(held).mean()),
    }


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    content, named = io.BytesIO(), dict[str, Any](arrays)
    np.savez_compressed(content, **named)
    write_whole(path, content.getvalue())


if __name__ == "__main__":
    main()
