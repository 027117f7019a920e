"""Train a network without a prior, where a recipe names no trained weights. A driver."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pyro import poutine
from torch import nn

from pyro_sws.inference.batches import check_reiterable, moved
from pyro_sws.inference.finite_steps import check_gradients, check_loss, check_values
from pyro_sws.inference.fitting import SCHEDULES
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import outputs_of
from pyro_sws.inference.likelihoods import Likelihood, as_likelihood, fitted
from pyro_sws.inference.progress import Callback, Progress, check_callback
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.network import (
    check_network,
    copied,
    float_parameter,
    make_gradients_dense,
    plain,
)
from pyro_sws.weights.structures import value_of


@dataclass(frozen=True)
class Pretraining:
    """Adam on the mean error cost, in train mode: dropout and batch norm do their work here."""

    __pydantic_config__ = {"extra": "forbid"}
    epochs: int = 60  # passes through the training data
    batch_size: int = 128  # examples a step
    rate: float = 1e-3  # Adam's learning rate
    weight_decay: float = 0.0  # decoupled, as in AdamW
    schedule: Literal["constant", "cosine"] = "cosine"  # of the learning rate, over the epochs

    def __post_init__(self) -> None:
        check_fields(self)
        if self.epochs < 1 or self.batch_size < 1:
            given = f"{self.epochs} and {self.batch_size}"
            raise ValueError(f"epochs and batch_size must be at least 1, got {given}")
        if not 0 < self.rate < math.inf:
            raise ValueError(f"rate must be a positive number, got {self.rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be a number >= 0, got {self.weight_decay}")


def pretrain(
    net: nn.Module,
    batches: Iterable,
    likelihood: str | Likelihood | Callable[..., object],
    settings: Pretraining,
    *,
    seed: int = 0,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
) -> nn.Module:
    """A trained copy of ``net``, in eval mode; ``callback`` is told of each epoch.

    It is a copy of the module inside, where the network is wrapped. Raises TypeError for what is no
    module, ValueError for a network without parameters or that no file could hold (see
    ``check_network``) and no batches, FloatingPointError where the cost, a gradient or a
    parameter stops being finite, with its name, the epoch and the step, which is the batch.
    """
    check_reiterable(batches, "batches")
    check_callback(callback)
    likelihood = as_likelihood(likelihood)
    # A learned noise keeps its initial value here: the fit learns it.
    noise = {site: torch.tensor(value) for site, value in likelihood.start().items()}
    conditioned = poutine.condition(partial(fitted, likelihood), data=noise)
    net = plain(net)
    check_network(net)  # before the training, not after it
    own = copied(net).to(device).train()
    make_gradients_dense(own)
    if next(own.parameters(), None) is None:
        raise ValueError(f"{type(net).__name__} has no parameters to train")
    first = float_parameter(own)
    optimiser = torch.optim.AdamW(
        own.parameters(), lr=settings.rate, weight_decay=settings.weight_decay
    )
    parameters = dict(own.named_parameters())
    remedy = f"lower pretraining.rate, now {settings.rate:g}, or mend the data"
    with forked_rng(seed, first.device):
        for epoch in range(settings.epochs):
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * SCHEDULES[settings.schedule](epoch / settings.epochs)
            costs, examples = [], 0
            for step, (inputs, targets) in enumerate(
                moved(batches, "batches", first.device, first.dtype), 1
            ):
                outputs = outputs_of(own, {}, inputs, likelihood)
                wanted = value_of(targets)
                likelihood.check(outputs, wanted)
                with pyro_step():
                    cost = -conditioned(outputs).log_prob(wanted).sum()
                costs.append(float(cost.detach()))
                where = f"epoch {epoch + 1} of pre-training, step {step} (batch {step})"
                batch = inputs, targets
                check_loss(costs[-1], where, batch, remedy, what="error cost")
                optimiser.zero_grad()
                (cost / len(inputs)).backward()
                check_gradients(parameters, costs[-1], where, batch)
                optimiser.step()
                examples += len(inputs)
            if not examples:
                raise ValueError("batches is empty; give at least one (inputs, targets) pair")
            mean = math.fsum(costs) / examples
            check_values(parameters, where, remedy)
            if callback is not None:
                row = {"epoch": epoch + 1, "error_cost_nats_per_example": mean}
                callback(Progress("pretrain", epoch + 1, settings.epochs, row))
    return own.eval()
