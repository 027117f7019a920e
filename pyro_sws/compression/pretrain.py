"""Train a network without a prior, where a recipe names no trained weights. A driver."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_sws.inference.batches import check_reiterable, moved
from pyro_sws.inference.checkpoint import (
    Stage,
    StageState,
    adam_state,
    fill,
    generators,
    named,
    set_adam_state,
    set_generators,
)
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
    stage: Stage = Stage(),  # noqa: B008  (keeps nothing)
) -> nn.Module:
    """A trained copy of ``net``, in eval mode; ``callback`` is told of each epoch.

    ``stage`` is where it keeps how far it got, and goes on from; see ``Stage``.

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
    progress = _Pretrained(own, optimiser, stage, settings.epochs)
    with forked_rng(seed, first.device):
        progress.resume()
        for epoch in range(progress.epoch, settings.epochs):
            where = f"epoch {epoch + 1} of pre-training"
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * SCHEDULES[settings.schedule](epoch / settings.epochs)
            for inputs, targets in progress.rest_of(
                moved(batches, "batches", first.device, first.dtype)
            ):
                outputs = outputs_of(own, {}, inputs, likelihood)
                wanted = value_of(targets)
                likelihood.check(outputs, wanted)
                with pyro_step():
                    cost = -conditioned(outputs).log_prob(wanted).sum()
                own_cost, step = float(cost.detach()), len(progress.costs) + 1
                at, batch = f"{where}, step {step} (batch {step})", (inputs, targets)
                check_loss(own_cost, at, batch, remedy, what="error cost")
                optimiser.zero_grad()
                (cost / len(inputs)).backward()
                check_gradients(parameters, own_cost, at, batch)
                optimiser.step()
                progress.step(own_cost, len(inputs))
            if not progress.examples:
                raise ValueError("batches is empty; give at least one (inputs, targets) pair")
            mean = math.fsum(progress.costs) / progress.examples
            check_values(parameters, f"{where}, its last step", remedy)
            progress.epoch_ended()
            if callback is not None:
                row = {"epoch": epoch + 1, "error_cost_nats_per_example": mean}
                callback(Progress("pretrain", epoch + 1, settings.epochs, row))
    return own.eval()


class _Pretrained:
    """How far pre-training got: kept, and taken up again.

    A pass is begun anew with the generators that it began with, and goes on behind the batches that
    were taken with those that it had there.
    """

    def __init__(self, net: nn.Module, optimiser: torch.optim.Optimizer, stage: Stage, epochs: int):
        self.net, self.optimiser, self.stage, self.epochs = net, optimiser, stage, epochs
        self.device = float_parameter(net).device
        self.epoch, self.examples = 0, 0
        self.costs: list[float] = []  # of this epoch, by step
        self._found: StageState | None = None
        self._began: dict[str, Tensor] = {}  # generators where this epoch did

    def resume(self) -> None:
        """Go to where the stage was left, if it has been at all."""
        found = self.stage.load()
        if found is None:
            return
        fill(self._tensors(), found.part("network"))
        set_adam_state(self.optimiser, dict(self.net.named_parameters()), found)
        self.epoch, self.examples = found.rest["done"], found.rest["examples"]
        self.costs = list(found.rest["costs"])
        self._found = found
        set_generators(StageState(found.part("began"), {}), self.device)

    def rest_of(self, batches: Iterable) -> Iterator:
        """What is left of a pass."""
        self._began = generators(self.device)
        walk = iter(batches)
        for _ in self.costs:
            next(walk, None)
        if self._found is not None and self.costs:
            set_generators(self._found, self.device)
        self._found = None
        return walk

    def step(self, cost: float, examples: int) -> None:
        """A step was taken."""
        self.costs.append(cost)
        self.examples += examples
        self.stage.reached(self._state)

    def epoch_ended(self) -> None:
        """A pass was finished."""
        self.epoch, self.examples, self.costs = self.epoch + 1, 0, []
        self._began = generators(self.device)
        self.stage.reached(self._state, ended=self.epoch == self.epochs)

    def _tensors(self) -> dict[str, Tensor]:
        return {**dict(self.net.named_parameters()), **dict(self.net.named_buffers())}

    def _state(self) -> StageState:
        tensors = {
            **named("network", self._tensors()),
            **adam_state(self.optimiser, dict(self.net.named_parameters())),
            **named("began", self._began),
            **generators(self.device),
        }
        rest = {"done": self.epoch, "total": self.epochs}
        return StageState(tensors, {**rest, "examples": self.examples, "costs": self.costs})
