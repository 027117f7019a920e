"""Look before fitting: what each group's prior covers, expects, weighs and draws."""

import math
from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from pyro_sws.assess.prior.hyperparameters import Site
from pyro_sws.assess.prior.starting_point import (
    StartingPoint,
    expected_zero_share,
    starting_point,
    zero_share,
)
from pyro_sws.assess.prior.warnings import prior_warnings
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import Prior
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import MixturePrior, WeightPrior

DRAWN_WEIGHTS = 100_000  # at least, behind a deviation without closed form: good to 1 % and better
DRAWS_OF_A_GROUP = 1_000  # at most: a group of few weights costs as much a draw as a large one
Range = list[float | None]  # least and largest


class SiteRow(TypedDict):
    """A hyperparameter of a group, or many of one kind."""

    site: str
    shape: list[int]
    hyperprior: str
    start: Range | str
    strength: float | None
    share: float | None


# Functional, as most of the keys are what a reader of the table is shown.
PriorSummary = TypedDict(
    "PriorSummary",
    {
        "tensors": str,
        "weights": int,
        "components": int,
        "expected zero share": float | None,
        "prior deviation at the start": float | None,
        "the weights' deviation": float | None,
        "the weights' range": Range,
        "codebook at the start": Range,
        "nats a weight at the start": float | None,
        "weights drawn for that deviation": int,  # only where some were
    },
    total=False,
)
PriorDraw = TypedDict(
    "PriorDraw",
    {"sites": dict[str, Range], "deviation": float | None, "range": Range, "zero share": float},
)


class GroupDescription(TypedDict):
    """A group and its prior before a fit."""

    family: str
    tensors: list[str]
    summary: PriorSummary
    sites: list[SiteRow]
    draws: list[PriorDraw]
    warnings: list[str]


class PriorDescription(TypedDict):
    """What ``describe_priors`` returns, as JSON."""

    groups: dict[str, GroupDescription]
    uncovered: list[str]


def describe_priors(
    net: nn.Module,
    rules: Prior | Sequence[Rule],
    *,
    start: Mapping[str, Tensor] | None = None,
    draws: int = 10,
    seed: int = 0,
) -> PriorDescription:
    """By group: its tensors, trained weights, density at the start, sites, draws and warnings.

    A site's ``strength`` is that of its hyperprior in weights, entry by entry, and its ``share`` is
    of the weights that an entry has on average: what is far below 1 will be swamped by them.
    ``draws`` are of the hyperparameters and then of the weights; see ``StartingPoint.draw`` for
    what is free. ``start``: weights by tensor name, as in ``joint``. Numbers that are not finite
    are None.
    """
    model = joint(net, rules, "categorical", data_size=1, start=start)
    with forked_rng(seed, device_dtype(model)[0]), torch.no_grad():
        values = model.start()
        groups = {}
        for name in model.groups:
            with pyro_step():
                groups[name] = _describe(starting_point(model, name, values), draws)
    return {"groups": groups, "uncovered": list(model.uncovered)}


def _describe(point: StartingPoint, draws: int) -> GroupDescription:
    deviation, drawn = implied_deviation(point.density, point.group)
    summary = _summary(point, deviation)
    if drawn:
        summary["weights drawn for that deviation"] = drawn
    return {
        "family": type(point.prior).__name__,
        "tensors": list(point.group.shapes),
        "summary": summary,
        "sites": [_site(site, point.group.size) for site in point.sites.values()],
        "draws": [_draw(point) for _ in range(draws)],
        "warnings": prior_warnings(point, deviation),
    }


def implied_deviation(prior: WeightPrior, group: Group) -> tuple[float, int]:
    """Of the group's weights under the density; and from how many drawn weights, 0 for none."""
    if isinstance(prior, MixturePrior):
        mixture = prior.mixture
        mean, variance = mixture.mean, 1 / mixture.precisions + mixture.means.square()
        square = (mixture.proportions * variance).sum()
        if prior.scales is not None:
            mean, square = mean * prior.scales.mean(), square * prior.scales.square().mean()
        return float((square - mean.square()).sqrt()), 0
    repeats = min(-(-DRAWN_WEIGHTS // group.size), DRAWS_OF_A_GROUP)
    weights = torch.cat([prior.sample(group.size) for _ in range(repeats)])
    return float(weights.std(correction=0)), len(weights)


def _summary(point: StartingPoint, deviation: float) -> PriorSummary:
    group, weights, density = point.group, point.weights, point.density
    return {
        "tensors": ", ".join(group.shapes),
        "weights": group.size,
        "components": len(density.mixture),
        "expected zero share": _finite(expected_zero_share(density, group)),
        "prior deviation at the start": _finite(deviation),
        "the weights' deviation": _finite(weights.std(correction=0)),
        "the weights' range": _range(weights),
        "codebook at the start": _range(_codebook(density, group)),
        "nats a weight at the start": _finite(-density.log_prob(weights) / group.size),
    }


def _codebook(prior: WeightPrior, group: Group) -> Tensor:
    """The values that weights may snap to, at the least and the largest scale of each tensor."""
    values = []
    for part in group.slices.values():
        book, scale = prior.codebook(part), prior.scale(part)
        extremes = [book.new_ones(())] if scale is None else scale.aminmax()
        values += [book * factor for factor in extremes]
    return torch.cat(values)


def _site(site: Site, size: int) -> SiteRow:
    strength, weights = site.strength, size / site.entries
    return {
        "site": site.name,
        "shape": list(site.value.shape),
        "hyperprior": site.formula,
        "start": _range(site.value) if site.started else "a draw",
        "strength": strength,
        "share": None if strength is None else strength / weights,
    }


def _draw(point: StartingPoint) -> PriorDraw:
    """Hyperparameters from their hyperpriors, and the group's weights from the density of them."""
    density, sites = point.draw()
    weights = density.sample(point.group.size)
    return {
        "sites": {name: _range(site.value) for name, site in sites.items() if not site.free},
        "deviation": _finite(weights.std(correction=0)),
        "range": _range(weights),
        "zero share": zero_share(density, point.group, weights),
    }


def _range(values: Tensor) -> Range:
    return [_finite(value) for value in values.aminmax()]


def _finite(value: Tensor | float) -> float | None:
    """As JSON has it, which knows neither NaN nor infinity; in float32's six digits."""
    return float(f"{float(value):.6g}") if math.isfinite(value) else None
