"""Which weights are zero, over the epochs: of a plain fit, and of refinement at several widenings.

    python scripts/study_turnover.py run
    python scripts/study_turnover.py collect

The recipe's fit of LeNet-300-100, and from where it ends ``refine`` with components 1, 2, 5 and 9
times as wide; beside them a plain fit of as many epochs, under a tau that gives about the same
error. After every epoch the network is snapped as it would be then, and the set of its nonzero
weights compared with the epoch's before. Errors are of 5,000 training images held out. The run is
kept in --folder; ``collect`` writes docs/results/turnover.json and the picture, and runs nothing.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from prior_families import add_arguments, run_part
from provenance import provenance
from recipe_runs import Run, error_percent
from timing import RESULTS, write_json
from torch import Tensor
from turnover_figure import draw

import pyro_sws as sws
from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.fit import as_weights, fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.joint import Joint
from pyro_sws.refinement import Refinement
from pyro_sws.weights.merge import merge
from pyro_sws.weights.posterior import Posterior

RECIPE = Path(__file__).parents[1] / "models" / "lenet_300_100.toml"
WIDENINGS = (1.0, 2.0, 5.0, 9.0)
REFINEMENT_EPOCHS = 16
PLAIN_TAU = 0.1  # without refinement the prior has to pull less for the same error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=["run", "collect"])
    add_arguments(parser, Path("runs/turnover"), RESULTS / "turnover.json")
    arguments = parser.parse_args()
    runs = [TurnoverRun(RECIPE, "turnover", held_out=True)]
    if arguments.stage == "run":
        run_part(runs, arguments)
    else:
        row = runs[0].kept(arguments.folder)
        if row is None:
            parser.error("there is no such run: do it first")
        write_json(arguments.out, {"ways": row["ways"], "_about": provenance()})
        draw(row["ways"], arguments.out.with_suffix(".png"))


@dataclass(frozen=True)
class TurnoverRun(Run):
    """All ways from one start: each as rows, one an epoch."""

    def _fitted(self, path: Path, data_dir: str | None) -> dict[str, Any]:
        recipe, data, net, train = self._material(data_dir)
        settings = recipe.settings
        began = time.process_time()

        def fitted(tau: float, epochs: int) -> tuple[Posterior, Watch]:
            model = sws.joint(
                net,
                recipe.prior,
                recipe.likelihood,
                len(train.inputs),
                tau=tau,
                prior_subsample=settings.prior_subsample,
            )
            watch = Watch(model, data[self.scored], settings.merge_threshold)
            guide, more = delta_guide(model), {"seed": self.seed, "inspect": watch}
            found = fit(model, guide, train, epochs=epochs, rates=settings.rates, **more)
            return found.posterior, watch

        _, alone = fitted(PLAIN_TAU, settings.epochs + REFINEMENT_EPOCHS)
        ways = {f"fit, tau {PLAIN_TAU}": turnover(alone.kept, alone.rows)}
        posterior, first = fitted(settings.tau, settings.epochs)
        merged = merge(posterior, settings.merge_threshold)
        for widening in WIDENINGS:
            on = first.going_on()
            how = replace(
                settings.refinement or Refinement(), epochs=REFINEMENT_EPOCHS, widening=widening
            )
            sws.refine(on.model, merged, train, how, seed=self.seed, inspect=on)
            ways[f"refined, {widening:.0f} times as wide"] = turnover(on.kept, on.rows)
        return {"ways": ways, "cpu_seconds": round(time.process_time() - began, 1)}


@dataclass
class Watch:
    """What is noted after an epoch: the nonzero weights of the snapped network, and its score."""

    model: Joint
    split: tuple[Tensor, Tensor]
    merge_threshold: float  # 0: nothing merges
    kept: list[np.ndarray] = field(default_factory=list)
    rows: list[dict[str, float]] = field(default_factory=list)

    def __call__(self, row: Mapping[str, Any], reached: Posterior) -> None:
        quantized = sws.quantize(merge(reached, self.merge_threshold))
        weights = as_weights(self.model, quantized.dequantize())
        self.kept.append(nonzeros(quantized))
        known = {key: row[key] for key in ("description_nats",) if key in row}
        error = error_percent(self.model.net, weights, *self.split)
        self.rows.append({"error_percent": error, **known})

    def going_on(self) -> "Watch":
        """With what it has so far, and of a network whose components stay as they are."""
        return replace(self, merge_threshold=0.0, kept=[*self.kept], rows=[*self.rows])


def nonzeros(quantized: Quantized) -> np.ndarray:
    """Whether each weight is other than 0, over all tensors in their order."""
    values = quantized.dequantize()
    return np.concatenate([values[name].ravel() != 0 for name in sorted(values)])


def turnover(kept: Sequence[np.ndarray], rows: Sequence[Mapping[str, float]]) -> list[dict]:
    """A row an epoch, with what has changed in the set of nonzero weights since the one before.

    ``came_percent``: of those now in the set, how many were not; ``went_percent``: of those that
    were, how many are not any more; ``overlap_percent``: what it has in common with the last set,
    of what is in either. Before the first epoch all weights are in the set.
    """
    found = []
    for i, (now, row) in enumerate(zip(kept, rows, strict=True)):
        before = kept[i - 1] if i else np.ones_like(now)
        found.append(
            {
                "epoch": i + 1,
                **row,
                "nonzero_percent": 100 * now.mean(),
                "came_percent": _percent((now & ~before).sum(), now.sum()),
                "went_percent": _percent((before & ~now).sum(), before.sum()),
                "overlap_percent": _percent((now & kept[-1]).sum(), (now | kept[-1]).sum()),
            }
        )
    return found


def _percent(part: int, whole: int) -> float:
    return 100 * float(part) / max(int(whole), 1)


if __name__ == "__main__":
    main()
