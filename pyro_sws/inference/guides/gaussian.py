"""Guides with spread: a Gaussian at each site, in unconstrained space, around the network."""

import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from numbers import Integral
from operator import attrgetter

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from pyro.infer.autoguide import AutoGuide
from pyro.infer.autoguide.initialization import InitMessenger, init_to_value
from pyro.infer.autoguide.utils import deep_setattr
from pyro.nn.module import PyroModule, PyroParam
from torch import Tensor
from torch.distributions import biject_to

from pyro_sws.inference.at_point import Site
from pyro_sws.inference.guides.handlers import ScaledAs, joint_inside, without_targets
from pyro_sws.inference.guides.names import check_shape, check_store, guide_name, remember
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import (
    DRAWS,
    WEIGHT_DRAWS,
    Posterior,
    Spread,
    check_draws,
    weights_site,
)

# Of a site's unit (see _unit). A tenth of the weights' size is noise that a trained network bears.
DEVIATION = 0.1
# A free site is improper where no weight speaks for it: nothing but this ends its growth.
WIDEST_FREE = 3.0


@torch.inference_mode(False)
def normal_guide(
    model: Joint,
    start: Mapping[str, Tensor] | None = None,
    *,
    deviation: float = DEVIATION,
    draws: int = DRAWS,
    weight_draws: int = WEIGHT_DRAWS,
    name: str | None = None,
) -> "GaussianGuide":
    """Mean field: an independent Gaussian for every weight and every hyperparameter.

    Args:
        model: what ``joint`` returns.
        start: values by site name at which the Gaussians are centred first, in constrained space
            and of the sites' shapes; sites that it lacks start at the network's own weights and at
            each prior's start.
        deviation: how wide they are first, in units of the site: a weight's unit is the root mean
            square of its tensor, a mean's is that of the means, and what is positive or a
            proportion has the unit 1 in its logarithm or log-odds.
        draws: how many draws of the hyperparameters the posterior will have.
        weight_draws: how many draws of the weights it will have.
        name: the guide's in Pyro's parameter store; see ``delta_guide``.

    Raises:
        ValueError: for a deviation that is not positive, and a number of draws below 0.
    """
    return GaussianGuide(model, start, "normal", deviation, draws, weight_draws, name=name)


@torch.inference_mode(False)
def delta_normal_guide(
    model: Joint,
    start: Mapping[str, Tensor] | None = None,
    *,
    deviation: float = DEVIATION,
    draws: int = DRAWS,
    name: str | None = None,
) -> "GaussianGuide":
    """A point mass at the weights, and as in ``normal_guide`` Gaussians for the hyperparameters.

    Args:
        model: what ``joint`` returns.
        start: values by site name to start from; see ``normal_guide``.
        deviation: the Gaussians' first width, in the units of ``normal_guide``.
        draws: how many draws of the hyperparameters the posterior will have.
        name: the guide's in Pyro's parameter store; see ``delta_guide``.

    Raises:
        ValueError: as ``normal_guide``.
    """
    return GaussianGuide(model, start, "delta", deviation, draws, 0, name=name)


@torch.inference_mode(False)
def low_rank_guide(
    model: Joint,
    start: Mapping[str, Tensor] | None = None,
    *,
    rank: int = 4,
    deviation: float = DEVIATION,
    draws: int = DRAWS,
    weight_draws: int = WEIGHT_DRAWS,
    name: str | None = None,
) -> "GaussianGuide":
    """As ``normal_guide``, but a group's weights covary: covariance D (1 + F F') D, F (N, rank).

    N is the group's number of weights. Memory and a step's time grow with N rank.

    Args:
        model: what ``joint`` returns.
        start: values by site name to start from; see ``normal_guide``.
        rank: columns of each group's factor F.
        deviation: the Gaussians' first width, in the units of ``normal_guide``.
        draws: how many draws of the hyperparameters the posterior will have.
        weight_draws: how many draws of the weights it will have.
        name: the guide's in Pyro's parameter store; see ``delta_guide``.

    Raises:
        ValueError: for a rank below 1, and as ``normal_guide``.
    """
    if not isinstance(rank, Integral) or rank < 1:
        raise ValueError(f"rank must be a whole number >= 1, got {rank}")
    return GaussianGuide(model, start, "low_rank", deviation, draws, weight_draws, rank, name)


class GaussianGuide(AutoGuide):
    """q(latents), independent from site to site; its log-density is scaled by the model's tau.

    So -ELBO = E_q[error cost] + tau KL(q || p). Parameters: ``locations.<site>`` in unconstrained
    space, ``widths.<site>.deviation`` and, of weights of low rank, ``widths.<site>.factor``. A site
    that is held where it starts, such as Scaled's scales, has a point mass.
    """

    carries_tau = True

    def __init__(
        self,
        model: Joint,
        start: Mapping[str, Tensor] | None,
        weights: str,  # delta, normal or low_rank
        deviation: float,
        draws: int,
        weight_draws: int,
        rank: int = 0,
        name: str | None = None,
    ):
        if not 0 < deviation < math.inf:
            raise ValueError(f"deviation must be a positive number, got {deviation}")
        check_draws(draws=draws, weight_draws=weight_draws)
        inside = joint_inside(model)
        values = {s: v.detach().clone() for s, v in {**inside.start(), **(start or {})}.items()}
        super().__init__(InitMessenger(init_to_value(values=values))(without_targets(model)))
        self._pyro_name = guide_name("gaussian_guide", name)
        self.handled = inside is not model  # inside Pyro's handlers
        self.joint, self.weights, self.rank, self.deviation = inside, weights, rank, deviation
        self.draws, self.weight_draws = draws, weight_draws
        self.groups = {weights_site(name): group for name, group in inside.groups.items()}

    def forward(self, *args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
        """A draw of every latent site."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        plates, drawn = self._create_plates(*args, **kwargs), {}
        scaled = ScaledAs(self.prototype_trace)
        for name, site in self._latents():
            with ExitStack() as stack:
                stack.enter_context(scaled)
                for frame in site["cond_indep_stack"]:
                    stack.enter_context(plates[frame.name])
                drawn[name] = pyro.sample(name, self.density(name))
        return drawn

    def density(self, name: str) -> dist.TorchDistribution:
        """q of a site, over the site's own support."""
        site, location = self.prototype_trace.nodes[name], attrgetter(name)(self.locations)
        if self._is_point(name):
            value = biject_to(site["fn"].support)(location)
            return dist.Delta(value, event_dim=site["fn"].event_dim)
        widths = attrgetter(name)(self.widths)
        if hasattr(widths, "factor"):
            factor = widths.deviation.unsqueeze(-1) * widths.factor
            return dist.LowRankMultivariateNormal(location, factor, widths.deviation.square())
        events = site["fn"].event_dim + location.dim() - site["value"].dim()
        normal = dist.Normal(location, widths.deviation).to_event(events)
        # Cached: else log q would invert the transform, which rounding at its ends forbids.
        transform = biject_to(site["fn"].support).with_cache()
        return normal if name in self.groups else dist.TransformedDistribution(normal, [transform])

    @torch.no_grad()
    def median(self, *args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
        """Site name -> the image of q's centre: of weights also the mean."""
        return {
            name: biject_to(site["fn"].support)(attrgetter(name)(self.locations))
            for name, site in self._latents()
        }

    @torch.no_grad()
    def spread(self, posterior: Posterior, batches: Iterable) -> Spread:
        """Draws of every site with spread, and the weights' deviations."""
        wide = {name: self.density(name) for name, _ in self._latents() if not self._is_point(name)}
        counts = {name: self.weight_draws if name in self.groups else self.draws for name in wide}
        return Spread(
            {name: q.sample((counts[name],)) for name, q in wide.items()},
            {name: wide[name].variance.sqrt() for name in self.groups if name in wide},
        )

    @property
    def weights_have_spread(self) -> bool:
        return self.weights != "delta"

    @property
    def kl_is_finite(self) -> bool:
        """Whether every latent has spread, and a density under the prior; known after a first run.

        Only then is -ELBO at tau = 1 a length: that of a bits-back code.
        """
        improper = any(_is_free(site) or _is_held(site) for _, site in self._latents())
        return self.weights_have_spread and not improper

    def _setup_prototype(self, *args: Tensor, **kwargs: Tensor) -> None:
        check_store(self._pyro_name)
        super()._setup_prototype(*args, **kwargs)
        self.locations, self.widths = PyroModule(), PyroModule()
        for name, site in self._latents():
            value = site["value"].detach()
            # A copy: a fit writes into the parameter.
            location = biject_to(site["fn"].support).inv(value).clone()
            deep_setattr(self.locations, name, PyroParam(location))
            check_shape(self._pyro_name, name, attrgetter(name)(self.locations), location)
            if self._is_point(name):
                continue
            unit = _unit(location, value, self.groups.get(name))
            limit = constraints.interval(0.0, WIDEST_FREE * unit)
            within = limit if _is_free(site) else constraints.positive
            width = PyroParam((self.deviation * unit).clamp_max(0.99 * WIDEST_FREE * unit), within)
            deep_setattr(self.widths, f"{name}.deviation", width)
            if name in self.groups and self.weights == "low_rank":
                # Not 0, from where no gradient leads away. Small: the deviation is as asked for.
                noise = torch.randn(
                    len(value), self.rank, generator=torch.Generator().manual_seed(0)
                )
                factor = 0.1 * self.rank**-0.5 * noise.to(value)
                deep_setattr(self.widths, f"{name}.factor", PyroParam(factor))
                stored = attrgetter(f"{name}.factor")(self.widths)
                check_shape(self._pyro_name, f"{name} factor", stored, factor)
        remember(self._pyro_name, self)

    def _latents(self) -> list[tuple[str, Site]]:
        return list(self.prototype_trace.iter_stochastic_nodes())

    def _is_point(self, name: str) -> bool:
        weights = name in self.groups and self.weights == "delta"
        return weights or _is_held(self.prototype_trace.nodes[name])


def _is_free(site: Site) -> bool:
    """Whether the site has log-density 0 everywhere: learned without a hyperprior."""
    return isinstance(site["fn"], dist.MaskedDistribution) and site["fn"]._mask is False


def _is_held(site: Site) -> bool:
    """Whether the site's prior says that it stays where it starts, see ``Standardising``."""
    return getattr(site["fn"], "is_held", False)


def _unit(location: Tensor, value: Tensor, group: Group | None) -> Tensor:
    """By what a site's deviation is measured, in unconstrained space; of ``location``'s shape."""
    if group is None:
        real = torch.equal(location, value)
        return torch.full_like(location, _size(value, 1.0) if real else 1.0)
    whole, unit = _size(value, 1.0), torch.empty_like(value)
    for part in group.slices.values():
        unit[part] = _size(value[part], whole)
    return unit


def _size(values: Tensor, otherwise: float) -> float:
    """The root mean square, or what stands for it where all are zero."""
    return float(values.double().square().mean().sqrt()) or otherwise
