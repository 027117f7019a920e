"""A run of the baseline as one row, beside those of recipes: pruned, clustered, refined, coded."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from magnitude_pruning import Pruning, pruned
from recipe_runs import Run, error_percent

import pyro_sws as sws
from pyro_sws.inference.batches import Batches
from pyro_sws.recipe import Settings
from pyro_sws.refinement import Refinement


@dataclass(frozen=True)
class PrunedRun(Run):
    """The recipe's network, data, likelihood and refinement, with pruning in the prior's place."""

    pruning: Pruning = Pruning(density=0.02)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "pruning": asdict(self.pruning)}

    def _fitted(self, path: Path, data_dir: str | None) -> dict[str, Any]:
        recipe, data, net, train = self._material(data_dir)
        settings = recipe.settings
        began = time.process_time()
        size, tau = len(train.inputs), settings.tau
        model = sws.joint(
            net,
            recipe.prior,
            recipe.likelihood,
            size,
            tau=tau,
            prior_subsample=settings.prior_subsample,
        )
        masked, posterior = pruned(model, train, self.pruning, self.seed)
        refinement = settings.refinement or Refinement()
        refined = sws.refine(masked, posterior, train, refinement, seed=self.seed)
        quantized, data_file = self._packed(net, settings, refined.posterior, train)
        cpu_seconds = round(time.process_time() - began, 1)
        decoded = sws.load(data_file, into=net)
        split = data[self.scored]
        return {
            "error_before_percent": error_percent(net.eval(), {}, *split),
            "error_unsnapped_percent": error_percent(net.eval(), posterior.weights, *split),
            "error_percent": error_percent(decoded.eval(), {}, *split),
            "nonzero_percent": 100 * quantized.nonzero / sum(p.numel() for p in net.parameters()),
            "file_bytes": len(data_file),
            "cpu_seconds": cpu_seconds,
        }

    def _packed(self, net, settings: Settings, posterior: sws.Posterior, train: Batches):
        """What the file holds, and the file."""
        quantized = sws.quantize(posterior, settings.codebook_dtype)
        promise = settings.nonnegative_inputs
        held = sws.rewrite(net, quantized, example=train.inputs[:256], nonnegative_inputs=promise)
        known = sws.architecture(net) if settings.fingerprint else None
        return held.quantized, sws.encode(held.quantized, architecture=known)
