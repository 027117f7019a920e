"""A place on a walk: weights, values, and one width for all components. Values and the maths.

Weights are in units of each tensor's own root mean square there, so that a learning rate means the
same in every tensor, and rescaling a layer changes nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.compression.walk.settings import Walk
from pyro_sws.inference.fit import posterior_at
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.around import base_of
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.weight_prior import MixturePrior, WeightPrior, unscaled

ROUNDS = 5  # of assigning weights to values, and counting, for proportions to follow
PSEUDOCOUNT = 0.5  # a value's, beside the weights that take it
MOST_BEYOND = 500  # values on each side of those that a prior starts with
TEMPERED = 0.5  # exponent on the shares of values other than zero


@dataclass(frozen=True)
class InUnits:
    """A density of weights as one of weights divided by ``units``, up to a constant."""

    mixture: Mixture
    density: WeightPrior  # but for its mixture
    units: Tensor  # (N,)

    @property
    def fixed_levels(self) -> bool:
        return bool(getattr(self.density, "fixed_levels", False))

    def log_prob(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        units = self.units if indices is None else self.units[indices]
        return self._own.log_prob(flat * units, indices)

    def assign(self, flat: Tensor) -> Tensor:
        return self._own.assign(flat * self.units)

    def codebook(self, part: slice) -> Tensor:
        return self._own.codebook(part)

    def scale(self, part: slice) -> Tensor | None:
        scale = self._own.scale(part)
        return 1 / self.units[part] if scale is None else scale / self.units[part]

    def proportions(self, part: slice) -> Tensor:
        return self._own.proportions(part)

    def sample(self, size: int) -> Tensor:
        return self._own.sample(size) / self.units

    @property
    def _own(self) -> WeightPrior:
        return replace(self.density, mixture=self.mixture)  # type: ignore[type-var]


@dataclass(frozen=True, eq=False)
class Place:
    """Where a walk is. Weights ``u`` of a group are those of the network over ``units``."""

    model: Joint  # the priors' own, in the network's units
    units: Mapping[str, Tensor]  # by group, (N,)
    densities: Mapping[str, WeightPrior]  # by group, of weights in units
    own: Mapping[str, WeightPrior]  # by group, in the network's units, but for their mixtures
    typical: Mapping[str, float]  # by group: what a width is a multiple of, in the mixture's units
    weights: Mapping[str, Tensor]  # by group, in units, (N,)
    noise: Mapping[str, Tensor]  # the likelihood's own sites
    width: float

    @staticmethod
    def of(model: Joint, settings: Walk) -> "Place":
        """Where a walk of this model sets out. Raises ValueError for a prior without values."""
        width = settings.width
        start = model.start()
        posterior = posterior_at(model, start)
        units, densities, typical, weights = {}, {}, {}, {}
        for name, group in model.groups.items():
            prior = posterior.priors[name]
            flat = start[weights_site(name)].reshape(-1)
            if len(prior.mixture) == 1:
                family = type(model.priors[name]).__name__
                raise ValueError(
                    f"{family} of group {name!r} has one component, and no values to walk among; "
                    "take one that has several, or give tau= for a fit without a walk"
                )
            units[name] = _units(group, flat)
            densities[name] = _in_units(prior, units[name], group)
            weights[name] = flat / units[name]
            sizes = unscaled(prior, group, flat).double().square().mean().sqrt()
            typical[name] = float(sizes) or 1.0
        noise = {site: start[site] for site in model.likelihood.start()}
        place = Place(model, units, densities, posterior.priors, typical, weights, noise, width)
        return place.wider(width, settings, even=True)

    def wider(self, width: float, settings: Walk, *, even: bool = False) -> "Place":
        """The place with all components as wide, and with proportions that follow.

        They follow the shares of the values that the weights snap to, a few rounds of assigning and
        counting: empirical Bayes, but for two things. Values other than zero have together their
        share to the power ``settings.sparser``, and at most what ``settings.zero`` leaves them, or
        one beside zero would take its place; and among them each has in proportion to the root of
        its share, or a rare value would die of being rare. Borders between values move with them,
        and weights gather at borders: ``settings.following`` of the way, or all of it from ``even``
        ones. Values that no weight takes are left out.
        """
        densities = {}
        for name, density in self.densities.items():
            mixture = density.mixture
            deviation = width * self.typical[name]
            mixture = replace(mixture, precisions=torch.full_like(mixture.means, deviation**-2))
            if even:
                counts = torch.ones_like(mixture.means)
                mixture = replace(mixture, proportions=_proportions(mixture, counts, settings))
            wide = replace(density, mixture=mixture)  # type: ignore[type-var]
            way = 1.0 if even else settings.following
            densities[name] = _followed(wide, self.weights[name], settings, way)
        return replace(self, densities=densities, width=width)

    def finer(self, settings: Walk) -> "Place":
        """The place with a value more between each two, and half the width; itself for fixed ones.

        There are values up to the largest weights, too, which are few and may be far out.
        Proportions are even before they follow.
        """
        mixtures = {}
        for name, density in self.densities.items():
            means = density.mixture.means.sort().values
            if not getattr(density, "fixed_levels", False):
                reached = _reaching(means, self._in_the_mixtures_units(name))
                between = (reached[1:] + reached[:-1]) / 2
                means = torch.cat([reached, between]).sort().values
            like = torch.ones_like(means)  # what is wider says the rest
            mixtures[name] = replace(
                density.mixture, means=means, precisions=like, proportions=like / len(like)
            )
        return self.with_mixtures(mixtures).wider(self.width / 2, settings, even=True)

    def _in_the_mixtures_units(self, name: str) -> Tensor:
        """A group's weights as the values of its mixture are given; (N,)."""
        group, weights = self.model.groups[name], self.weights[name] * self.units[name]
        return unscaled(self.own[name], group, weights)

    def with_mixtures(self, mixtures: Mapping[str, Mixture]) -> "Place":
        """The place with other mixtures, by group, in the place's units."""
        densities = {
            name: replace(density, mixture=mixtures[name])  # type: ignore[type-var]
            for name, density in self.densities.items()
        }
        return replace(self, densities=densities)

    def units_by_tensor(self, name: str) -> Tensor:
        """A group's units, one a tensor (T,)."""
        slices, units = self.model.groups[name].slices.values(), self.units[name]
        return units[[min(part.start, len(units) - 1) for part in slices]]

    def has_scales(self, name: str) -> bool:
        """Whether scales of the group's tensors may learn: its units are those that its prior has.

        Not those of vectors alone. Learning them, a network with batch norm came to no rest.
        """
        density, shapes = self.densities[name], self.model.groups[name].shapes.values()
        own = isinstance(density, MixturePrior) and density.scales is None
        scaled = own and getattr(self.own[name], "scales", None) is not None
        return scaled and any(len(shape) > 1 for shape in shapes)

    def rescaled(self, factors: Mapping[str, Tensor]) -> "Place":
        """The place where the scales of tensors are so many times as large; by group, (T,)."""
        units, own = dict(self.units), dict(self.own)
        for name, by_tensor in factors.items():
            sizes = [part.stop - part.start for part in self.model.groups[name].slices.values()]
            each = by_tensor.repeat_interleave(torch.tensor(sizes, device=by_tensor.device))
            units[name] = units[name] * each
            scales = own[name].scales * each  # type: ignore[attr-defined]
            own[name] = replace(own[name], scales=scales)  # type: ignore[type-var]
        return replace(self, units=units, own=own)

    @property
    def tau(self) -> float:
        """The model's, times the root of the width: narrow components pull the harder already."""
        return self.model.tau * math.sqrt(self.width)

    @property
    def posterior(self) -> Posterior:
        """In the network's units."""
        priors = {
            name: replace(own, mixture=self.densities[name].mixture)  # type: ignore[type-var]
            for name, own in self.own.items()
        }
        point = {weights_site(n): self.weights[n] * self.units[n] for n in self.weights}
        model = self.model
        point, base = {**point, **self.noise}, base_of(model.net)
        return Posterior(model.groups, point, priors, model.raw(), model.tau, base=base)


def _reaching(means: Tensor, weights: Tensor) -> Tensor:
    """Ascending values, and more at their median distance up to the outermost weights."""
    step = (means[1:] - means[:-1]).median()
    low, high = weights.aminmax()
    below, above = (
        int(((gap / step).ceil()).clamp(0, MOST_BEYOND))
        for gap in (means[0] - low, high - means[-1])
    )
    lower = means[0] - step * torch.arange(below, 0, -1).to(means)
    upper = means[-1] + step * torch.arange(1, above + 1).to(means)
    return torch.cat([lower, means, upper])


def _units(group: Group, flat: Tensor) -> Tensor:
    """Each weight's tensor's root mean square; that of the group where a tensor is all zero."""
    sizes = {
        name: flat[part].double().square().mean().sqrt() for name, part in group.slices.items()
    }
    whole = flat.double().square().mean().sqrt()
    whole = whole if whole > 0 else torch.ones_like(whole)
    units = torch.empty_like(flat)
    for name, part in group.slices.items():
        units[part] = (sizes[name] if sizes[name] > 0 else whole).to(flat.dtype)
    return units


def _in_units(prior: WeightPrior, units: Tensor, group: Group) -> WeightPrior:
    """The prior of weights over ``units``; without scales where those are its own."""
    if isinstance(prior, MixturePrior) and prior.scales is not None:
        scales = prior.scales / units
        if torch.allclose(scales, torch.ones_like(scales), rtol=1e-5, atol=0):
            return replace(prior, scales=None)
        return replace(prior, scales=scales)
    return InUnits(prior.mixture, prior, units)


@torch.no_grad()
def _followed(density: WeightPrior, flat: Tensor, settings: Walk, way: float) -> WeightPrior:
    """The density, its proportions ``way`` of the way to those of values in use, without others."""
    before = density.mixture.proportions
    for _ in range(ROUNDS):
        mixture = density.mixture
        proportions = _proportions(mixture, _counts(density, flat) + PSEUDOCOUNT, settings)
        density = replace(density, mixture=replace(mixture, proportions=proportions))  # type: ignore[type-var]
    mixture = density.mixture
    proportions = before ** (1 - way) * mixture.proportions**way
    mixture = replace(mixture, proportions=proportions / proportions.sum())
    density = replace(density, mixture=mixture)  # type: ignore[type-var]
    if getattr(density, "fixed_levels", False):
        return density
    used = (_counts(density, flat) > 0) | (mixture.means == 0)
    kept = Mixture(*(values[used] for values in vars(mixture).values()))
    kept = replace(kept, proportions=kept.proportions / kept.proportions.sum())
    return replace(density, mixture=kept)  # type: ignore[type-var]


def _counts(density: WeightPrior, flat: Tensor) -> Tensor:
    """How many weights take each component's value, divided among components of one value (J,)."""
    assign = getattr(density, "assign_by_table", density.assign)
    means, levels = density.mixture.means, density.mixture.levels
    taken = torch.bincount(assign(flat), minlength=len(levels)).to(means)
    at = torch.searchsorted(levels.contiguous(), means.contiguous())
    return taken[at] / torch.bincount(at, minlength=len(levels)).to(means)[at]


def _proportions(mixture: Mixture, counts: Tensor, settings: Walk) -> Tensor:
    """Proportions of components whose values so many weights take, see ``Place.wider``."""
    at_zero = mixture.means == 0
    rest = torch.where(at_zero, 0, counts**TEMPERED)
    shares = counts / counts.sum()
    if at_zero.all() or not at_zero.any():
        return shares if at_zero.all() else rest / rest.sum()
    others = shares[~at_zero].sum() ** settings.sparser
    others = others.clamp_max(1 - settings.zero)
    own = shares[at_zero].sum()
    return torch.where(at_zero, shares / own * (1 - others), rest / rest.sum() * others)
