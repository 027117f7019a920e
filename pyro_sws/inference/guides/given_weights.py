"""The hyperparameters' density given the weights: one flat vector, unconstrained, in double."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.batches import moved
from pyro_sws.inference.evaluation import placement
from pyro_sws.inference.guides.curvature import second_derivatives
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.unconstrained import unconstrained
from pyro_sws.weights.density.log_density import using
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import WeightPrior

# Numbers that a block's second derivatives may have: weights times components times directions.
LARGEST_BLOCK = 1 << 20


class GivenWeights:
    """-log p(hyperparameters | weights, data), up to a constant, as a function of a vector u.

    That is -log p(weights | hyperparameters) - log p(hyperparameters) - log |d hyperparameters /
    du|; and, for a learned noise, the error cost given the network's outputs, over tau.
    """

    def __init__(self, model: Joint, point: Mapping[str, Tensor], batches: Iterable):
        self.model = model
        self.groups = {n: replace(g, dtype=torch.float64) for n, g in model.groups.items()}
        self.flat = {n: point[weights_site(n)].reshape(-1).double() for n in model.groups}
        self.seen = _outputs(model, point, batches) if model.likelihood.start() else None
        values = {site: value.double() for site, value in point.items()}
        with pyro_step(), torch.no_grad():
            traces = list(self._traces(values))
        sites = {
            name: site["fn"]
            for trace in traces
            for name, site in trace.nodes.items()
            if site["type"] == "sample" and name in values
        }
        self.space, self.start = unconstrained(sites, values)

    def energy_and_gradient(self, u: Tensor) -> tuple[float, Tensor]:
        """The function's value and slope at u (D,)."""
        at = u.detach().requires_grad_()
        with pyro_step(), using("portable"):  # too few evaluations to repay a compilation
            own = self._own(at)
            weights = [
                self._of_weights(at, name, slice(0, len(w))) for name, w in self.flat.items()
            ]
            energy = own + torch.stack(weights).sum()
        (gradient,) = torch.autograd.grad(energy, at)
        return float(energy.detach()), gradient

    def hessian(self, u: Tensor) -> Tensor:
        """(D, D): the sum of those of blocks of weights, which are independent given u."""
        with pyro_step():
            total = second_derivatives(self._own)(u)
            for name, part in self._blocks(u):
                total = total + second_derivatives(self._of_weights)(u, name, part)
        return (total + total.T) / 2

    def _blocks(self, u: Tensor) -> Iterator[tuple[str, slice]]:
        densities = self._densities(self.space.constrained(u))
        for name, flat in self.flat.items():
            size = max(1, LARGEST_BLOCK // (len(densities[name].mixture.means) * len(u)))
            for first in range(0, len(flat), size):
                yield name, slice(first, min(first + size, len(flat)))

    def _own(self, u: Tensor) -> Tensor:
        """All of it but -log p(weights | hyperparameters)."""
        values, jacobian = self.space.with_jacobian(u)
        energy = -jacobian
        for trace in self._traces(values):
            for name, site in trace.nodes.items():
                if name in values:
                    energy = energy - site["fn"].log_prob(site["value"]).sum()
        if self.seen is None:
            return energy
        outputs, targets = self.seen
        density = poutine.condition(self.model.likelihood, data=values)(outputs)
        return energy - density.log_prob(targets).sum() / self.model.tau

    def _of_weights(self, u: Tensor, name: str, part: slice) -> Tensor:
        density = self._densities(self.space.constrained(u))[name]
        return -density.log_prob(self.flat[name][part], part)

    def _densities(self, values: Mapping[str, Tensor]) -> dict[str, WeightPrior]:
        return {
            name: poutine.condition(self.model.priors[name], data=dict(values))(group)
            for name, group in self.groups.items()
        }

    def _traces(self, values: Mapping[str, Tensor]) -> Iterator[Any]:
        """A trace of each part of the model that samples hyperparameters."""
        outputs = next(iter(self.flat.values())).new_zeros(1, 1)
        asked: list[tuple[Any, Any]] = [(self.model.likelihood, outputs)]
        asked += [(self.model.priors[name], group) for name, group in self.groups.items()]
        for sampled, argument in asked:
            conditioned = poutine.condition(sampled, data=dict(values))
            yield poutine.trace(conditioned).get_trace(argument)


@torch.no_grad()
def _outputs(model: Joint, point: Mapping[str, Tensor], batches: Iterable) -> tuple[Tensor, Tensor]:
    """The network's outputs at the point's weights, and the targets, of all examples."""
    weights = {
        tensor: value
        for name, group in model.groups.items()
        for tensor, value in group.split(point[weights_site(name)]).items()
    }
    pairs = [
        (model.outputs(weights, x), y) for x, y in moved(batches, "batches", *placement(model))
    ]
    outputs, targets = (torch.cat(part) for part in zip(*pairs, strict=True))
    return outputs.double(), targets.double() if targets.is_floating_point() else targets
