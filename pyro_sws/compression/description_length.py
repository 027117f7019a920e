"""The description length of a fit: its error cost, and the bits of its real file. A driver.

The two are weighed as in the fit. Merging by description and refinement make the sum short. It
needs the data and the bytes, which no zone has both of.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.encodings import Encodings
from pyro_sws.compression.move_estimates import Sensitivity
from pyro_sws.inference.batches import Batch
from pyro_sws.inference.evaluation import (
    STAGES,
    device_dtype,
    error_cost,
    error_gradient,
    not_finite,
)
from pyro_sws.inference.finite import NotFiniteError
from pyro_sws.inference.fit import as_weights
from pyro_sws.inference.isolation import reseed
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import quantize

STEP = 0.1  # between the two gradients of a curvature, in units of a tensor's root mean square


@dataclass(frozen=True, eq=False)
class Measured:
    """A posterior, its quantised network, and how long its description is.

    A network whose outputs are not finite describes nothing: its length is infinite.
    """

    posterior: Posterior
    quantized: Quantized
    nats: float


@dataclass(frozen=True, eq=False)
class Description:
    """The length to be made short: error cost + tau ln 2 bits of the posterior's file, in nats."""

    model: Joint
    batches: Sequence[Batch]  # a sample; its error cost is scaled to the whole data
    tau: float
    codebook_dtype: str = "float16"
    seed: int = 0  # of networks that draw
    encodings: Encodings = field(default_factory=Encodings)

    @property
    def nats_per_bit(self) -> float:
        return self.tau * math.log(2)

    @property
    def factor(self) -> float:
        """How many training examples each one of the batches stands for."""
        return self.model.data_size / sum(len(inputs) for inputs, _ in self.batches)

    def first(self, posterior: Posterior) -> Measured:
        """The description to set out from. Raises NotFiniteError where it describes nothing."""
        measured = self.measure(posterior)
        if not math.isfinite(measured.nats):
            raise self.not_finite(measured)
        return measured

    def not_finite(self, measured: Measured) -> NotFiniteError:
        """Why a length is infinite."""
        reseed(self.seed, device_dtype(self.model)[0])
        weights = as_weights(self.model, measured.quantized.dequantize())
        found = not_finite(self.model, weights, self.batches, measured.posterior.point)
        return found.error("description, of a sample of train", STAGES["quantized"])

    def measure(self, posterior: Posterior, known: Measured | None = None) -> Measured:
        """Quantise, run and encode; where ``known`` is the same network, only quantise."""
        quantized = quantize(posterior, self.codebook_dtype)
        if known is not None and quantized == known.quantized:
            return replace(known, posterior=posterior)
        reseed(self.seed, device_dtype(self.model)[0])
        weights = as_weights(self.model, quantized.dequantize())
        cost = error_cost(self.model, weights, self.batches, posterior.point)
        if not math.isfinite(cost):
            return Measured(posterior, quantized, math.inf)
        nats = self.factor * cost + self.nats_per_bit * 8 * self.encodings.length(quantized)
        return Measured(posterior, quantized, nats)

    def sensitivity(self, measured: Measured) -> Sensitivity:
        """How the error cost reacts to each weight: its gradient, and one curvature a tensor.

        The curvature is the Hessian's mean diagonal over the tensor's nonzero weights: Hutchinson's
        estimate of the trace, from two gradients.
        """
        weights = as_weights(self.model, measured.quantized.dequantize())
        generator = torch.Generator().manual_seed(self.seed)
        steps = {name: _signs(w, generator) * _size(w) for name, w in weights.items()}
        here, there = (
            error_gradient(self.model, at, self.batches, measured.posterior.point)
            for at in (weights, {name: w + steps[name] for name, w in weights.items()})
        )
        curvature = {
            name: _ratio(((there[name] - here[name]) * step).sum(), step.square().sum())
            for name, step in steps.items()
        }
        return Sensitivity(
            {name: self.factor * slope for name, slope in here.items()},
            {name: (self.factor * c).expand_as(weights[name]) for name, c in curvature.items()},
        )


def _signs(weights: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 where a weight is not 0: most zeros must stay, or it would be another network."""
    signs = 2.0 * torch.randint(2, weights.shape, generator=generator) - 1
    return signs.to(weights) * (weights != 0)


def _size(weights: Tensor) -> Tensor:
    count = (weights != 0).sum().clamp_min(1)
    return STEP * (weights.square().sum() / count).sqrt()


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """The quotient, or 0 where it is negative or ``below`` is 0."""
    return (above / below).clamp_min(0) if below > 0 else torch.zeros_like(above)
