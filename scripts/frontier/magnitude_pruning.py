"""The baseline: magnitude pruning with a mask that can come back, then values by k-means.

No prior: what is left is made a posterior only so that the same refinement, rewriting and coder
take it on. Dynamic network surgery (Guo et al. 2016) with the density lowered as Zhu & Gupta (2017)
do, and the same soft targets.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from pyro_sws.inference.batches import Part, moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.isolation import forked_rng, pyro_step, reseed
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.structures import value_of
from pyro_sws.weights.weight_prior import MixturePrior

RAMP = 0.7  # of the epochs: then the density has reached its goal
EVERY = 20  # steps between two choices of the mask
FLOOR = 1e-3  # least deviation of a component, for clusters of one weight


@dataclass(frozen=True)
class Pruning:
    """How a network is pruned: the share of weights that is left, and plain training around it."""

    density: float
    levels: int = 8
    epochs: int = 20  # refinement comes on top
    rate: float = 1e-3


@dataclass(frozen=True, eq=False)
class Masked(Joint):
    """A joint whose network has some weights held at 0."""

    masks: Mapping[str, Tensor] = field(default_factory=dict)

    def outputs(self, weights: Mapping[str, Tensor], inputs: Part) -> Tensor:
        kept = {name: w * self.masks[name] for name, w in weights.items()}
        return super().outputs(kept, inputs)


def pruned(
    model: Joint, batches: Iterable, settings: Pruning, seed: int = 0
) -> tuple[Masked, Posterior]:
    """The pruned network as a masked joint, and its weights and k-means values as a posterior.

    All weights move all the time, those that are masked by the gradient that they would have at 0:
    one that grows past the threshold is back. The threshold is one for the whole network.
    """
    (group,) = model.groups.values()
    weights, mask = _trained(model, batches, settings, seed)
    flat = weights * mask
    prior = MixturePrior(_clusters(flat, settings.levels, seed))
    point = {weights_site(group.name): flat}
    posterior = Posterior(model.groups, point, {group.name: prior}, model.raw(), model.tau)
    fields = {name: getattr(model, name) for name in Joint.__dataclass_fields__}
    return Masked(**fields, masks=group.split(mask)), posterior


def _trained(
    model: Joint, batches: Iterable, settings: Pruning, seed: int
) -> tuple[Tensor, Tensor]:
    """Weights and mask, each (N,), after Adam on the error cost under a mask that may change."""
    (group,) = model.groups.values()
    device, dtype = device_dtype(model)
    weights = model.start()[weights_site(group.name)].clone().requires_grad_()
    mask = torch.ones_like(weights)
    optimiser = torch.optim.Adam([weights], lr=settings.rate)
    steps, taken = len(list(batches)) * settings.epochs, 0
    with forked_rng(seed, device):
        for epoch in range(settings.epochs):
            reseed(seed * 1_000_003 + epoch, device)
            for inputs, targets in moved(batches, "batches", device, dtype):
                progress = taken / steps
                if taken % EVERY == 0:
                    mask = largest(weights.detach(), density_at(progress, settings.density))
                optimiser.param_groups[0]["lr"] = (
                    settings.rate * 0.5 * (1 + np.cos(np.pi * progress))
                )
                straight = (weights * mask).detach() + (weights - weights.detach())
                with pyro_step():
                    outputs = model.outputs(group.split(straight), inputs)
                    cost = -model.observed(outputs, inputs).log_prob(value_of(targets)).mean()
                optimiser.zero_grad()
                cost.backward()
                optimiser.step()
                taken += 1
    return weights.detach(), mask


def density_at(progress: float, final: float) -> float:
    """The share of weights left at a progress in [0, 1): a cubic from 1 down (Zhu & Gupta 2017)."""
    left = max(0.0, 1 - progress / RAMP)
    return final + (1 - final) * left**3


def largest(weights: Tensor, density: float) -> Tensor:
    """1 for the share ``density`` of the weights that is largest in magnitude, 0 for the others."""
    count = max(1, round(density * len(weights)))
    threshold = weights.abs().topk(count).values[-1]
    return (weights.abs() >= threshold).to(weights)


def _clusters(flat: Tensor, levels: int, seed: int) -> Mixture:
    """A spike, and a component for each of k-means' clusters of the other weights."""
    values = flat[flat != 0].double().cpu().numpy()
    found = KMeans(levels, n_init=10, random_state=seed).fit(values[:, None])
    shares = np.bincount(found.labels_, minlength=levels) / len(flat)
    residuals = values - found.cluster_centers_[found.labels_, 0]
    spread = np.sqrt(np.bincount(found.labels_, residuals**2, levels) / (shares * len(flat)))
    means = np.concatenate([[0.0], found.cluster_centers_[:, 0]])
    deviations = np.concatenate([[FLOOR], np.maximum(spread, FLOOR)])
    proportions = np.concatenate([[1 - shares.sum()], shares])
    return Mixture(*(torch.from_numpy(x).to(flat) for x in (means, deviations**-2.0, proportions)))
