"""A hyperparameter's site: its hyperprior as a formula, its strength in weights, where it peaks."""

import math
from dataclasses import dataclass
from functools import cached_property

import pyro.distributions as dist
import torch
from pyro.distributions.transforms import ExpTransform
from torch import Tensor

from pyro_sws.inference.priors.scaled import Standardising

PARAMETERS = {  # what a formula shows, by family
    "Beta": ("concentration1", "concentration0"),
    "Exponential": ("rate",),
    "Gamma": ("concentration", "rate"),
    "HalfNormal": ("scale",),
    "LogNormal": ("loc", "scale"),
    "Normal": ("loc", "scale"),
}


@dataclass(frozen=True, eq=False)
class Site:
    """A hyperparameter of a group, or many of one kind, as a fit would find it.

    What a Gamma is of is read off the site's name: precisions, or scales or deviations.
    """

    name: str
    hyperprior: dist.TorchDistribution  # as it was sampled from
    value: Tensor  # where a fit starts
    started: bool = True  # False: the prior gives no start, and the value is a draw

    @cached_property
    def base(self) -> dist.TorchDistribution:
        """The hyperprior of one entry, or of as many as it has batch dimensions for."""
        base = self.hyperprior
        while isinstance(base, dist.Independent | dist.MaskedDistribution):
            base = base.base_dist
        return base

    @property
    def entries(self) -> int:
        """How many values have this hyperprior, each for its own part of the group's weights."""
        return math.prod(self.base.batch_shape)

    @cached_property
    def free(self) -> bool:
        """Learned with no hyperprior, or an improper one, of which no draw has a meaning."""
        base = self.hyperprior
        while isinstance(base, dist.Independent | dist.MaskedDistribution):
            if isinstance(base, dist.MaskedDistribution) and base._mask is False:
                return True
            base = base.base_dist
        return isinstance(base, dist.ImproperUniform | Standardising)

    @property
    def formula(self) -> str:
        if self.free:
            return "free"
        match self.base:
            case dist.Gamma(concentration=shape):
                peak = f"mode at {self.shown(_gamma_mode(self.base))}"
                peak = peak if _low(shape) >= 1 else "no mode"
                return f"{_formula(self.base)}, {peak}"
        return _formula(self.base)

    @property
    def strength(self) -> float | None:
        """How many weights say as much as one entry's hyperprior; None where that is not known.

        A Beta(a, b) says as much as a + b - 2 weights. By the curvature of its logarithm in log x,
        a Gamma(a, b) says as much as 2 (a - 1) about a precision, to which a weight adds 1/2, and
        as (a - 1) / 2 about a scale, to which a weight adds 2.
        """
        match self.base:
            case _ if self.free:
                return 0.0
            case dist.Gamma(concentration=shape) if self.of_precisions:
                return 2 * (_low(shape) - 1)
            case dist.Gamma(concentration=shape) if self.of_scales:
                return (_low(shape) - 1) / 2
            case dist.Beta(concentration1=zeros, concentration0=nonzeros):
                return _low(zeros + nonzeros) - 2
            case dist.Dirichlet(concentration=concentration):
                return _low((concentration - 1).sum(-1))
        return None

    def times_as_strong(self, factor: float) -> str | None:
        """A hyperprior that says the same as loud: a Gamma's mode, or a Beta's mean, stays."""
        match self.base:
            case dist.Gamma(concentration=shape, rate=rate):
                return f"Gamma({1 + factor * (_low(shape) - 1):.4g}, {factor * _low(rate):.4g})"
            case dist.Beta(concentration1=zeros, concentration0=nonzeros):
                a, b = _low(zeros), _low(nonzeros)
                factor = (2 + factor * (a + b - 2)) / (a + b)
                return f"Beta({factor * a:.6g}, {factor * b:.4g})"
        return None

    @property
    def centres(self) -> list[Tensor]:
        """A Gamma's or Beta's mean, and its mode where it has one inside its support."""
        match self.base:
            case dist.Gamma(concentration=shape) if not self.free:
                inside, mode = _low(shape) > 1, _gamma_mode(self.base)
            case dist.Beta(concentration1=a, concentration0=b) if not self.free:
                inside, mode = min(_low(a), _low(b)) > 1, (a - 1) / (a + b - 2)
            case _:
                return []
        return [self.base.mean, mode] if inside else [self.base.mean]

    def farthest(self) -> tuple[float, str, str]:
        """The largest factor between an entry's start and its mode or mean; both of them, shown.

        Whichever is nearer counts; in deviations for a precision, in odds for a Beta. 1 where there
        is no start, and for hyperpriors that have no ``centres``.
        """
        if not self.started or not self.centres:
            return 1.0, "", ""
        centres = torch.stack([centre.expand_as(self.value) for centre in self.centres])
        apart = (self._log(self.value) - self._log(centres)).abs().amin(0).flatten()
        entry = int(apart.argmax())
        start, centre = self.value.flatten()[entry], centres[-1].flatten()[entry]
        return float(apart[entry].exp()), self.shown(start), self.shown(centre)

    def _log(self, value: Tensor) -> Tensor:
        if isinstance(self.base, dist.Beta):
            return value.logit()
        return value.log() / (-2 if self.of_precisions else 1)

    def shown(self, value: Tensor) -> str:
        """The first entry of a value, a precision as its deviation."""
        return f"deviation {_one(value.rsqrt())}" if self.of_precisions else _one(value)

    @property
    def of_precisions(self) -> bool:
        return "precision" in self.name.rpartition(".")[2]

    @property
    def of_scales(self) -> bool:
        last = self.name.rpartition(".")[2]
        return "scale" in last or "deviation" in last


def _formula(density: dist.TorchDistribution) -> str:
    match density:
        case dist.Independent():
            return _formula(density.base_dist)
        case dist.TransformedDistribution(base_dist=base, transforms=[only]) if _is_log(only):
            return f"log of {_formula(base)}"
        case dist.Dirichlet(concentration=concentration):
            return f"Dirichlet({_one(concentration)})"
    names = PARAMETERS.get(type(density).__name__, ())
    values = ", ".join(_one(getattr(density, name)) for name in names)
    return f"{type(density).__name__}({values})" if names else type(density).__name__


def _is_log(transform: object) -> bool:
    return isinstance(getattr(transform, "inv", None), ExpTransform)


def _gamma_mode(gamma: dist.Gamma) -> Tensor:
    return (gamma.concentration - 1) / gamma.rate


def _low(values: Tensor) -> float:
    return float(values.min())


def _one(values: Tensor) -> str:
    return f"{float(values.flatten()[0]):.4g}"
