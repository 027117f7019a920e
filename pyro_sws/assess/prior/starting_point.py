"""A group where a fit starts: trained weights, the density of them, and draws of that density."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyro.distributions as dist
from pyro import poutine
from torch import Tensor

from pyro_sws.assess.prior.hyperparameters import Site
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.priors import Prior
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import WeightPrior

Density = tuple[WeightPrior, dict[str, Site]]  # of a group's weights, and what it was made from


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """A group's weights and hyperparameters as a fit would start from them."""

    group: Group
    prior: Prior
    weights: Tensor  # flat (N,)
    density: WeightPrior
    sites: Mapping[str, Site]

    def draw(self) -> Density:
        """The density at hyperparameters drawn from their hyperpriors, those of a free site kept.

        Free sites stay at their start, where they have one: what Pyro would draw them from is a
        placeholder. To be called under ``pyro_step``, as ``density_at``.
        """
        kept = {name: site.value for name, site in self.sites.items() if site.free and site.started}
        return density_at(self.prior, self.group, kept)


def starting_point(model: Joint, name: str, start: Mapping[str, Tensor]) -> StartingPoint:
    """The group of this name at ``start``, the model's. To be called under ``pyro_step``."""
    group, prior = model.groups[name], model.priors[name]
    return StartingPoint(group, prior, start[weights_site(name)], *density_at(prior, group, start))


def density_at(prior: Prior, group: Group, values: Mapping[str, Tensor]) -> Density:
    """The density of the group's weights where its sites have these values; the rest is drawn."""
    conditioned = poutine.condition(prior, data=dict(values))
    trace = poutine.trace(conditioned).get_trace(group)
    nodes: Mapping[str, Any] = trace.nodes
    sites = [
        Site(name, _hyperprior(node), node["value"], name in values)
        for name, node in nodes.items()
        if node["type"] == "sample"
    ]
    learned = {site.name: site for site in sites if not _has_nothing_to_learn(site)}
    return nodes["_RETURN"]["value"], learned


def zero_share(prior: WeightPrior, group: Group, flat: Tensor) -> float:
    """Share of the weights that snap to 0."""
    indices = prior.assign(flat)
    zeros = [(prior.codebook(part)[indices[part]] == 0).sum() for part in group.slices.values()]
    return float(sum(zeros)) / group.size


def expected_zero_share(prior: WeightPrior, group: Group) -> float:
    """How probable the value 0 is, averaged over the group's weights."""
    total = 0.0
    for part in group.slices.values():
        at_zero = prior.proportions(part)[prior.codebook(part) == 0]
        total += float(at_zero.double().sum()) * (part.stop - part.start)
    return total / group.size


def _hyperprior(node: Mapping[str, Any]) -> dist.TorchDistribution:
    """As the handlers left it: poutine.mask(mask=False) frees a site as ``.mask(False)`` does."""
    return node["fn"].mask(False) if node["mask"] is False else node["fn"]


def _has_nothing_to_learn(site: Site) -> bool:
    """Of pyro.deterministic and pyro.factor."""
    return isinstance(site.base, dist.Delta | dist.Unit)
