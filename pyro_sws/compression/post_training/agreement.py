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
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.weights.structures import value_of

NATS = 0.01  # that may be lost by default, in expectation of a prediction
MOVED = 1e-3  # of their variance, that outputs may move by where nobody says what the noise is


@dataclass(frozen=True, eq=False)
class Agreement:
    """Scores are expected KL(predictions of the network || those of another) in nats a target.

    Within the tolerance are those up to ``limit``; as a ``Judge``, whose reference is the network
    itself, at 0. ``batches`` are of inputs and what the network itself predicts.
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

    @property
    def targets_an_example(self) -> float:
        """The mean number of predictions that an example takes, such as one a token."""
        counts = [(value_of(targets).numel(), len(inputs)) for inputs, targets in self.batches]
        targets, examples = map(sum, zip(*counts, strict=True))
        return targets / examples

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


def agreement(model: Joint, batches: Iterable, name: str, tolerance: float | None) -> Agreement:
    """What copies of the network are held to: NATS, where there is no ``tolerance``.

    Where the likelihood's noise is not known, nats are in no units: then as many as it takes to
    move all outputs by MOVED of their variance.
    """
    if tolerance is None:
        known = not noise_is_unknown(model.likelihood)
        tolerance = NATS if known else _nats_moved(model, batches, name) or NATS
    return Agreement(model, batches, name, tolerance)


def noise_is_unknown(likelihood: Likelihood) -> bool:
    """Whether it is to be learned of targets, or is what it is where nothing is said."""
    return bool(likelihood.start()) or getattr(likelihood, "noise_precision", None) == 1.0


@torch.no_grad()
def _nats_moved(model: Joint, batches: Iterable, name: str) -> float:
    """KL(predictions || those around outputs that are sqrt(MOVED) deviations away), a target."""
    device, dtype = device_dtype(model)
    start = {site: model.start()[site] for site in model.likelihood.start()}
    likelihood = poutine.condition(model.likelihood, data=start)
    moved_batches = moved(batches, name, device, dtype)
    with forked_rng(0, device):
        own = torch.cat([model.outputs({}, inputs) for inputs, _ in moved_batches])
    away = own + (MOVED * own.var(0, correction=0)).sqrt()
    with pyro_step():
        lost = torch.distributions.kl_divergence(likelihood(own), likelihood(away))
        return float(lost.double().sum()) / likelihood(own).mode.numel()
