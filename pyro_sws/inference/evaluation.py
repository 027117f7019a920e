"""How well given weights predict: error cost, score and mistakes over a pass through data."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.batches import moved
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import Likelihood

DeviceDtype = tuple[torch.device, torch.dtype]


@dataclass(frozen=True)
class Evaluation:
    """One pass of a network over data."""

    score: float  # in the likelihood's unit; lower is better
    error_cost_nats: float  # -log p(targets | weights), summed over the examples
    examples: int
    mistakes: int | None  # None unless every example's loss is 0 or 1
    classes: int  # how many labels a target may have, where it is a label


def evaluate(
    model: Joint,
    weights: Mapping[str, Tensor],
    batches: Iterable,
    point: Mapping[str, Tensor] | None = None,
    what: str = "test",
) -> Evaluation:
    """The model's network with these weights (tensor name -> value); see evaluate_network."""
    outputs = partial(model.outputs, weights)
    return evaluate_network(outputs, model.likelihood, batches, device_dtype(model), point, what)


@torch.no_grad()
def evaluate_network(
    outputs_of: Callable[[Tensor], Tensor],
    likelihood: Likelihood,
    batches: Iterable,
    device_dtype: DeviceDtype,
    point: Mapping[str, Tensor] | None = None,
    what: str = "test",
) -> Evaluation:
    """A network, or any function of inputs (B, ...), on the batches as ``device_dtype`` says.

    ``point`` gives the value of a learned noise. Raises ValueError for targets that cannot be.
    """
    conditioned = poutine.condition(likelihood, data=dict(point or {}))
    total = cost = 0.0
    examples, classes, one_or_none = 0, 0, True
    for inputs, targets in moved(batches, what, *device_dtype):
        with pyro_step():  # functional_call swaps the weights in for a moment: one thread at a time
            outputs = outputs_of(inputs)
            likelihood.check(outputs, targets)
            cost -= conditioned(outputs).log_prob(targets).double().sum().item()
        losses = likelihood.losses(outputs, targets)
        one_or_none = one_or_none and bool(((losses == 0) | (losses == 1)).all())
        total += losses.sum().item()
        examples += len(inputs)
        classes = outputs.shape[-1] if outputs.dim() > targets.dim() else 2
    if examples == 0:
        raise ValueError(f"{what} has no batches; give at least one (inputs, targets) pair")
    mistakes = round(total) if one_or_none else None
    return Evaluation(likelihood.score(total / examples), cost, examples, mistakes, classes)


def device_dtype(model: Joint) -> DeviceDtype:
    """Where the model computes, and in which dtype."""
    group = next(iter(model.groups.values()))
    return group.device, group.dtype


def error_cost(
    model: Joint, weights: Mapping[str, Tensor], batches: Iterable, point: Mapping[str, Tensor]
) -> float:
    """-log p(targets | weights) in nats, summed over the examples, as a fit counts it.

    With soft targets where the likelihood has any; ``evaluate`` is of the targets alone.
    """
    with torch.no_grad():
        costs = _costs(model, weights, batches, point)
        return sum(float(cost.double()) for cost in costs)


def error_gradient(
    model: Joint, weights: Mapping[str, Tensor], batches: Iterable, point: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The gradient of ``error_cost`` in these weights; by name."""
    leaves = {name: w.detach().clone().requires_grad_() for name, w in weights.items()}
    with torch.enable_grad():
        for cost in _costs(model, leaves, batches, point):
            cost.backward()
    return {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in leaves.items()}


def _costs(
    model: Joint, weights: Mapping[str, Tensor], batches: Iterable, point: Mapping[str, Tensor]
) -> Iterator[Tensor]:
    observed = poutine.condition(model.observed, data=dict(point))
    for inputs, targets in moved(batches, "batches", *device_dtype(model)):
        with pyro_step():
            outputs = model.outputs(weights, inputs)
            cost = -observed(outputs, inputs).log_prob(targets).sum()
        yield cost
