"""Laplace's approximation: a Gaussian of the objective's curvature around a fitted point."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.guides.curvature import error_curvature, prior_curvature
from pyro_sws.inference.guides.given_weights import GivenWeights
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.newton import newton_mode
from pyro_sws.weights.posterior import (
    DRAWS,
    WEIGHT_DRAWS,
    Posterior,
    Spread,
    check_draws,
    weights_site,
)

MOST_HYPERPARAMETERS = 1000  # a dense Hessian has their square, and costs a pass for each


@dataclass(frozen=True)
class Laplace:
    """Curvature of -log p = error cost / tau + complexity cost: the tempered posterior's, in nats.

    The hyperparameters, given the weights: mode and Hessian in unconstrained space, Jacobians
    included, where the delta guide's point is a mode in constrained space; so Newton's steps polish
    it first. Directions flatter than ``floor`` are left where they are, and are as wide as the
    floor says, 1 / sqrt(floor) in logarithms, log-odds and the weights' unit.

    The weights, given the hyperparameters: "diagonal", the generalised Gauss-Newton diagonal of the
    error cost, on about ``examples`` training examples, over tau, plus the prior's curvature; but
    no deviation is above the root mean square of the group's weights. "last_layer": only those of
    the last module that a prior covers have any spread; "none": none have.
    """

    weights: Literal["diagonal", "last_layer", "none"] = "diagonal"
    floor: float = 0.1
    examples: int = 1000
    draws: int = DRAWS
    weight_draws: int = WEIGHT_DRAWS

    def __post_init__(self) -> None:
        if self.weights not in ("diagonal", "last_layer", "none"):
            raise ValueError(
                f"unknown weights {self.weights!r}; choose from diagonal, last_layer, none"
            )
        if not 0 < self.floor < math.inf:
            raise ValueError(f"floor must be a positive number, got {self.floor}")
        if not isinstance(self.examples, Integral) or self.examples < 1:
            raise ValueError(f"examples must be a whole number >= 1, got {self.examples}")
        check_draws(draws=self.draws, weight_draws=self.weight_draws)

    def check(self, model: Joint) -> None:
        """Raise ValueError for more hyperparameters than this is for."""
        weights = {weights_site(name) for name in model.groups}
        count = sum(v.numel() for site, v in model.start().items() if site not in weights)
        if count > MOST_HYPERPARAMETERS:
            raise ValueError(
                f"the prior has {count} hyperparameters, too many for a dense Hessian (at most "
                f"{MOST_HYPERPARAMETERS}); use the guide delta_normal or normal"
            )

    def __call__(self, model: Joint, posterior: Posterior, batches: Iterable) -> Spread:
        """Draws, the weights' deviations, and how many directions or weights were floored."""
        with torch.enable_grad():
            draws, floored = self._hyperparameters(model, posterior, batches)
            deviations: dict[str, Tensor] = {}
            if self.weights != "none":
                deviations, bounded = self._weights(model, posterior, batches)
                floored |= bounded
        for site, deviation in deviations.items():
            noise = torch.randn(self.weight_draws, *deviation.shape).to(deviation)
            draws[site] = posterior.point[site] + deviation * noise
        return Spread(draws, deviations, floored)

    def _hyperparameters(
        self, model: Joint, posterior: Posterior, batches: Iterable
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        given = GivenWeights(model, posterior.point, batches)
        if not len(given.start):
            return {}, {}
        mode, values, vectors = newton_mode(given, self.floor)
        widths = values.clamp_min(self.floor).rsqrt()
        noise = torch.randn(self.draws, len(mode), dtype=mode.dtype).to(mode.device)
        drawn = given.space.constrained(mode + (noise * widths) @ vectors.T)
        dtype = device_dtype(model)[1]
        floored = int((values < self.floor).sum())
        return {s: v.to(dtype) for s, v in drawn.items()}, {"hyperparameters": floored}

    def _weights(
        self, model: Joint, posterior: Posterior, batches: Iterable
    ) -> tuple[dict[str, Tensor], dict[str, int]]:
        error = error_curvature(model, posterior.point, batches, self.examples)
        deviations, floored = {}, {}
        last = _last_layer(model)
        for name, group in model.groups.items():
            site = weights_site(name)
            flat = posterior.point[site].reshape(-1)
            least = 1 / flat.square().mean().clamp_min(torch.finfo(flat.dtype).tiny)
            curvature = error[site] / model.tau + prior_curvature(posterior.priors[name], flat)
            wide = torch.ones_like(flat, dtype=torch.bool)
            if self.weights == "last_layer":
                for tensor, part in group.slices.items():
                    wide[part] = tensor in last
            deviations[site] = torch.where(wide, curvature.clamp_min(least).rsqrt(), 0.0)
            floored[site] = int((wide & (curvature < least)).sum())
        return deviations, floored


def _last_layer(model: Joint) -> set[str]:
    """The covered tensors of the last module that has any."""
    covered = {tensor for group in model.groups.values() for tensor in group.shapes}
    *_, last = (name for name, _ in model.net.named_parameters() if name in covered)
    return {name for name in covered if name.rpartition(".")[0] == last.rpartition(".")[0]}
