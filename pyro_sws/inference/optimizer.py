"""Gradient steps on -ELBO: Adam with a rate for each kind of site, and what the steps cost."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyro_sws.inference.elbo import Elbo
from pyro_sws.inference.finite_steps import check_gradients, check_loss, not_finite_names
from pyro_sws.inference.fitting import Fitting, Rates

REMEDY = "lower the learning rates, or give the precisions a Gamma hyperprior"


@dataclass(frozen=True)
class Costs:
    """Means over the examples of a pass, scaled to the whole data, in nats."""

    negative_elbo_nats: float
    error_cost_nats: float
    examples: int  # of the pass


@dataclass
class Taken:
    """What the steps of a pass had so far, one entry a step."""

    losses: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sizes)

    def costs(self) -> Costs:
        losses, errors = _mean(self.losses, self.sizes), _mean(self.errors, self.sizes)
        return Costs(losses, errors, sum(self.sizes))


class Descent:
    """Steps on an Elbo's parameters, over all ranks of its model.

    The schedule of progress in [0, 1) multiplies every rate, and the annealing is of the objective
    at the same progress.
    """

    def __init__(self, elbo: Elbo, settings: Fitting):
        self.elbo, self.settings = elbo, settings
        self.ranks = elbo.model.ranks
        every = settings.hyperparameters_every
        self.parallel = self.ranks.parallel(elbo, some_unused=every > 1)
        self.optimiser = _adam(elbo, settings.rates, every)
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]

    def epoch(
        self,
        batches: Iterable,
        epoch: int,
        steps: int,
        taken: Taken,
        reached: Callable[[], None] = lambda: None,
    ) -> Costs:
        """One pass, of about ``steps`` steps, or the rest of it after those in ``taken``.

        ``reached`` is called after each. Raises FloatingPointError for a loss or a gradient that is
        not finite, which names step and batch, and the sites and tensors; ValueError for no
        batches.
        """
        for step, batch in enumerate(batches, len(taken)):
            so_far = epoch * steps + step
            progress = (epoch + min(step / steps, 1)) / self.settings.epochs
            factor = self.settings.factor(progress)
            for group, base in zip(self.optimiser.param_groups, self.base_rates, strict=True):
                group["lr"] = base * factor
            self.optimiser.zero_grad()
            frozen = (so_far + 1) % self.settings.hyperparameters_every > 0
            costs = self.parallel(*batch, frozen, self.settings.annealing.at(progress))
            loss, error = self.ranks.mean(torch.stack(costs).detach())
            where = f"epoch {epoch + 1}, step {step + 1} (batch {step + 1})"
            self._check_loss(loss, where, batch)
            costs[0].backward()
            check_gradients(self.elbo.sites, loss, where, batch, self.elbo.model.groups)
            self.optimiser.step()
            taken.losses.append(loss)
            taken.errors.append(error)
            taken.sizes.append(examples_of(batch))
            reached()
        if not len(taken):
            raise ValueError(
                f"batches is empty in epoch {epoch + 1}; give what can be walked through in every "
                "epoch, such as a list, a DataLoader or Batches(inputs, targets)"
            )
        return taken.costs()

    @torch.no_grad()
    def costs(self, batches: Iterable) -> Costs:
        """A pass without a step, with one draw of the guide a batch; raises as ``epoch``."""
        taken = Taken()
        for number, batch in enumerate(batches, 1):
            loss, error = self.ranks.mean(torch.stack(self.elbo(*batch)))
            self._check_loss(loss, f"batch {number}, where a fit sets out", batch)
            taken.losses.append(float(loss))
            taken.errors.append(float(error))
            taken.sizes.append(examples_of(batch))
        return taken.costs()

    def _check_loss(self, loss: float, where: str, batch: tuple) -> None:
        if not math.isfinite(loss):
            bad = not_finite_names(self.elbo.values(), self.elbo.model.groups)
            check_loss(loss, where, batch, REMEDY, bad)


def _adam(elbo: Elbo, rates: Rates, every: int) -> torch.optim.Adam:
    """Adam with one group a rate; what moves in every ``every``-th step only moves as far."""
    by_rate: dict[float, list[Tensor]] = {}
    for site, value in elbo.sites.items():
        rate = rates.of(site) * (every if elbo.freezes(site) else 1)
        by_rate.setdefault(rate, []).append(value)
    groups = [{"params": values, "lr": rate} for rate, values in by_rate.items()]
    device = next(iter(elbo.sites.values())).device
    return torch.optim.Adam(groups, fused=device.type in ("cpu", "cuda"))


def examples_of(batch: tuple) -> int:
    """How many a batch has; of a step without data, one, so that all such count alike."""
    return 1 if batch[0] is None else len(batch[0])


def _mean(values: list[float], sizes: list[int]) -> float:
    """Mean over the examples: the last batch may be smaller."""
    return math.fsum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)
