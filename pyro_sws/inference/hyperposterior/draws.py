"""Draws of a group's hyperparameters given its weights, at tau = 1, however they were made."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypedDict

import numpy as np
import torch
from torch import Tensor

from pyro_sws.inference.hyperposterior.target import Hyperposterior
from pyro_sws.weights.component_draws import ComponentDraws

CHECKED = 32  # draws at which the bins are compared with the weights


@dataclass(frozen=True, eq=False)
class HyperDraws:
    """Draws of p(hyperparameters | weights), by chain; in double precision."""

    vectors: Tensor  # (chains, draws, D) unconstrained, as the target takes them
    sites: Mapping[str, Tensor]  # site -> (chains, draws, ...), in its own support
    components: ComponentDraws  # of the mixture, as they were sampled: see ``ordered``
    log_density: Tensor  # (chains, draws) of the vectors in nats, up to a constant
    # Deviation over draws of what the bins change in the log-density, in nats: far below 1, the
    # draws are those of the exact posterior.
    binning_error: float
    method: ClassVar[str]

    @property
    def stats(self) -> dict[str, Tensor]:
        """What is known of each draw, by ArviZ's names; (chains, draws)."""
        return {"lp": self.log_density}


class AtVectors(TypedDict):
    """HyperDraws' fields that follow from its vectors."""

    vectors: Tensor
    sites: Mapping[str, Tensor]
    components: ComponentDraws
    binning_error: float


def at_vectors(target: Hyperposterior, u: Tensor) -> AtVectors:
    """HyperDraws' fields that follow from its vectors u (chains, draws, D)."""
    flat = u.flatten(0, 1)
    mixtures = [target.mixture(row) for row in flat]
    means, deviations, proportions = (
        torch.stack([getattr(m, name) for m in mixtures]).unflatten(0, u.shape[:2])
        for name in ("means", "deviations", "proportions")
    )
    still = (means == means[0, 0]).all(0).all(0)
    fixed = torch.ones_like(still) if target.fixed_levels else still
    some = flat[:: max(1, len(flat) // CHECKED)]
    return {
        "vectors": u,
        "sites": target.constrained(u),
        "components": ComponentDraws(means, deviations, proportions, fixed),
        "binning_error": float(np.std([target.binning_error(row) for row in some])),
    }
