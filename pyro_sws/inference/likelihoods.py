"""Likelihoods: frozen specs that turn a network's outputs into the distribution of its targets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.labels import Labels, SoftLabels
from pyro_sws.inference.output_graph import by_linear_layer, class_dimension, makers
from pyro_sws.inference.plain_numbers import shown
from pyro_sws.inference.readings import (
    better_as_probabilities,
    better_as_rates,
    clearly_less,
    made_by,
    within_0_and_1,
)
from pyro_sws.inference.regression import Gaussian, Laplace, StudentT
from pyro_sws.inference.targets import by_example, floating, same_shape, what
from pyro_sws.inference.typed_fields import check_fields

SUM_TOLERANCE = 1e-3  # of probabilities around 1
MEMBERS = ("__call__", "start", "check", "losses", "score")  # of what is a likelihood
SIGMOIDS = {"Sigmoid", "Hardsigmoid", "Softmax"}
LOG_SIGMOIDS = {"LogSigmoid", "LogSoftmax"}
PADDING = -100  # the ignore_index of torch's losses, unless they are told another
LABEL_SCORES = {"error": "percent", "bits": "bits", "nll": "nats"}  # name -> unit


class Likelihood(Protocol):
    """What a likelihood must have. Outputs and targets have the batch in their first dimension.

    It may have a method ``taught(outputs, teacher)``: the density that a fit uses instead, which
    also knows the outputs of the network as it was given (see Distilled); and a method
    ``check_reading(outputs, targets)`` that raises ValueError where the first batch shows that the
    outputs mean something else, such as probabilities where logits are expected. Their graph is
    kept, so that it can be asked what made them. ``defined(outputs)`` says which outputs mean
    something, finite or not; without it the finite ones do. ``mistakes(outputs, targets)``, (B,),
    is what a certificate counts where the score is not in percent: 1 for an example that is wrong,
    0 for one that is right; without it the losses are, where all are 0 or 1. ``counted(targets)``,
    bool, of their shape, says which of them count at all: the score then weighs an example by their
    number, and its loss is the mean over them, 0 where there is none.
    """

    @property
    def score_name(self) -> str:
        """What the score is called; a class attribute will do."""
        ...

    @property
    def score_unit(self) -> str:
        """Of the score: "percent", or the unit itself."""
        ...

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
    """Class labels int64 (B, ...) under logits (B, ..., C). Scored by the error in percent.

    With ``scored_by = "bits"`` the score is -log2 p(label) instead, with "nll" -log p(label) in
    nats, the mean over labels: of characters or tokens, (B, T), bits a character or token. A
    certificate is of the labels that are wrong all the same.

    Targets equal to ``ignore_index``, such as -100 for padding, count neither in a fit nor in
    losses, scores and mistakes, as in torch's cross_entropy; their log-density is 0, and they may
    be no label. A fit's scale stays that of examples.

    With ``inputs = "probabilities"`` the network's outputs are those of the classes, as after a
    Softmax. ``class_dim`` says where the classes are: -1 in the last dimension, 1 in the second, as
    in torch's own losses, (B, C, ...). By default they are in the last, and outputs that could as
    well have them in the second, (B, C, T) with C = T, are refused unless the network's last layer
    makes the last one.
    """

    __pydantic_config__ = {"extra": "forbid"}
    inputs: Literal["logits", "probabilities"] = field(default="logits", kw_only=True)
    class_dim: Literal[-1, 1] | None = field(default=None, kw_only=True)
    scored_by: Literal["error", "bits", "nll"] = field(default="error", kw_only=True)
    ignore_index: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self, f"{type(self).__name__.lower()}: ")

    @property
    def score_name(self) -> str:
        return self.scored_by

    @property
    def score_unit(self) -> str:
        return LABEL_SCORES[self.scored_by]

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        logits = self.logits(outputs)
        if self.ignore_index is None:
            return dist.Categorical(logits=logits).to_event(outputs.dim() - 2)
        return Labels(logits, self.ignore_index).to_event(outputs.dim() - 2)

    def logits(self, outputs: Tensor) -> Tensor:
        """The network's outputs as logits (B, ..., C), up to a constant each row."""
        last = outputs.movedim(1, -1) if self.class_dim == 1 else outputs
        return _log(last) if self.inputs == "probabilities" else last

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        if outputs.dim() < 2:
            raise ValueError(f"categorical: outputs must be (batch, classes), got {what(outputs)}")
        if targets.dtype != torch.int64:
            remedy = "; of one-hot rows give targets.argmax(-1)"
            if targets.shape != outputs.shape:
                remedy = "" if targets.is_complex() else "; give targets.long()"
            raise ValueError(
                f"categorical: targets must be int64 labels, got {what(targets)}{remedy}"
            )
        if targets.shape == outputs.shape:
            raise ValueError(
                f"categorical: targets must have shape {tuple(outputs.shape[:-1])}, got "
                f"{what(targets)}; of one-hot rows give targets.argmax(-1)"
            )
        self._check_layout(outputs, targets)
        classes = outputs.shape[self.class_dim or -1]
        labels = targets if self.ignore_index is None else targets[self.counted(targets)]
        low, high = (int(t) for t in labels.aminmax()) if labels.numel() else (0, 0)
        if low < 0 or high >= classes:
            padded = low == PADDING and self.ignore_index is None
            remedy = f", or say ignore_index={PADDING}" if padded else ""
            raise ValueError(
                f"categorical: labels run from {low} to {high}, but the network has {classes} "
                f"outputs; labels must be in 0..{classes - 1}{remedy}"
            )
        if self.inputs == "probabilities":
            _check_probabilities("categorical", outputs)
            sums = outputs.sum(self.class_dim or -1)
            if ((sums - 1).abs() > SUM_TOLERANCE).any():
                low_sum, high_sum = sums.aminmax()
                raise ValueError(
                    "categorical: inputs are probabilities, and those of an example must sum to 1; "
                    f"they sum to {low_sum:g}..{high_sum:g}"
                )

    def _check_layout(self, outputs: Tensor, targets: Tensor) -> None:
        last, second = outputs.shape[:-1], outputs.shape[:1] + outputs.shape[2:]
        if self.class_dim == 1:
            if targets.shape != second and targets.shape == last:
                raise ValueError(
                    f"categorical: class_dim = 1, but outputs {tuple(outputs.shape)} under targets "
                    f"{tuple(targets.shape)} have their classes in the last dimension; drop it"
                )
            same_shape("categorical", targets, second)
        elif targets.shape != last and targets.shape == second:
            raise ValueError(
                f"categorical: outputs {tuple(outputs.shape)} under targets "
                f"{tuple(targets.shape)} have their classes in dimension 1; say "
                "Categorical(class_dim=1)"
            )
        else:
            same_shape("categorical", targets, last)

    def counted(self, targets: Tensor) -> Tensor:
        """Which labels are not to be ignored; bool, of the targets' shape."""
        if self.ignore_index is None:
            return torch.ones_like(targets, dtype=torch.bool)
        return targets != self.ignore_index

    def defined(self, outputs: Tensor) -> Tensor:
        """Which outputs mean something: also a logit of -inf, if another class is possible."""
        finite = outputs.isfinite()
        if self.inputs == "probabilities" or outputs.dim() < 2:
            return finite
        return finite | ((outputs == -math.inf) & finite.any(self.class_dim or -1, keepdim=True))

    def check_reading(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError for outputs that are probabilities, or whose classes may be elsewhere.

        Probabilities: each row is in [0, 1] and sums to 1, on the whole batch. Not where all are
        just 0 or 1, as of a network that copies its inputs, unless a softmax made them; nor for
        one class.
        """
        second = outputs.shape[:1] + outputs.shape[2:]
        if self.class_dim is None and outputs.dim() > 2 and targets.shape == second:
            found = class_dimension(outputs)
            if found != -1:
                shapes = f"outputs {tuple(outputs.shape)} under targets {tuple(targets.shape)}"
                seem = "may have" if found is None else "seem to have"
                other = "in the last dimension or " if found is None else ""
                raise ValueError(
                    f"categorical: {shapes} {seem} their classes {other}in dimension 1, and the "
                    "targets fit both; say Categorical(class_dim=1), or class_dim=-1 for the last"
                )
            if self._better_in_second(outputs.detach(), targets):
                raise ValueError(
                    f"categorical: outputs {tuple(outputs.shape)} tell far more of targets "
                    f"{tuple(targets.shape)} with their classes in dimension 1 than in the last; "
                    "say Categorical(class_dim=1), or class_dim=-1 for the last all the same"
                )
        values = outputs.detach()
        sums = values.sum(self.class_dim or -1)
        if (
            self.inputs == "logits"
            and values.shape[self.class_dim or -1] > 1
            and within_0_and_1(values, outputs, {"Softmax"})
            and bool(((sums - 1).abs() <= SUM_TOLERANCE).all())
        ):
            raise ValueError(
                "categorical: outputs are probabilities (each row sums to 1), logits were "
                'expected: drop the last Softmax, or say Categorical(inputs="probabilities")'
            )

    def _better_in_second(self, values: Tensor, targets: Tensor) -> bool:
        """Whether outputs (B, C, ..., C) have their classes in dimension 1, by what they tell."""
        logits, counted = self.logits(values).double(), self.counted(targets)
        labels = targets.masked_fill(~counted, 0)
        shares = (torch.bincount(labels[counted], minlength=values.shape[-1]) + 1.0).log()
        last, second, constant = (
            torch.nn.functional.cross_entropy(scores, labels, reduction="none")[counted]
            for scores in (logits.movedim(-1, 1), logits, shares.expand_as(logits).movedim(-1, 1))
        )
        return clearly_less(second, last) and clearly_less(second, constant)

    def mistakes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The share of each example's labels that are wrong, whatever the score is; (B,)."""
        wrong = outputs.argmax(self.class_dim or -1) != targets
        return by_example(wrong.double(), self.counted(targets))

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.scored_by == "error":
            return self.mistakes(outputs, targets)
        log_probs, counted = self.logits(outputs).log_softmax(-1), self.counted(targets)
        labels = targets.masked_fill(~counted, 0).unsqueeze(-1)
        nats = -log_probs.gather(-1, labels).squeeze(-1).double()
        return by_example(nats / math.log(2) if self.scored_by == "bits" else nats, counted)

    def score(self, mean_loss: float) -> float:
        return 100 * mean_loss if self.scored_by == "error" else mean_loss

    def softened(self, share: float) -> "Categorical":
        """The same with that share of soft targets in a fit; one that says its own keeps it."""
        return Distilled(**vars(self), share=share) if type(self) is Categorical else self


@dataclass(frozen=True)
class Distilled(Categorical):
    """Class labels as in Categorical, and soft targets while fitting (Hinton et al. 2015).

    The fit's log-density of an example is (1 - share) times that of its label plus share times
    T^2 sum_c p_c log q_c, p and q the probabilities of the teacher and of the network at
    temperature T; T^2 keeps the gradient's size. The teacher is the network as it is given.
    ``smoothing`` spreads that share of each label evenly over the classes (Szegedy et al. 2016);
    a class that the network rules out by a logit of -inf gets none.
    Scores, certificate and the report's description are of labels alone.
    """

    share: float = 0.5
    temperature: float = 2.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()  # checks these fields, too
        for name in ("share", "smoothing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"distilled: {name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"distilled: temperature must be positive, got {self.temperature}")

    def taught(self, outputs: Tensor, teacher: Tensor) -> dist.TorchDistribution:
        """The fit's density of labels, given the teacher's outputs on the same inputs."""
        own, taught_by = self.logits(outputs), self.logits(teacher)
        return SoftLabels(own, taught_by, self).to_event(outputs.dim() - 2)


@dataclass(frozen=True)
class Bernoulli:
    """Targets 0 or 1 under logits of the same shape. Scored by the error in percent.

    With ``inputs = "probabilities"`` the network's outputs are those of a 1, as after a Sigmoid.
    """

    __pydantic_config__ = {"extra": "forbid"}
    inputs: Literal["logits", "probabilities"] = field(default="logits", kw_only=True)
    score_name: ClassVar[str] = "error"
    score_unit: ClassVar[str] = "percent"

    def __post_init__(self) -> None:
        check_fields(self, "bernoulli: ")

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=self.logits(outputs)).to_event(outputs.dim() - 1)

    def logits(self, outputs: Tensor) -> Tensor:
        """The network's outputs as logits, of the same shape."""
        if self.inputs == "logits":
            return outputs
        return _log(outputs) - _log(1 - outputs)

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        floating("bernoulli", targets)
        same_shape("bernoulli", targets, outputs.shape)
        if not ((targets == 0) | (targets == 1)).all():
            low, high = targets.aminmax()
            raise ValueError(f"bernoulli: targets must be 0 or 1, got values in {low:g}..{high:g}")
        if self.inputs == "probabilities":
            _check_probabilities("bernoulli", outputs)

    def check_reading(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError for outputs that are probabilities, or their logs.

        All of the batch are in [0, 1], and sigmoids made them all; or, where their graph does not
        tell what did, as probabilities they say more of the targets than as logits. Logs of them
        are at most 0, and else found alike.
        """
        if self.inputs == "probabilities":
            return
        values, made = outputs.detach(), makers(outputs)
        if within_0_and_1(values, outputs, SIGMOIDS) and (
            made_by(made, SIGMOIDS) or better_as_probabilities(values, outputs, targets)
        ):
            raise ValueError(
                "bernoulli: outputs are probabilities (all are in [0, 1]), logits were expected: "
                'drop the last Sigmoid, or say Bernoulli(inputs="probabilities")'
            )
        if bool((values <= 0).all()) and (
            made_by(made, LOG_SIGMOIDS)
            or not by_linear_layer(outputs)  # logits of rare labels are almost log-probabilities
            and better_as_probabilities(values.exp(), outputs, targets)
        ):
            raise ValueError(
                "bernoulli: outputs are logs of probabilities (all are at most 0), logits were "
                "expected: drop the last LogSigmoid, or end in the probabilities and say "
                'Bernoulli(inputs="probabilities")'
            )

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        border = 0.5 if self.inputs == "probabilities" else 0.0
        return by_example(((outputs > border) != (targets > 0.5)).double())

    def score(self, mean_loss: float) -> float:
        return 100 * mean_loss


@dataclass(frozen=True)
class Poisson:
    """Counts under log-rates of the same shape. Scored by the negative log-likelihood a count.

    With ``inputs = "rates"`` the network's outputs are the rates, as after a Softplus.
    """

    __pydantic_config__ = {"extra": "forbid"}
    inputs: Literal["log_rates", "rates"] = field(default="log_rates", kw_only=True)
    score_name: ClassVar[str] = "nll"
    score_unit: ClassVar[str] = "nats"

    def __post_init__(self) -> None:
        check_fields(self, "poisson: ")

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Poisson(self.rates(outputs)).to_event(outputs.dim() - 1)

    def rates(self, outputs: Tensor) -> Tensor:
        """The network's outputs as rates, of the same shape."""
        if self.inputs == "log_rates":
            return outputs.exp()
        return outputs.clamp_min(torch.finfo(outputs.dtype).tiny)  # of 0 a count has no density

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        floating("poisson", targets)
        same_shape("poisson", targets, outputs.shape)
        if not ((targets >= 0) & (targets == targets.round())).all():
            low = targets.min()
            raise ValueError(f"poisson: targets must be counts 0, 1, 2, ...; smallest is {low:g}")
        if self.inputs == "rates" and (outputs < 0).any():
            raise ValueError(
                "poisson: inputs are rates, which are at least 0, but the smallest of the "
                f'network\'s outputs is {outputs.min():g}; end it in one, or say inputs="log_rates"'
            )

    def check_reading(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError for outputs that are rates.

        All of the batch are at least 0, and an exp made them all, or as rates they say more of the
        targets than as log-rates.
        """
        values = outputs.detach()
        if self.inputs == "rates" or not bool((values >= 0).all()):
            return
        if made_by(makers(outputs), {"Exp"}) or better_as_rates(values, outputs, targets):
            raise ValueError(
                "poisson: outputs are rates (all are at least 0), log-rates were expected: drop "
                'the last Exp or Softplus, or say Poisson(inputs="rates")'
            )

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return by_example(-dist.Poisson(self.rates(outputs)).log_prob(targets).double())

    def score(self, mean_loss: float) -> float:
        return mean_loss


LIKELIHOODS: dict[str, type] = {
    "categorical": Categorical,
    "distilled": Distilled,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "student_t": StudentT,
    "laplace": Laplace,
    "poisson": Poisson,
}


def as_likelihood(likelihood: str | Likelihood) -> Likelihood:
    """A spec as it is; a name with its default fields.

    Raises ValueError for an unknown name, for a class in place of a spec, and for what is none.
    """
    if isinstance(likelihood, type):
        raise ValueError(f"likelihood: must be a spec such as Categorical(), got {likelihood!r}")
    if not isinstance(likelihood, str):
        if not all(hasattr(likelihood, name) for name in MEMBERS):
            raise ValueError(
                f"likelihood must be one of {', '.join(sorted(LIKELIHOODS))}, or a spec such as "
                f"Categorical(), got {shown(likelihood)}"
            )
        return likelihood
    if likelihood not in LIKELIHOODS:
        choices = ", ".join(sorted(LIKELIHOODS))
        raise ValueError(f"unknown likelihood {likelihood!r}; choose from {choices}")
    return LIKELIHOODS[likelihood]()


def counted_targets(likelihood: Likelihood, targets: Tensor) -> Tensor:
    """Which targets count: all of them, where the likelihood does not say; bool, of their shape."""
    own = getattr(likelihood, "counted", None)
    return torch.ones_like(targets, dtype=torch.bool) if own is None else own(targets)


def noise_trace(likelihood: Likelihood, like: Tensor, point: Mapping[str, Tensor]) -> poutine.Trace:
    """The sites that a likelihood samples itself, such as a learned noise: at the point, or drawn.

    They do not depend on the outputs: a single 0 of the dtype and on the device of ``like`` does.
    """
    conditioned = poutine.condition(likelihood, data=dict(point))
    return poutine.trace(conditioned).get_trace(like.new_zeros(1, 1))


def _check_probabilities(likelihood: str, outputs: Tensor) -> None:
    if ((outputs < 0) | (outputs > 1)).any():
        low, high = outputs.aminmax()
        raise ValueError(
            f"{likelihood}: inputs are probabilities, which are in 0..1, but the network's outputs "
            f'are in {low:g}..{high:g}; end it in one, or say inputs="logits"'
        )


def _log(probabilities: Tensor) -> Tensor:
    """The log, of 0 that of the least normal number (-87 in float32), whose gradient is 0."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
