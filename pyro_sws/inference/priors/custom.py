"""Custom: any function that samples hyperparameters and returns a weight density, as a family."""

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_sws.inference.at_point import Site, is_a_plates
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.priors.initialization import initialize
from pyro_sws.inference.priors.shared import is_shared
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import weights_site
from pyro_sws.weights.weight_prior import WeightPrior

MEMBERS = tuple(name for name in vars(WeightPrior) if not name.startswith("_"))
# Means that all weights share start this far to both sides of them.
DEVIATION = 0.1


@dataclass(frozen=True)
class Custom:
    """The prior that ``function(group, **arguments)`` samples and returns.

    It samples its hyperparameters with pyro.sample, under names that start with "<group.name>.",
    and returns a WeightPrior, such as MixturePrior(Mixture(means, precisions, proportions)). A site
    whose name starts with "shared." is one for all groups whose prior samples it.

    ``starts(group, weights)``, given the trained weights, flat (N,), returns starting values by
    site. A site that it leaves out, in turn, starts: where its name ends in "means" and its shape
    is (J,), evenly spread over the weights' range; else at the mean of its distribution, given the
    starts before it, where that is finite; else at a draw, always the same.
    """

    function: Callable[..., WeightPrior]
    arguments: Mapping[str, object] = field(default_factory=dict)
    starts: Callable[[Group, Tensor], Mapping[str, Tensor]] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"function must be callable, got {self.function!r}")
        if self.starts is not None and not callable(self.starts):
            raise ValueError(f"starts must be a function (group, weights), got {self.starts!r}")
        try:
            signature = inspect.signature(self.function)
        except ValueError:  # some that are written in C have none
            return
        try:
            signature.bind(None, **self.arguments)
        except TypeError as error:
            takes = ", ".join(signature.parameters) or "nothing"
            raise ValueError(f"{self.name}: {error}; it takes {takes}") from None

    @property
    def name(self) -> str:
        """The function's name."""
        return getattr(self.function, "__name__", None) or repr(self.function)

    def __call__(self, group: Group) -> WeightPrior:
        """What the function returns. Raises TypeError where that is no WeightPrior.

        Raises ValueError for a site whose name is not the group's, and for pyro.param.
        """
        with _OwnSites(group.name, self.name):
            density = self.function(group, **self.arguments)
        # Of the class first: a property may be costly.
        missing = [n for n in MEMBERS if not (hasattr(type(density), n) or hasattr(density, n))]
        if missing:
            lacks = "" if density is None else f", which lacks {', '.join(missing)}"
            raise TypeError(
                f"{self.name} returned {_kind(density)}{lacks}; return a WeightPrior, such as "
                "MixturePrior(Mixture(means, precisions, proportions))"
            )
        if "mixture" not in getattr(density, "__dataclass_fields__", ()):
            raise TypeError(
                f"{self.name} returned {_kind(density)}; make it a dataclass with a field "
                "'mixture', which merging replaces"
            )
        return density

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the sites, given the group's trained weights (N,).

        Raises ValueError where ``starts`` gives what is no site's, or what a site cannot be, and
        where nothing gives a start.
        """
        given = {} if self.starts is None else self.starts(group, weights)
        if not isinstance(given, Mapping):
            raise TypeError(f"starts must return values by site name, got {_kind(given)}")
        with pyro_step(), forked_rng(0, group.device), torch.no_grad():
            # Blocked: what a caller's handlers make of sites is not for this run.
            with poutine.block(), _Starting(weights, given) as run:
                self(group)
        for site in given:
            if site not in run.values:
                close = difflib.get_close_matches(site, run.values, 1)
                hint = f", did you mean {close[0]!r}?" if close else ""
                known = ", ".join(run.values) or "none"
                raise ValueError(f"starts: {self.name} has no site {site!r}{hint}; it has {known}")
        return run.values


class _OwnSites(Messenger):
    """Refuses what would collide with another group's sites, or be lost after the fit."""

    def __init__(self, group: str, function: str):
        super().__init__()
        self.group, self.function = group, function

    def _pyro_sample(self, msg: Site) -> None:
        name = msg["name"]
        if not name.startswith(f"{self.group}.") and not is_shared(name):
            raise ValueError(
                f"{self.function}: site {name!r} must start with '{self.group}.'; "
                f'name it f"{{group.name}}.{name}", or "shared.{name}" for one of all groups'
            )
        if name == weights_site(self.group):
            raise ValueError(f"{self.function}: site {name!r} is the weights' own; rename it")

    def _pyro_param(self, msg):
        raise ValueError(
            f"{self.function}: pyro.param {msg['name']!r} would be lost after the fit; use "
            "pyro.sample, with .mask(False) on its distribution for one that costs nothing"
        )


class _Starting(Messenger):
    """Runs a prior at the start of each site, so that what depends on a site starts from there."""

    def __init__(self, weights: Tensor, given: Mapping[str, Tensor]):
        super().__init__()
        self.weights, self.given = weights, given
        self.values: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] or is_a_plates(msg):
            return
        name = msg["name"]
        if name in self.given:
            value = _checked(name, msg["fn"], torch.as_tensor(self.given[name]).to(self.weights))
        else:
            value = _derived(name, msg["fn"], self.weights)
        self.values[name] = msg["value"] = value.detach().clone()
        msg["done"] = True


def _checked(site: str, fn: dist.TorchDistribution, value: Tensor) -> Tensor:
    if value.shape != fn.shape():
        shapes = f"{tuple(value.shape)}; its distribution has {tuple(fn.shape())}"
        raise ValueError(f"starts: {site!r} has shape {shapes}")
    if not _possible(fn, value):
        raise ValueError(f"starts: {site!r} lies outside its support, {fn.support}")
    return value


def _derived(site: str, fn: dist.TorchDistribution, weights: Tensor) -> Tensor:
    for way in (_even, _mean, _draw):
        value = way(site, fn, weights)
        if value is not None and _possible(fn, value):
            return value
    raise ValueError(
        f"site {site!r} has no start: neither its mean nor a draw is finite and in its support, "
        f"{fn.support}; give one with starts="
    )


def _possible(fn: dist.TorchDistribution, value: Tensor) -> bool:
    support = fn.support
    assert support is not None  # a distribution's property always is a constraint
    return bool(value.isfinite().all() and support.check(value).all())


def _even(site: str, fn: dist.TorchDistribution, weights: Tensor) -> Tensor | None:
    if not site.endswith("means") or len(fn.shape()) != 1:
        return None
    return initialize("range", weights, fn.shape()[0], DEVIATION).means


def _mean(site: str, fn: dist.TorchDistribution, weights: Tensor) -> Tensor | None:
    try:
        return fn.mean
    except (NotImplementedError, AttributeError):
        return None


def _draw(site: str, fn: dist.TorchDistribution, weights: Tensor) -> Tensor | None:
    try:
        return fn.sample()
    except NotImplementedError:
        return None


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
