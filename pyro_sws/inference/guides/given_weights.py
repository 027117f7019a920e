"""The whole model's hyperparameters given the weights: all groups and the noise, for Laplace.

``Hyperposterior`` is that of one group, binned so that a network's size does not matter to chains.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution

from pyro_sws.inference.at_point import run_at, unconstrained_sites
from pyro_sws.inference.batches import moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.guides.curvature import second_derivatives
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.density.log_density import density_backend
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import WeightPrior

# Numbers that a block's second derivatives may have: weights times components times directions.
LARGEST_BLOCK = 1 << 20


class GivenWeights:
    """-log p(hyperparameters | weights, data), up to a constant, as a function of a vector u (D,).

    That is -log p(weights | hyperparameters) - log p(hyperparameters) - log |d hyperparameters /
    du|; and, for a learned noise, the error cost given the network's outputs, over tau.
    """

    def __init__(self, model: Joint, point: Mapping[str, Tensor], batches: Iterable):
        self.model = model
        self.groups = {n: replace(g, dtype=torch.float64) for n, g in model.groups.items()}
        self.flat = {n: point[weights_site(n)].reshape(-1).double() for n in model.groups}
        self.seen = _outputs(model, point, batches) if model.likelihood.start() else None
        values = {site: value.double() for site, value in point.items()}
        self.space, self.start = unconstrained_sites(self._sampled, values)

    def potential(self, u: Tensor) -> Tensor:
        """Its value at u in nats: a scalar, differentiable."""
        with density_backend("portable"):  # too few evaluations to repay a compilation
            own = self._own(u)
            weights = [self._of_weights(u, name, slice(0, len(w))) for name, w in self.flat.items()]
            return own + torch.stack(weights).sum()

    def hessian(self, u: Tensor) -> Tensor:
        """(D, D): the sum of those of blocks of weights, which are independent given u."""
        with pyro_step(), poutine.block():
            total = second_derivatives(self._own)(u)
            for name, part in self._blocks(u):
                total = total + second_derivatives(self._of_weights)(u, name, part)
        return (total + total.T) / 2

    def _blocks(self, u: Tensor) -> Iterator[tuple[str, slice]]:
        for name, flat in self.flat.items():
            components = len(self._density(u, name).mixture.means)
            size = max(1, LARGEST_BLOCK // (components * len(u)))
            for first in range(0, len(flat), size):
                yield name, slice(first, min(first + size, len(flat)))

    def _own(self, u: Tensor) -> Tensor:
        """All of it but -log p(weights | hyperparameters)."""
        values, jacobian = self.space.with_jacobian(u)
        observed, log_probs = run_at(self._sampled, values)
        energy = -jacobian
        for log_prob in log_probs:
            energy = energy - log_prob
        if self.seen is None or observed is None:
            return energy
        return energy - observed.log_prob(self.seen[1]).sum() / self.model.tau

    def _of_weights(self, u: Tensor, name: str, part: slice) -> Tensor:
        return -self._density(u, name).log_prob(self.flat[name][part], part)

    def _density(self, u: Tensor, name: str) -> WeightPrior:
        """Of one group's weights."""
        prior = partial(self.model.priors[name], self.groups[name])
        return run_at(prior, self.space.constrained(u))[0]

    def _sampled(self) -> Distribution | None:
        """All that samples hyperparameters; the targets' density, where its noise is learned."""
        observed = None if self.seen is None else self.model.likelihood(self.seen[0])
        for name, group in self.groups.items():
            self.model.priors[name](group)
        return observed


@torch.no_grad()
def _outputs(model: Joint, point: Mapping[str, Tensor], batches: Iterable) -> tuple[Tensor, Tensor]:
    """The network's outputs at the point's weights, and the targets, of all examples."""
    weights = {
        tensor: value
        for name, group in model.groups.items()
        for tensor, value in group.split(point[weights_site(name)]).items()
    }
    pairs = [
        (model.outputs(weights, x), y) for x, y in moved(batches, "batches", *device_dtype(model))
    ]
    outputs, targets = (torch.cat(part) for part in zip(*pairs, strict=True))
    return outputs.double(), targets.double() if targets.is_floating_point() else targets
