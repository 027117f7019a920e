"""Optimiser steps of a walk: Adam on -ELBO, the network computing with its snapped weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn

from pyro_sws.compression.refine import MeansOnlyPrior
from pyro_sws.compression.walk.place import Place
from pyro_sws.compression.walk.portions import Portion
from pyro_sws.compression.walk.settings import WalkRates
from pyro_sws.inference.at_point import AtPoint, unconstrained_sites
from pyro_sws.inference.batches import Part, moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.finite_steps import check_gradients, check_loss, check_values
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.likelihoods import noise_sites
from pyro_sws.weights.group import Group
from pyro_sws.weights.tabulated import tabulated
from pyro_sws.weights.weight_prior import MixturePrior, WeightPrior, snapped

REMEDY = "lower walk.rates, or mend the data"


@dataclass(frozen=True)
class Costs:
    """Means over steps, scaled to the whole data, in nats."""

    negative_elbo_nats: float
    error_cost_nats: float


class Descent:
    """Adam on a place's weights, values, scales and noise; its moments stay from place to place.

    The objective is that of a delta guide, in the units of the place: the likelihood of the network
    with its snapped weights, and tau times the prior's part, which of a plain mixture is read from
    tables.
    """

    def __init__(self, place: Place, train: Portion, codebook_dtype: str):
        self.train, self.codebook_dtype = train, codebook_dtype
        self.at = device_dtype(place.model)
        like = next(iter(place.weights.values())).new_zeros(1, 1)
        self.space, noise = unconstrained_sites(
            partial(noise_sites, place.model.likelihood, like), dict(place.noise)
        )
        self.noise = nn.Parameter(noise.to(like))
        self.weights = {name: nn.Parameter(flat.clone()) for name, flat in place.weights.items()}
        self.means: dict[str, nn.Parameter] = {}
        self.units: dict[str, Tensor] = {}  # of the place, by tensor (T,)
        self.scales = {  # logarithms of what the tensors' scales at the place are multiplied by
            name: nn.Parameter(self.noise.new_zeros(len(group.shapes)))
            for name, group in place.model.groups.items()
            if place.has_scales(name)
        }
        kinds = [list(self.weights.values()), [], list(self.scales.values()), [self.noise]]
        groups = [{"params": parameters} for parameters in kinds]
        fused = self.at[0].type in ("cpu", "cuda")
        self.optimiser = torch.optim.Adam(groups, fused=fused)

    def steps(
        self,
        place: Place,
        length: int,
        rates: WalkRates,
        factor: Callable[[float], float],
        seed: int,
    ) -> tuple[Place, Costs]:
        """The place after so many steps; ``factor`` of the progress in [0, 1) is on all rates.

        Raises FloatingPointError where the loss, a gradient or a parameter stops being finite, with
        its name, the step and the batch; a NotFiniteGradientError where slower steps do not help.
        """
        self.set_out(place)
        losses, errors = [], []
        with forked_rng(seed, self.at[0]), torch.enable_grad():
            batches = moved(self.train.of(length), "batches", *self.at)
            for step, (inputs, targets) in enumerate(batches):
                where = f"step {step + 1} of a walk, at width {place.width:g} "
                where += f"(batch {self.train.batch} of pass {self.train.passes})"
                loss, error = self._costs_or_where(place, inputs, targets, where)
                losses.append(float(loss.detach()))
                errors.append(float(error.detach()))
                check_loss(losses[-1], where, (inputs, targets), REMEDY)
                self.optimiser.zero_grad()
                loss.backward()
                groups = place.model.groups
                check_gradients(self._parameters(), losses[-1], where, (inputs, targets), groups)
                by_kind = (rates.weights, rates.means, rates.scales, rates.other)
                for group, rate in zip(self.optimiser.param_groups, by_kind, strict=True):
                    group["lr"] = rate * factor(step / length)
                self.optimiser.step()
            where = f"{length} steps of a walk, at width {place.width:g}"
            check_values(self._parameters(), where, REMEDY, place.model.groups)
        return self._reached(place), Costs(fmean(losses), fmean(errors))

    def _parameters(self) -> dict[str, Tensor]:
        """What moves, by the name of its site."""
        kinds = {"weights": self.weights, "means": self.means, "scales": self.scales}
        named = {
            f"{group}.{kind}": parameter
            for kind, parameters in kinds.items()
            for group, parameter in parameters.items()
        }
        return {**named, "noise": self.noise}

    def _costs_or_where(
        self, place: Place, inputs: Part, targets: Part, where: str
    ) -> tuple[Tensor, Tensor]:
        """``costs``; where weights are no more finite, an error that names them and the step."""
        try:
            return self.costs(place, inputs, targets)
        except FloatingPointError:
            check_values(self._parameters(), where, REMEDY, place.model.groups)
            raise

    def costs(self, place: Place, inputs: Part, targets: Part) -> tuple[Tensor, Tensor]:
        """-ELBO and the error cost of a batch, in nats."""
        tensors: dict[str, Tensor] = {}
        log_prior = torch.zeros((), device=self.at[0])
        for name, group in place.model.groups.items():
            density, flat = self._density(place, name), self.weights[name]
            values, log_prob = _snapped_and_scored(density, group, flat)
            log_prior = log_prior + log_prob
            tensors |= self._scaled(name, group.split(values))
        with pyro_step(), AtPoint(self.space.constrained(self.noise)) as run:
            replace(place.model, tau=place.tau).observe([tensors], inputs, targets)
        error = -run.log_probs.pop("targets")
        noise = sum(run.log_probs.values(), torch.zeros_like(error))
        return error - noise - place.tau * log_prior, error

    def _density(self, place: Place, name: str) -> WeightPrior:
        density = place.densities[name]
        if name not in self.means:
            return density
        return MeansOnlyPrior(density, self.codebook_dtype).at(self.means[name])

    def _scaled(self, name: str, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors in units as those of the network."""
        units = self.units[name]
        if name in self.scales:
            units = units * self.scales[name].exp()
        each = zip(parts.items(), units.unbind(), strict=True)
        return {tensor: part * unit for (tensor, part), unit in each}

    def set_out(self, place: Place) -> None:
        """Parameters at the place. Moments are kept, but for those of values in other numbers."""
        with torch.no_grad():
            for name, flat in place.weights.items():
                self.weights[name].copy_(flat)
            for scales in self.scales.values():
                scales.zero_()
            self.units = {name: place.units_by_tensor(name) for name in place.units}
            for part, value in zip(
                self.space.parts(self.noise).values(), self._noise(place), strict=True
            ):
                part.copy_(value)
        for name, density in place.densities.items():
            moving = MeansOnlyPrior(density).moving
            means = density.mixture.means[moving].detach().clone()
            old = self.means.pop(name, None)
            if old is not None and old.shape == means.shape:
                self.means[name] = old
                with torch.no_grad():
                    old.copy_(means)
                continue
            if old is not None:
                self.optimiser.state.pop(old, None)
            if len(means):
                self.means[name] = nn.Parameter(means)
        self.optimiser.param_groups[1]["params"] = list(self.means.values())

    def _noise(self, place: Place) -> list[Tensor]:
        return [self.space.transforms[site].inv(value) for site, value in place.noise.items()]

    def _reached(self, place: Place) -> Place:
        densities = {}
        with torch.no_grad():
            for name, density in place.densities.items():
                moved_to = self._density(place, name).mixture.means.detach()
                mixture = replace(density.mixture, means=moved_to)
                densities[name] = replace(density, mixture=mixture)  # type: ignore[type-var]
            noise = self.space.constrained(self.noise.detach().clone())
            factors = {name: scales.detach().exp() for name, scales in self.scales.items()}
        weights = {name: flat.detach().clone() for name, flat in self.weights.items()}
        reached = replace(place, densities=densities, weights=weights, noise=noise)
        return reached.rescaled(factors)


def _snapped_and_scored(density: WeightPrior, group: Group, flat: Tensor) -> tuple[Tensor, Tensor]:
    """The values that weights snap to, and log p(weights) in nats up to a constant."""
    if not isinstance(density, MixturePrior):
        return snapped(density, group, flat), density.log_prob(flat)
    if density.scales is None:
        return tabulated(density.mixture, flat)
    values, log_prob = tabulated(density.mixture, flat / density.scales)
    return values * density.scales, log_prob
