"""How well given weights predict: error cost, score and mistakes over a pass through data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.batches import moved
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.steps import pyro_step


@dataclass(frozen=True)
class Evaluation:
    """One pass of a network over data."""

    score: float  # in the likelihood's unit; lower is better
    error_cost_nats: float  # -log p(targets | weights), summed over the examples
    examples: int
    losses: float  # summed over the examples; the number of mistakes for a 0/1 loss


@torch.no_grad()
def evaluate(
    model: Joint,
    weights: Mapping[str, Tensor],
    batches: Iterable,
    point: Mapping[str, Tensor] | None = None,
    what: str = "test",
) -> Evaluation:
    """The network with these weights (tensor name -> value) on the batches, in eval mode.

    ``point`` gives the value of a learned noise. Raises ValueError for targets that cannot be.
    """
    likelihood = poutine.condition(model.likelihood, data=dict(point or {}))
    losses = cost = 0.0
    examples = 0
    for inputs, targets in moved(batches, what, *placement(model)):
        outputs = model.outputs(weights, inputs)
        model.likelihood.check(outputs, targets)
        with pyro_step():
            cost -= likelihood(outputs).log_prob(targets).double().sum().item()
        losses += model.likelihood.losses(outputs, targets).sum().item()
        examples += len(inputs)
    if examples == 0:
        raise ValueError(f"{what} has no batches; give at least one (inputs, targets) pair")
    return Evaluation(model.likelihood.score(losses / examples), cost, examples, losses)


def placement(model: Joint) -> tuple[torch.device, torch.dtype]:
    """Where the model computes, and in which dtype."""
    group = next(iter(model.groups.values()))
    return group.device, group.dtype
