"""Likelihoods of real targets: Gaussian, and two for targets with outliers."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.targets import by_example, floating, same_shape
from pyro_sws.inference.typed_fields import check_fields


@dataclass(frozen=True)
class Gaussian:
    """Real targets around outputs of the same shape. Scored by the root mean squared error.

    ``noise_precision`` is 1 / variance of the noise: a number is known, a Gamma is learned under it
    (site "noise_precision").
    """

    __pydantic_config__ = {"extra": "forbid"}
    noise_precision: float | Gamma = 1.0
    score_name: ClassVar[str] = "rmse"
    score_unit: ClassVar[str] = "target units"

    def __post_init__(self) -> None:
        check_fields(self, "gaussian: ")
        _check_noise("gaussian", self.noise_precision)

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        scale = _noise_scale(self.noise_precision, outputs)
        return dist.Normal(outputs, scale).to_event(outputs.dim() - 1)

    def start(self) -> dict[str, float]:
        return _noise_start(self.noise_precision)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        floating("gaussian", targets)
        same_shape("gaussian", targets, outputs.shape)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return by_example((outputs - targets).square().double())

    def score(self, mean_loss: float) -> float:
        return math.sqrt(mean_loss)

    def dispersion(self, mean_loss: float) -> float:
        """How many times as large squared residuals are as the noise has them, where it is known.

        The quasi-likelihood's dispersion (McCullagh & Nelder 1989, sec. 2.2): 1 if it is learned.
        """
        known = not isinstance(self.noise_precision, Gamma)
        return float(self.noise_precision) * mean_loss if known else 1.0  # type: ignore[arg-type]

    def at(self, dispersion: float) -> "Gaussian":
        """The same with the noise that residuals of this dispersion have."""
        if isinstance(self.noise_precision, Gamma):
            return self
        return replace(self, noise_precision=self.noise_precision / dispersion)


class _Robust:
    """What likelihoods for outliers share: a noise, and a score of the residuals."""

    name: ClassVar[str]  # in messages
    score_unit: ClassVar[str] = "target units"
    noise_precision: float | Gamma
    scored_by: Literal["rmse", "mae"]

    @property
    def score_name(self) -> str:
        return self.scored_by

    def start(self) -> dict[str, float]:
        return _noise_start(self.noise_precision)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        floating(self.name, targets)
        same_shape(self.name, targets, outputs.shape)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        residuals = outputs - targets
        each = residuals.square() if self.scored_by == "rmse" else residuals.abs()
        return by_example(each.double())

    def score(self, mean_loss: float) -> float:
        return math.sqrt(mean_loss) if self.scored_by == "rmse" else mean_loss


@dataclass(frozen=True)
class StudentT(_Robust):
    """Real targets around outputs of the same shape, a few of them far away (Lange et al. 1989).

    An outlier weighs little in a fit: its pull on an output falls as 1 / residual. The fewer
    ``degrees_of_freedom``, the heavier the tails; many are Gaussian. ``noise_precision`` is
    1 / scale^2, the squared scale being the variance times (degrees - 2) / degrees where there is
    one: a number is known, a Gamma is learned under it (site "noise_precision"). The scale says
    which residuals are outliers, so a walk takes a known one as it is. Scored by the root mean
    squared error, or with ``scored_by = "mae"`` by the mean absolute one.
    """

    __pydantic_config__ = {"extra": "forbid"}
    degrees_of_freedom: float = 4.0
    noise_precision: float | Gamma = 1.0
    scored_by: Literal["rmse", "mae"] = field(default="rmse", kw_only=True)

    name: ClassVar[str] = "student_t"

    def __post_init__(self) -> None:
        check_fields(self, "student_t: ")
        _check_noise("student_t", self.noise_precision)
        if not 0 < self.degrees_of_freedom < math.inf:
            remedy = "; infinitely many are Gaussian()" if self.degrees_of_freedom > 0 else ""
            raise ValueError(
                "student_t: degrees_of_freedom must be positive and finite, got "
                f"{self.degrees_of_freedom}{remedy}"
            )

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        scale = _noise_scale(self.noise_precision, outputs)
        degrees = torch.full_like(scale, self.degrees_of_freedom)
        return dist.StudentT(degrees, outputs, scale).to_event(outputs.dim() - 1)


@dataclass(frozen=True)
class Laplace(_Robust):
    """Real targets around outputs of the same shape: a fit goes for their median.

    The density of a residual is exp(-|residual| / scale) / (2 scale), of variance 2 scale^2.
    ``noise_precision`` is 1 / scale^2: a number is known, a Gamma is learned under it (site
    "noise_precision"). Scored by the mean absolute error, or with ``scored_by = "rmse"`` by the
    root mean squared one.
    """

    __pydantic_config__ = {"extra": "forbid"}
    noise_precision: float | Gamma = 1.0
    scored_by: Literal["mae", "rmse"] = field(default="mae", kw_only=True)

    name: ClassVar[str] = "laplace"

    def __post_init__(self) -> None:
        check_fields(self, "laplace: ")
        _check_noise("laplace", self.noise_precision)

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        scale = _noise_scale(self.noise_precision, outputs)
        return dist.Laplace(outputs, scale).to_event(outputs.dim() - 1)

    def dispersion(self, mean_loss: float) -> float:
        """How many times as large residuals are as the noise has them, where it is known.

        Of the mean absolute residual, which is the scale's, or, scored by "rmse", of the root of
        half the mean square: an error cost over it is one at another scale, as of Gaussian.
        """
        if isinstance(self.noise_precision, Gamma):
            return 1.0
        size = math.sqrt(mean_loss / 2) if self.scored_by == "rmse" else mean_loss
        return math.sqrt(self.noise_precision) * size

    def at(self, dispersion: float) -> "Laplace":
        """The same with the noise that residuals of this dispersion have."""
        if isinstance(self.noise_precision, Gamma):
            return self
        return replace(self, noise_precision=self.noise_precision / dispersion**2)


def _check_noise(likelihood: str, precision: float | Gamma) -> None:
    if isinstance(precision, int | float) and not 0 < precision < math.inf:
        raise ValueError(f"{likelihood}: noise_precision must be positive, got {precision}")


def _noise_scale(precision: float | Gamma, like: Tensor) -> Tensor:
    """precision^-1/2, of one that is known, or of the site "noise_precision"; a scalar."""
    one = like.new_tensor(1.0)
    if not isinstance(precision, Gamma):
        return (one * precision).rsqrt()
    gamma = dist.Gamma(one * precision.shape, one * precision.rate)
    return pyro.sample("noise_precision", gamma).reshape(()).rsqrt()


def _noise_start(precision: float | Gamma) -> dict[str, float]:
    return {"noise_precision": precision.mean} if isinstance(precision, Gamma) else {}
