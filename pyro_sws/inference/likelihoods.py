"""Likelihoods: frozen specs that turn a network's outputs into the distribution of its targets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.hyperpriors import Gamma


class Likelihood(Protocol):
    """What a likelihood must have. Outputs and targets have the batch in their first dimension.

    It may have a method ``taught(outputs, teacher)``: the density that a fit uses instead, which
    also knows the outputs of the network as it was given (see Distilled).
    """

    score_name: ClassVar[str]
    score_unit: ClassVar[str]

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        """p(targets | outputs), batch_shape (B,). May pyro.sample parameters of its own."""
        ...

    def start(self) -> dict[str, float]:
        """Starting values of the sites that it samples itself."""
        ...

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError where the targets cannot be under these outputs."""
        ...

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the score averages, example by example; (B,) float."""
        ...

    def score(self, mean_loss: float) -> float:
        """The score that a user is shown; lower is better."""
        ...


@dataclass(frozen=True)
class Categorical:
    """Class labels int64 (B, ...) under logits (B, ..., C). Scored by the error in percent."""

    __pydantic_config__ = {"extra": "forbid"}
    score_name: ClassVar[str] = "error"
    score_unit: ClassVar[str] = "percent"

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Categorical(logits=outputs).to_event(outputs.dim() - 2)

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        if outputs.dim() < 2:
            raise ValueError(f"categorical: outputs must be (batch, classes), got {_what(outputs)}")
        if targets.dtype != torch.int64:
            raise ValueError(f"categorical: targets must be int64 labels, got {_what(targets)}")
        _same_shape("categorical", targets, outputs.shape[:-1])
        low, high = (int(t) for t in targets.aminmax())
        if low < 0 or high >= outputs.shape[-1]:
            classes = outputs.shape[-1]
            raise ValueError(
                f"categorical: labels run from {low} to {high}, but the network has {classes} "
                f"outputs; labels must be in 0..{classes - 1}"
            )

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _by_example((outputs.argmax(-1) != targets).double())

    def score(self, mean_loss: float) -> float:
        return 100 * mean_loss


@dataclass(frozen=True)
class Distilled(Categorical):
    """Class labels as in Categorical, and soft targets while fitting (Hinton et al. 2015).

    The fit's log-density of an example is (1 - share) times that of its label plus share times
    T^2 sum_c p_c log q_c, p and q the probabilities of the teacher and of the network at
    temperature T; T^2 keeps the gradient's size. The teacher is the network as it is given.
    ``smoothing`` spreads that share of each label evenly over the classes (Szegedy et al. 2016).
    Scores, certificate and the report's description are of labels alone.
    """

    share: float = 0.5
    temperature: float = 2.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        for name in ("share", "smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"distilled: {name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"distilled: temperature must be positive, got {self.temperature}")

    def taught(self, outputs: Tensor, teacher: Tensor) -> dist.TorchDistribution:
        """The fit's density of labels, given the teacher's outputs on the same inputs."""
        return SoftLabels(outputs, teacher, self).to_event(outputs.dim() - 2)


class SoftLabels(dist.Categorical):
    """Categorical whose log-density of a label is mixed with soft targets; see Distilled."""

    def __init__(self, outputs: Tensor, teacher: Tensor, spec: Distilled):
        super().__init__(logits=outputs, validate_args=False)
        self.outputs, self.teacher, self.spec = outputs, teacher.detach(), spec

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size(batch_shape) + self.event_shape + self.outputs.shape[-1:]
        return SoftLabels(self.outputs.expand(shape), self.teacher.expand(shape), self.spec)

    def log_prob(self, value: Tensor) -> Tensor:
        spec = self.spec
        hard = super().log_prob(value)
        if spec.smoothing:
            hard = torch.lerp(hard, self.logits.mean(-1), spec.smoothing)
        own, teacher = (
            (x / spec.temperature).log_softmax(-1) for x in (self.outputs, self.teacher)
        )
        soft = spec.temperature**2 * (teacher.exp() * own).sum(-1)
        return (1 - spec.share) * hard + spec.share * soft


@dataclass(frozen=True)
class Bernoulli:
    """Targets 0 or 1 under logits of the same shape. Scored by the error in percent."""

    __pydantic_config__ = {"extra": "forbid"}
    score_name: ClassVar[str] = "error"
    score_unit: ClassVar[str] = "percent"

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=outputs).to_event(outputs.dim() - 1)

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        _floating("bernoulli", targets)
        _same_shape("bernoulli", targets, outputs.shape)
        if not ((targets == 0) | (targets == 1)).all():
            low, high = targets.aminmax()
            raise ValueError(f"bernoulli: targets must be 0 or 1, got values in {low:g}..{high:g}")

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _by_example(((outputs > 0) != (targets > 0.5)).double())

    def score(self, mean_loss: float) -> float:
        return 100 * mean_loss


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
        value = self.noise_precision
        if isinstance(value, int | float) and not value > 0:
            raise ValueError(f"gaussian: noise_precision must be positive, got {value}")

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        precision = outputs.new_tensor(1.0)
        if isinstance(self.noise_precision, Gamma):
            shape, rate = self.noise_precision.shape, self.noise_precision.rate
            gamma = dist.Gamma(precision * shape, precision * rate)
            precision = pyro.sample("noise_precision", gamma).reshape(())
        else:
            precision = precision * self.noise_precision
        return dist.Normal(outputs, precision.rsqrt()).to_event(outputs.dim() - 1)

    def start(self) -> dict[str, float]:
        if isinstance(self.noise_precision, Gamma):
            return {"noise_precision": self.noise_precision.mean}
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        _floating("gaussian", targets)
        _same_shape("gaussian", targets, outputs.shape)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _by_example((outputs - targets).square().double())

    def score(self, mean_loss: float) -> float:
        return math.sqrt(mean_loss)


@dataclass(frozen=True)
class Poisson:
    """Counts under log-rates of the same shape. Scored by the negative log-likelihood a count."""

    __pydantic_config__ = {"extra": "forbid"}
    score_name: ClassVar[str] = "nll"
    score_unit: ClassVar[str] = "nats"

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Poisson(outputs.exp()).to_event(outputs.dim() - 1)

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        _floating("poisson", targets)
        _same_shape("poisson", targets, outputs.shape)
        if not ((targets >= 0) & (targets == targets.round())).all():
            low = targets.min()
            raise ValueError(f"poisson: targets must be counts 0, 1, 2, ...; smallest is {low:g}")

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _by_example(-dist.Poisson(outputs.exp()).log_prob(targets).double())

    def score(self, mean_loss: float) -> float:
        return mean_loss


LIKELIHOODS: dict[str, type] = {
    "categorical": Categorical,
    "distilled": Distilled,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "poisson": Poisson,
}


def as_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """A spec as it is; a name with its default fields. Raises ValueError for an unknown name."""
    if not isinstance(likelihood, str):
        return likelihood
    if likelihood not in LIKELIHOODS:
        choices = ", ".join(sorted(LIKELIHOODS))
        raise ValueError(f"unknown likelihood {likelihood!r}; choose from {choices}")
    return LIKELIHOODS[likelihood]()


def noise_trace(likelihood: Likelihood, like: Tensor, point: Mapping[str, Tensor]) -> poutine.Trace:
    """The sites that a likelihood samples itself, such as a learned noise: at the point, or drawn.

    They do not depend on the outputs: a single 0 of the dtype and on the device of ``like`` does.
    """
    conditioned = poutine.condition(likelihood, data=dict(point))
    return poutine.trace(conditioned).get_trace(like.new_zeros(1, 1))


def _by_example(losses: Tensor) -> Tensor:
    """Mean over everything but the batch; (B, ...) -> (B,)."""
    return losses.reshape(len(losses), -1).mean(1)


def _what(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def _floating(likelihood: str, targets: Tensor) -> None:
    if not targets.is_floating_point():
        raise ValueError(f"{likelihood}: targets must be floats, got {_what(targets)}")


def _same_shape(likelihood: str, targets: Tensor, shape: torch.Size) -> None:
    if targets.shape != shape:
        raise ValueError(
            f"{likelihood}: targets must have shape {tuple(shape)}, got {_what(targets)}"
        )
