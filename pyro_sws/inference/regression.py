"""Likelihoods of real targets: Gaussian, of one noise or one by target, and two for outliers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.scores import Scored, ScoredBy, own_score
from pyro_sws.inference.targets import by_example, floating, how_many, one_by_one, same_shape, what
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

    def weights(self, targets: Tensor) -> Tensor:
        """What the score weighs each example by: the number of its targets; (B,)."""
        return how_many(targets)

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

    def agreement(self, own: dist.TorchDistribution, teacher: Tensor, targets: Tensor) -> Tensor:
        """The log-density of the teacher's means, by which no noise is learned; (B,)."""
        return _density_with_noise_held(own, teacher)


@dataclass(frozen=True)
class HeteroscedasticGaussian(Scored):
    """Real targets (B, ...) under outputs (B, ..., 2): each one's mean, and what its variance is.

    The log-density is that of Normal(mean, variance), whose variance the network predicts as well
    (Nix & Weigend 1994). With ``inputs = "log_variances"`` the second output is its log; with
    "raw_scales" the scale is softplus of it; with "variances" it is the variance itself, which the
    network keeps positive. A pair of tensors (mean, second) in place of one (B, ..., 2) will do.

    Scored by the negative log-density in nats, the mean over targets, to which variances count; or
    by the errors of the means alone: ``score = "rmse"``, the root of their mean square, or "mae",
    the mean absolute one.
    """

    __pydantic_config__ = {"extra": "forbid"}
    inputs: Literal["log_variances", "raw_scales", "variances"] = field(
        default="log_variances", kw_only=True
    )
    score: ScoredBy[Literal["nll", "rmse", "mae"]] = field(
        default="nll",  # type: ignore[arg-type]  # __post_init__ makes it a Score
        kw_only=True,
    )

    name: ClassVar[str] = "heteroscedastic_gaussian"

    def __post_init__(self) -> None:
        check_fields(self, "heteroscedastic_gaussian: ")
        own_score(self)

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        mean, scale = self.mean_and_scale(outputs)
        return dist.Normal(mean, scale).to_event(mean.dim() - 1)

    @staticmethod
    def joined(outputs: Sequence[Tensor]) -> Tensor:
        """A network's mean and second output, (B, ...) each, as one tensor (B, ..., 2)."""
        if isinstance(outputs, Mapping):
            raise ValueError(
                "heteroscedastic_gaussian: outputs must be a mean and a second tensor, got a dict "
                f"of {', '.join(map(repr, outputs))}; return a pair, or make one by forward="
            )
        return torch.stack(tuple(outputs), -1)

    def mean_and_scale(self, outputs: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of targets; (B, ...) each."""
        mean, second = outputs if isinstance(outputs, tuple) else outputs.unbind(-1)
        least = torch.finfo(second.dtype).tiny  # of a variance of 0 a target has no density
        if self.inputs == "log_variances":
            return mean, (second / 2).exp().clamp_min(least**0.5)
        if self.inputs == "raw_scales":
            return mean, torch.nn.functional.softplus(second).clamp_min(least**0.5)
        return mean, second.clamp_min(least).sqrt()

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        floating(self.name, targets)
        if not isinstance(outputs, tuple) and (outputs.dim() < 2 or outputs.shape[-1] != 2):
            hint = ""
            if outputs.dim() == 2 and outputs.shape[1] == 2 * targets[:1].numel():
                hint = f", as by nn.Unflatten(1, ({outputs.shape[1] // 2}, 2))"
            raise ValueError(
                f"{self.name}: outputs must be (batch, ..., 2), a mean and a variance for each "
                f"target, got {what(outputs)}{hint}"
            )
        mean, second = outputs if isinstance(outputs, tuple) else outputs.unbind(-1)
        same_shape(self.name, targets, mean.shape)
        if self.inputs == "variances" and (second < 0).any():
            raise ValueError(
                f"{self.name}: inputs are variances, which are at least 0, but the smallest of the "
                f'network\'s is {second.min():g}; end in one, or say inputs="log_variances"'
            )

    def weights(self, targets: Tensor) -> Tensor:
        """What the score weighs each example by: the number of its targets; (B,)."""
        return how_many(targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.score == "nll":
            return by_example(-one_by_one(self(outputs)).log_prob(targets).double())
        residuals = (self.mean_and_scale(outputs)[0] - targets).double()
        return by_example(residuals.square() if self.score == "rmse" else residuals.abs())

    def agreement(self, own: dist.TorchDistribution, teacher: Tensor, targets: Tensor) -> Tensor:
        """-cross-entropy of the teacher's normal distributions, means and variances; (B,)."""
        mean, scale = self.mean_and_scale(teacher)
        return own.log_prob(mean) - 0.5 * _summed((scale / one_by_one(own).scale).square())


class _Robust(Scored):
    """What likelihoods for outliers share: a noise, and a score of the residuals."""

    name: ClassVar[str]  # in messages
    noise_precision: float | Gamma

    def start(self) -> dict[str, float]:
        return _noise_start(self.noise_precision)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        floating(self.name, targets)
        same_shape(self.name, targets, outputs.shape)

    def weights(self, targets: Tensor) -> Tensor:
        """What the score weighs each example by: the number of its targets; (B,)."""
        return how_many(targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        residuals = outputs - targets
        each = residuals.square() if self.score == "rmse" else residuals.abs()
        return by_example(each.double())

    def agreement(self, own: dist.TorchDistribution, teacher: Tensor, targets: Tensor) -> Tensor:
        """The log-density of the teacher's outputs, by which no noise is learned; (B,)."""
        return _density_with_noise_held(own, teacher)


@dataclass(frozen=True)
class StudentT(_Robust):
    """Real targets around outputs of the same shape, a few of them far away (Lange et al. 1989).

    An outlier weighs little in a fit: its pull on an output falls as 1 / residual. The fewer
    ``degrees_of_freedom``, the heavier the tails; many are Gaussian. ``noise_precision`` is
    1 / scale^2, the squared scale being the variance times (degrees - 2) / degrees where there is
    one: a number is known, a Gamma is learned under it (site "noise_precision"). The scale says
    which residuals are outliers, so a walk takes a known one as it is. Scored by the root mean
    squared error, or with ``score = "mae"`` by the mean absolute one.
    """

    __pydantic_config__ = {"extra": "forbid"}
    degrees_of_freedom: float = 4.0
    noise_precision: float | Gamma = 1.0
    score: ScoredBy[Literal["rmse", "mae"]] = field(
        default="rmse",  # type: ignore[arg-type]  # __post_init__ makes it a Score
        kw_only=True,
    )

    name: ClassVar[str] = "student_t"

    def __post_init__(self) -> None:
        check_fields(self, "student_t: ")
        own_score(self)
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
    "noise_precision"). Scored by the mean absolute error, or with ``score = "rmse"`` by the
    root mean squared one.
    """

    __pydantic_config__ = {"extra": "forbid"}
    noise_precision: float | Gamma = 1.0
    score: ScoredBy[Literal["mae", "rmse"]] = field(
        default="mae",  # type: ignore[arg-type]  # __post_init__ makes it a Score
        kw_only=True,
    )

    name: ClassVar[str] = "laplace"

    def __post_init__(self) -> None:
        check_fields(self, "laplace: ")
        own_score(self)
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
        size = math.sqrt(mean_loss / 2) if self.score == "rmse" else mean_loss
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


def _density_with_noise_held(own: dist.TorchDistribution, values: Tensor) -> Tensor:
    """The log-density of values (B, ...) that has no gradient in the noise; (B,)."""
    match one_by_one(own):
        case dist.StudentT(df=degrees, loc=loc, scale=scale):
            return _summed(dist.StudentT(degrees, loc, scale.detach()).log_prob(values))
        case dist.Laplace(loc=loc, scale=scale):
            return _summed(dist.Laplace(loc, scale.detach()).log_prob(values))
        case dist.Normal(loc=loc, scale=scale):
            return _summed(dist.Normal(loc, scale.detach()).log_prob(values))
        case other:
            raise ValueError(f"a {type(other).__name__} has no noise")


def _summed(each: Tensor) -> Tensor:
    return each.reshape(len(each), -1).sum(1)


def _noise_start(precision: float | Gamma) -> dict[str, float]:
    return {"noise_precision": precision.mean} if isinstance(precision, Gamma) else {}
