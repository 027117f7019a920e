"""How far a network's predictions are from those of the network it was made of, without labels."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyro.poutine as poutine
import torch
from torch import Tensor

from pyro_sws.inference.batches import moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint

NATS = 0.01  # that may be lost by default, in expectation of a prediction


@dataclass(frozen=True, eq=False)
class Agreement:
    """Scores are expected KL(predictions of the network || those of another) in nats a target.

    Within the tolerance are those up to ``limit``; as a ``Judge``, whose reference is the network
    itself, at 0.
    """

    model: Joint
    batches: Iterable
    name: str  # of the data
    tolerance: float = NATS
    reference: float = 0.0
    unit: str = "nats"

    @property
    def limit(self) -> float:
        return self.tolerance

    @torch.no_grad()
    def score(self, weights: Mapping[str, Tensor], point: Mapping[str, Tensor]) -> float:
        """Of the network with these weights; infinite where its outputs are not finite."""
        nats, targets = 0.0, 0
        likelihood = poutine.condition(self.model.likelihood, data=dict(point))
        device, dtype = device_dtype(self.model)
        for inputs, _ in moved(self.batches, self.name, device, dtype):
            with pyro_step(), forked_rng(0, device):
                own, other = (self.model.outputs(w, inputs) for w in ({}, weights))
                lost = torch.distributions.kl_divergence(likelihood(own), likelihood(other))
            if not lost.isfinite().all():
                return math.inf
            nats += float(lost.double().sum())
            targets += likelihood(own).mode.numel()
        return nats / max(1, targets)
