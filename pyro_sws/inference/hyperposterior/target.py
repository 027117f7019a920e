"""p(hyperparameters | weights) of one group, at tau = 1, at a cost that no network makes grow."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.at_point import run_at, unconstrained_sites
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.newton import energy_and_gradient
from pyro_sws.inference.priors import Prior, Scaled
from pyro_sws.inference.priors.shared import AtShared, is_shared
from pyro_sws.inference.unconstrained import Unconstrained
from pyro_sws.weights.binned import BIN_WIDTH, Bins, binned
from pyro_sws.weights.density.log_density import density_backend
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import MixturePrior, UniformlyQuantized, WeightPrior


@dataclass(frozen=True, eq=False)
class Hyperposterior:
    """p(u | weights), up to a constant, of a vector u (D,): the hyperparameters, unconstrained.

    Its logarithm is log p(weights | hyperparameters) + log p(hyperparameters) + log |d
    hyperparameters / du|. On the CPU and in double precision. A site that is "free" has a flat
    density: what is sampled then is the neighbourhood of the fitted point, which chains leave only
    across whatever weights lie between.
    """

    prior: Prior
    group: Group
    flat: Tensor  # (N,) the weights whose density the prior's is
    space: Unconstrained  # of its sites
    start: Tensor  # u at the fitted point (D,)
    bins: Bins | None  # None: the density of every weight is computed, however many
    fixed_levels: bool  # the components' means are of a grid: each keeps its place

    def constrained(self, u: Tensor) -> dict[str, Tensor]:
        """Site name -> value; u (..., D), the dimensions before the last kept."""
        return self.space.constrained(u)

    def parts(self, u: Tensor) -> dict[str, Tensor]:
        """Site name -> its part of u (..., D): a view."""
        return self.space.parts(u)

    def potential(self, u: Tensor) -> Tensor:
        """-log p(u | weights) in nats, up to a constant: a scalar, differentiable."""
        values, jacobian = self.space.with_jacobian(u)
        density, log_probs = self._at(values)
        return -(self._of_weights(density) + torch.stack(log_probs).sum() + jacobian)

    @torch.no_grad()
    def log_hyperprior(self, u: Tensor) -> float:
        """log p(hyperparameters) in nats at u (D,), in their own space: no Jacobian."""
        with pyro_step(), poutine.block():
            return float(torch.stack(self._at(self.constrained(u))[1]).sum())

    def hessian(self, u: Tensor) -> Tensor:
        """The potential's second derivatives at u; (D, D)."""
        at = u.detach().requires_grad_()
        with pyro_step(), poutine.block():
            energy = self.potential(at)
        (gradient,) = torch.autograd.grad(energy, at, create_graph=True)
        rows = [torch.autograd.grad(g, at, retain_graph=True)[0] for g in gradient]
        return (torch.stack(rows) + torch.stack(rows).T) / 2

    @torch.no_grad()
    def mixture(self, u: Tensor) -> Mixture:
        """The density's mixture at u (D,), over the weights themselves where they share one."""
        with pyro_step(), poutine.block():
            density, _ = self._at(self.constrained(u))
        return shared_mixture(density) or density.mixture

    @torch.no_grad()
    def binning_error(self, u: Tensor) -> float:
        """log p(u | weights) by the bins less that by every weight, in nats; u (D,)."""
        if self.bins is None:
            return 0.0
        mixture = self.mixture(u)
        with density_backend("portable"):
            return float(self.bins.log_prob(mixture) - mixture.total_log_prob(self.flat))

    def _at(self, values: Mapping[str, Tensor]) -> tuple[WeightPrior, list[Tensor]]:
        return run_at(partial(self.prior, self.group), values)

    def _of_weights(self, density: WeightPrior) -> Tensor:
        if self.bins is not None:
            mixture = shared_mixture(density)
            assert mixture is not None  # as it was at the fitted point
            return self.bins.log_prob(mixture)
        with density_backend("portable"):  # compiled, it would differ from process to process
            return density.log_prob(self.flat)


def hyperposterior(
    prior: Prior,
    group: Group,
    point: Mapping[str, Tensor],
    *,
    exact: bool = False,
    bin_width: float = BIN_WIDTH,
) -> Hyperposterior:
    """The posterior of a group's hyperparameters given its weights at ``point``, site -> value.

    ``point`` is a fitted Posterior's: the group's sites, and "<group>.weights". Independent weights
    under one shared mixture are binned (see ``binned`` for ``bin_width``): all families but
    Structured. ``exact``: every evaluation goes through every weight, of whatever density.
    Scaled's scales are taken as fitted, as its point estimates take them, and so are sites that
    the group shares with others.

    Raises ValueError for a prior with nothing to sample, a site that the point lacks or that is not
    continuous, a point outside its support or without a finite density, and, unless ``exact``, a
    density that bins cannot hold.
    """
    site = weights_site(group.name)
    if site not in point:
        raise ValueError(f"the point has no {site!r}; it has {', '.join(point) or 'nothing'}")
    own = replace(group, dtype=torch.float64, device=torch.device("cpu"))
    values = {name: value.detach().to("cpu", torch.float64) for name, value in point.items()}
    flat = values.pop(site).reshape(-1)
    if isinstance(prior, Scaled):
        # Given the scales, what is scored is the standardised weight, under the shape alone.
        flat, prior = flat / _scales(prior, own, values), prior.shape
    given = prior
    if shared := {site: values[site] for site in values if is_shared(site)}:
        prior = AtShared(prior, shared)  # a group's weights alone would say too little of it
    space, start = unconstrained_sites(partial(prior, own), values)
    if not len(start):
        raise ValueError(_nothing(given, own, values))
    with pyro_step(), poutine.block(), torch.no_grad():
        density, _ = run_at(partial(prior, own), values)
    target = Hyperposterior(
        prior=prior,
        group=own,
        flat=flat,
        space=space,
        start=start,
        bins=None if exact else _bins(group, density, flat, bin_width),
        fixed_levels=getattr(density, "fixed_levels", False),
    )
    energy, gradient = energy_and_gradient(target, target.start)
    if not (math.isfinite(energy) and gradient.isfinite().all()):
        raise ValueError(
            f"group {group.name!r}: the density at the fitted point is not finite (-log density "
            f"{energy}); give a point that the prior thinks possible"
        )
    return target


def _nothing(prior: Prior, group: Group, values: Mapping[str, Tensor]) -> str:
    """Why a group has nothing to draw, and what to do."""
    kind = type(prior).__name__
    if len(unconstrained_sites(partial(prior, group), values)[1]):
        return (
            f"group {group.name!r}: all that its {kind} samples is shared with other groups, and "
            'stays as it was fitted; give it a hyperparameter of its own, not named "shared."'
        )
    return (
        f"group {group.name!r}: nothing of its {kind} is sampled; give it a hyperprior, or "
        '"free", where it has a number'
    )


def _bins(group: Group, density: WeightPrior, flat: Tensor, width: float) -> Bins:
    """The group's weights in bins. Raises ValueError for a density that these cannot hold."""
    mixture = shared_mixture(density)
    if mixture is None:
        raise ValueError(
            f"group {group.name!r}: a {type(density).__name__} is no mixture that all weights "
            "share, so to_arviz and diagnose have none to draw; posterior.point has what was "
            f"fitted, and hyperposterior(..., exact=True) goes through all {group.size} weights"
        )
    return binned(flat, mixture, width)


def shared_mixture(density: WeightPrior) -> Mixture | None:
    """The mixture that all weights share, in their own units; None where there is none."""
    if type(density) not in (MixturePrior, UniformlyQuantized):
        return None
    mixture, scales = density.mixture, density.scales  # type: ignore[attr-defined]
    if scales is None:
        return mixture
    if len(scales) > 1 and any(scales.stride()):  # not one number, expanded
        return None
    scale = scales[0]
    return Mixture(mixture.means * scale, mixture.precisions / scale.square(), mixture.proportions)


def _scales(prior: Scaled, group: Group, values: Mapping[str, Tensor]) -> Tensor:
    """Each weight's scale (N,)."""
    with pyro_step(), poutine.block(), torch.no_grad():
        scales = run_at(partial(prior, group), values)[0].scales
    assert scales is not None
    return scales
