"""The mixture that NUTS and Laplace see: a fitted one without empty slabs, its free means held."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from pyro_sws.inference.hyperposterior.target import Hyperposterior, hyperposterior
from pyro_sws.inference.hyperpriors import Normal
from pyro_sws.inference.priors import Prior, Scaled, ScaleMixture, SpikeAndSlabs
from pyro_sws.inference.priors.initialization import InitialSlabs
from pyro_sws.inference.priors.sites import initial_values, named
from pyro_sws.weights.binned import binned
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.weight_prior import unscaled

# Weights that a slab must be expected to hold: with fewer, draws in which it holds none are common,
# and there it is wherever its hyperpriors let it be.
FEWEST = 4.0


@dataclass(frozen=True, eq=False)
class SampledMixture:
    """A target for draws of a group's hyperparameters, and how it differs from the fit."""

    target: Hyperposterior
    left_out: tuple[float, ...]  # means of the slabs that were left out as empty
    means_deviation: float | None  # of the Normal that stands in for means that are "free"

    @property
    def notes(self) -> list[str]:
        """A sentence for each difference from the fit."""
        notes = []
        if self.left_out:
            shown = ", ".join(f"{mean:.3g}" for mean in self.left_out)
            notes.append(
                f"slabs that hold fewer than {FEWEST:g} weights are left out: those at {shown}"
            )
        if self.means_deviation is not None:
            notes.append(
                "means that are free have no proper posterior while a slab may be empty; here they "
                f"are under Normal(0, {self.means_deviation:.3g}), the largest weight"
            )
        shape = self.target.prior
        if "free" in (getattr(shape, f"{kind}_precision", None) for kind in ("slab", "spike")):
            notes.append(
                "precisions that are free have no proper posterior where a component may hold next "
                "to nothing; draws may run off there"
            )
        return notes


def sampled_mixture(prior: Prior, posterior: Posterior, name: str) -> SampledMixture:
    """The hyperposterior of group ``name``, from its fit as it was merged.

    Of SpikeAndSlabs and ScaleMixture, or Scaled over the former, the slabs are those that are left
    after merging and expected to hold ``FEWEST`` weights. Other families are sampled with all that
    they were fitted with. Means that are "free" get a wide Normal, without which an empty slab has
    no proper posterior. Raises ValueError as ``hyperposterior`` does, and where no slab is left.
    """
    group, density = posterior.groups[name], posterior.priors[name]
    point = dict(posterior.point)
    flat = point[weights_site(name)].detach().reshape(-1)
    values = unscaled(density, group, flat)
    shape: Any = prior.shape if isinstance(prior, Scaled) else prior
    left_out: tuple[float, ...] = ()
    if isinstance(shape, SpikeAndSlabs | ScaleMixture):
        shape, sites, left_out = _occupied(shape, group, density.mixture, values, point)
        point |= sites
    deviation = None
    if getattr(shape, "slab_means", None) == "free":
        deviation = float(values.abs().max())
        shape = replace(shape, slab_means=Normal(deviation))
    used = replace(prior, shape=shape) if isinstance(prior, Scaled) else shape
    return SampledMixture(hyperposterior(used, group, point), left_out, deviation)


def _occupied(
    prior: SpikeAndSlabs | ScaleMixture,
    group: Group,
    mixture: Mixture,
    values: Tensor,
    point: Mapping[str, Tensor],
) -> tuple[SpikeAndSlabs | ScaleMixture, dict[str, Tensor], tuple[float, ...]]:
    """The prior of fewer slabs, its sites at the mixture, and the means of those left out."""
    mixture = Mixture(*(v.detach().cpu().double() for v in vars(mixture).values()))
    slab = mixture.means != 0 if prior.zero_proportion != 0 else torch.ones(len(mixture)).bool()
    bins = binned(values, mixture)
    expected = bins.counts @ mixture.responsibilities(bins.means)
    kept = slab & (expected >= FEWEST)
    if not kept.any():
        raise ValueError(
            f"group {group.name!r}: no slab holds {FEWEST:g} weights, so there is no mixture to "
            "draw; a smaller tau leaves more weights"
        )
    slabs = int(kept.sum())
    shares = mixture.proportions[kept] / mixture.proportions[kept].sum()
    spike = mixture.deviations[~slab][:1].reshape(-1)
    initial = InitialSlabs(
        mixture.means[kept],
        mixture.deviations[kept],
        shares,
        spike[0] if len(spike) else mixture.deviations[0],
    )
    sites = initial_values(prior, group, initial)
    if prior.slab_shares != "equal":
        sites |= named(group, {"slab_shares": shares})
    for site in (f"{group.name}.spike_precision", f"{group.name}.zero_proportion"):
        if site in point:  # a spike of several nodes has one precision, as the fit has it
            sites[site] = point[site]
    fewer = replace(prior, slabs=slabs, initialization="range")
    return fewer, sites, tuple(mixture.means[slab & ~kept].tolist())
