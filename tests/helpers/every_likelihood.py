"""A spec of every row of LIKELIHOODS, with outputs that it takes and targets under them."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.likelihoods import LIKELIHOODS, FromDistribution, Loss

SHAPES = [(5, 3), (5, 2, 3), (5, 2, 4, 3)]  # of outputs: alone, in sequences, in images


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """A loss of one's own: (B, ...) of each output."""
    return (outputs - targets).square()


def poisson(outputs: Tensor) -> dist.TorchDistribution:
    """A distribution of one's own."""
    return dist.Poisson(outputs.exp())


FUNCTIONS: dict[str, Any] = {"loss": Loss(squared), "from_distribution": FromDistribution(poisson)}
SPECS: dict[str, Any] = {
    name: FUNCTIONS[name] if name in FUNCTIONS else family() for name, family in LIKELIHOODS.items()
}


def outputs(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def outputs_of(name: str, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Outputs of a form that this likelihood takes, of that shape but for the last dimension."""
    return outputs((*shape[:-1], 2) if name == "heteroscedastic_gaussian" else shape, seed)


def targets_of(name: str, out: Tensor) -> Tensor:
    """Targets drawn under the outputs; beside them where none can be drawn."""
    if name == "loss":
        return out + outputs(tuple(out.shape), seed=1)
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        torch.manual_seed(1)
        return SPECS[name](out).sample()
