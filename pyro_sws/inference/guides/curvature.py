"""Curvature of the costs in each weight: of the error cost, Gauss-Newton's, and of the prior."""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.batches import Part, moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.of_weights import OfWeights
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.structures import value_of
from pyro_sws.weights.weight_prior import WeightPrior

BLOCK = 1 << 16  # weights whose second derivatives are in memory at once, with all components


def error_curvature(
    model: Joint, point: Mapping[str, Tensor], batches: Iterable, examples: int
) -> dict[str, Tensor]:
    """Site name -> diagonal (N,) of sum_n J_n' H_n J_n over the whole data, in nats.

    J_n is the network's Jacobian at example n, H_n the Hessian of its -log p(target | outputs) in
    the outputs: the generalised Gauss-Newton matrix, exact for linear networks (Schraudolph 2002).
    From about ``examples`` examples, as many of every batch as it has a share of the data, scaled
    up; one by one, with a backward pass for each output. Of a curvature it is its own.
    """
    if isinstance(model.likelihood, OfWeights):
        return _given_curvature(model, model.likelihood, point)
    flats = {
        weights_site(name): point[weights_site(name)].detach().reshape(-1).requires_grad_()
        for name in model.groups
    }
    totals, used = {site: torch.zeros_like(flat) for site, flat in flats.items()}, 0
    for inputs, targets in moved(batches, "batches", *device_dtype(model)):
        count = min(math.ceil(examples * len(inputs) / model.data_size), len(inputs))
        used += count
        for i in range(count):
            x, y = inputs[i : i + 1], targets[i : i + 1]
            weights = {
                tensor: value
                for name, group in model.groups.items()
                for tensor, value in group.split(flats[weights_site(name)]).items()
            }
            outputs = model.outputs(weights, x)
            for direction in _root(model, point, outputs.detach(), x, y):
                slopes = torch.autograd.grad(
                    outputs,
                    list(flats.values()),
                    direction.view_as(outputs),
                    retain_graph=True,
                    materialize_grads=True,
                )
                for total, slope in zip(totals.values(), slopes, strict=True):
                    total.addcmul_(slope, slope)
    return {site: total * (model.data_size / used) for site, total in totals.items()}


def _given_curvature(
    model: Joint, likelihood: OfWeights, point: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    totals = {}
    for name, group in model.groups.items():
        tensors = group.split(point[weights_site(name)].detach().reshape(-1))
        diagonals = {tensor: likelihood.diagonal(tensor, w) for tensor, w in tensors.items()}
        totals[weights_site(name)] = model.data_size * group.flatten(diagonals)
    return totals


def prior_curvature(prior: WeightPrior, flat: Tensor) -> Tensor:
    """-d^2 log p(w) / dw^2 weight by weight (N,); negative between a mixture's components."""
    curvature = torch.empty_like(flat)
    for first in range(0, len(flat), BLOCK):
        part = slice(first, min(first + BLOCK, len(flat)))
        w = flat[part].detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(prior.log_prob(w, part), w, create_graph=True)
        # Weights are independent: the Hessian is its diagonal, and its product with ones that.
        (curvature[part],) = torch.autograd.grad(-slope.sum(), w)
    return curvature


def second_derivatives(function: Callable) -> Callable:
    """The Hessian of a scalar function in its first argument, a vector (D,) -> (D, D)."""
    # Not torch.func.hessian: forward mode, when first used, calls the deprecated torch.jit.script.
    return torch.func.jacrev(torch.func.jacrev(function))


def _root(model: Joint, point: Mapping[str, Tensor], outputs: Tensor, x: Part, y: Part) -> Tensor:
    """Rows r_k with sum_k r_k r_k' the Hessian of -log p(y | outputs), without negative parts."""

    def cost(flat: Tensor) -> Tensor:
        observed = poutine.condition(model.observed, data=dict(point))
        return -observed(flat.view_as(outputs), x).log_prob(value_of(y)).sum()

    with pyro_step():
        hessian = second_derivatives(cost)(outputs.reshape(-1))
    values, vectors = torch.linalg.eigh(hessian)
    kept = values > 1e-6 * values.abs().max()
    return (vectors[:, kept] * values[kept].sqrt()).T
