"""A run of the baseline as one row, beside those of recipes: pruned, clustered, refined, coded."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyro_sws as sws
from pyro_sws.compression.refine import Refinement
from scripts.frontier.magnitude_pruning import Pruning, pruned
from scripts.shared.recipe_runs import Run, error_percent, joint_of, packed


@dataclass(frozen=True)
class PrunedRun(Run):
    """The recipe's network, data, likelihood and refinement, with pruning in the prior's place."""

    pruning: Pruning = Pruning(density=0.02)

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "pruning": asdict(self.pruning)}

    def _fitted(self, path: Path, data_dir: str | None) -> dict[str, Any]:
        plan, data, net, train = self._parts(data_dir)
        began = time.process_time()
        model = joint_of(plan, net, train)
        masked, posterior = pruned(model, train, self.pruning, self.seed)
        refinement = plan.refinement or Refinement()
        refined = sws.refine(masked, posterior, train, refinement, seed=self.seed)
        held = packed(net, plan.packing, refined.posterior, train)
        known = sws.architecture(net) if plan.packing.fingerprint else None
        written = sws.encode(held, architecture=known)
        cpu_seconds = round(time.process_time() - began, 1)
        decoded = sws.load(written, into=net)
        split = data[self.scored]
        return {
            "error_before_percent": error_percent(net.eval(), {}, *split),
            "error_unsnapped_percent": error_percent(net.eval(), posterior.weights, *split),
            "error_percent": error_percent(decoded.eval(), {}, *split),
            "nonzero_percent": 100 * held.nonzero / sum(p.numel() for p in net.parameters()),
            "file_bytes": len(written),
            "cpu_seconds": cpu_seconds,
        }
