"""Likelihoods of class labels, and of probabilities of classes, under logits."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.labels import Labels, SoftLabels, SoftTargets, cross_log_prob
from pyro_sws.inference.output_graph import class_dimension
from pyro_sws.inference.readings import clearly_less, within_0_and_1
from pyro_sws.inference.scores import Scored, ScoredBy, own_score
from pyro_sws.inference.targets import (
    SUM_TOLERANCE,
    by_example,
    check_probabilities,
    how_many,
    log_of,
    same_shape,
    what,
)
from pyro_sws.inference.taught import Taught
from pyro_sws.inference.typed_fields import check_fields

PADDING = -100  # the ignore_index of torch's losses, unless they are told another


class _OfClasses(Scored):
    """What likelihoods of classes share: where these are in the outputs, and what outputs mean."""

    name: ClassVar[str]  # in messages
    inputs: Literal["logits", "probabilities"]
    class_dim: Literal[-1, 1] | None

    def logits(self, outputs: Tensor) -> Tensor:
        """The network's outputs as logits (B, ..., C), up to a constant each row."""
        last = outputs.movedim(1, -1) if self.class_dim == 1 else outputs
        return log_of(last) if self.inputs == "probabilities" else last

    def start(self) -> dict[str, float]:
        return {}

    def classes(self, outputs: Tensor) -> int:
        """How many answers there are."""
        return outputs.shape[self.class_dim or -1]

    def defined(self, outputs: Tensor) -> Tensor:
        """Which outputs mean something: also a logit of -inf, if another class is possible."""
        finite = outputs.isfinite()
        if self.inputs == "probabilities" or outputs.dim() < 2:
            return finite
        return finite | ((outputs == -math.inf) & finite.any(self.class_dim or -1, keepdim=True))

    def _check_outputs(self, outputs: Tensor) -> None:
        """Raise ValueError for probabilities that are none, where the outputs are to be some."""
        if self.inputs != "probabilities":
            return
        check_probabilities(self.name, outputs)
        sums = outputs.sum(self.class_dim or -1)
        if ((sums - 1).abs() > SUM_TOLERANCE).any():
            low, high = sums.aminmax()
            raise ValueError(
                f"{self.name}: inputs are probabilities, and those of an example must sum to 1; "
                f"they sum to {low:g}..{high:g}"
            )

    def _check_no_softmax(self, outputs: Tensor) -> None:
        """Raise ValueError for outputs that are probabilities where logits are expected."""
        values = outputs.detach()
        sums = values.sum(self.class_dim or -1)
        if (
            self.inputs == "logits"
            and values.shape[self.class_dim or -1] > 1
            and within_0_and_1(values, outputs, {"Softmax"})
            and bool(((sums - 1).abs() <= SUM_TOLERANCE).all())
        ):
            said = f'{type(self).__name__}(inputs="probabilities")'
            raise ValueError(
                f"{self.name}: outputs are probabilities (each row sums to 1), logits were "
                f"expected: drop the last Softmax, or say {said}"
            )


@dataclass(frozen=True)
class Categorical(_OfClasses):
    """Class labels int64 (B, ...) under logits (B, ..., C). Scored by the error in percent.

    With ``score = "bits"`` the score is -log2 p(label) instead, with "nll" -log p(label) in nats,
    the mean over labels: of characters or tokens, (B, T), bits a character or token. A certificate
    is of the labels that are wrong all the same.

    ``label_smoothing`` spreads that share of each label evenly over the classes in a fit, as in
    torch's cross_entropy (Szegedy et al. 2016); a class that a logit of -inf rules out gets none.
    Scores, error costs outside of fits and certificates are of the labels themselves.

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
    score: ScoredBy[Literal["error", "bits", "nll"]] = field(  # what it is called and made by
        default="error",  # type: ignore[arg-type]  # __post_init__ makes it a Score
        kw_only=True,
    )
    ignore_index: int | None = field(default=None, kw_only=True)
    label_smoothing: float = field(default=0.0, kw_only=True)

    name: ClassVar[str] = "categorical"

    def __post_init__(self) -> None:
        where = f"{type(self).__name__.lower()}: "
        check_fields(self, where)
        own_score(self)
        if not 0 <= self.label_smoothing <= 1:
            raise ValueError(
                f"{where}label_smoothing must be in [0, 1], got {self.label_smoothing}"
            )

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        logits = self.logits(outputs)
        if self.ignore_index is None:
            return dist.Categorical(logits=logits).to_event(outputs.dim() - 2)
        return Labels(logits, self.ignore_index).to_event(outputs.dim() - 2)

    def fitted(self, outputs: Tensor) -> dist.TorchDistribution:
        """What a fit counts instead: the density of smoothed labels."""
        own = self(outputs)
        if not self.label_smoothing:
            return own
        base = own.base_dist if isinstance(own, dist.Independent) else own
        smooth = Labels(base.logits, self.ignore_index, self.label_smoothing)
        return smooth.to_event(outputs.dim() - 2)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        if outputs.dim() < 2:
            raise ValueError(f"categorical: outputs must be (batch, classes), got {what(outputs)}")
        if targets.dtype != torch.int64:
            remedy = "; of one-hot rows give targets.argmax(-1)"
            if targets.is_floating_point() and not ((targets == 0) | (targets == 1)).all():
                remedy = "; of probabilities of classes say SoftCategorical()"
            if targets.shape != outputs.shape:
                remedy = "" if targets.is_complex() else "; give targets.long()"
            if targets.is_floating_point() and outputs.shape[-1] == 1:
                remedy = '; for numbers say likelihood="gaussian"'
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
        self._check_outputs(outputs)

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
        self._check_no_softmax(outputs)

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
        if self.score == "error":
            return self.mistakes(outputs, targets)
        log_probs, counted = self.logits(outputs).log_softmax(-1), self.counted(targets)
        labels = targets.masked_fill(~counted, 0).unsqueeze(-1)
        nats = -log_probs.gather(-1, labels).squeeze(-1).double()
        return by_example(nats / math.log(2) if self.score == "bits" else nats, counted)

    def softened(self, share: float) -> "Categorical":
        """The same with that share of soft targets in a fit; one that says its own keeps it."""
        return Distilled(**vars(self), share=share) if type(self) is Categorical else self


@dataclass(frozen=True)
class Distilled(Categorical):
    """Class labels as in Categorical, and soft targets while fitting (Hinton et al. 2015).

    The fit's log-density of an example is (1 - share) times that of its label plus share times
    T^2 sum_c p_c log q_c, p and q the probabilities of the teacher and of the network at
    temperature T; T^2 keeps the gradient's size. The teacher is the network as it is given.
    Scores, certificate and the report's description are of labels alone.
    """

    share: float = 0.5
    temperature: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()  # checks these fields, too
        if not 0 <= self.share <= 1:
            raise ValueError(f"distilled: share must be in [0, 1], got {self.share}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"distilled: temperature must be positive, got {self.temperature}")

    def taught(self, outputs: Tensor, teacher: Tensor) -> dist.TorchDistribution:
        """The fit's density of labels, given the teacher's outputs on the same inputs."""
        own, taught_by = self.logits(outputs), self.logits(teacher)
        return SoftLabels(own, taught_by, self).to_event(outputs.dim() - 2)


@dataclass(frozen=True)
class SoftCategorical(_OfClasses):
    """Probabilities of classes (B, ..., C), under logits of that shape: soft labels.

    The log-density of an example is sum_c p_c log q_c, minus the cross-entropy, in which p are its
    targets and q the network's probabilities: up to a constant. It is the expected log-density of
    a label that is drawn from p; error costs have the targets' own entropy in them.

    Scored by the error in percent: the network's most probable class is right where it is the
    target's, or one of several as probable. With ``score = "bits"`` or "nll" by the cross-entropy,
    the mean over rows. Targets must be floats, and sum to 1 (to 1e-3). ``inputs`` and ``class_dim``
    are as in Categorical, where targets have their classes where outputs do.
    """

    __pydantic_config__ = {"extra": "forbid"}
    inputs: Literal["logits", "probabilities"] = field(default="logits", kw_only=True)
    class_dim: Literal[-1, 1] | None = field(default=None, kw_only=True)
    score: ScoredBy[Literal["error", "bits", "nll"]] = field(
        default="error",  # type: ignore[arg-type]  # __post_init__ makes it a Score
        kw_only=True,
    )

    name: ClassVar[str] = "soft_categorical"

    def __post_init__(self) -> None:
        check_fields(self, "soft_categorical: ")
        own_score(self)

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return SoftTargets(self.logits(outputs), self.class_dim or -1)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        if outputs.dim() < 2:
            raise ValueError(f"{self.name}: outputs must be (batch, classes), got {what(outputs)}")
        if not targets.is_floating_point():
            raise ValueError(
                f"{self.name}: targets must be floats, the probabilities of classes, got "
                f"{what(targets)}; of labels say Categorical()"
            )
        same_shape(self.name, targets, outputs.shape)
        low, high = targets.aminmax()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"{self.name}: targets must be probabilities, which are in 0..1, got values in "
                f"{low:g}..{high:g}"
            )
        if not _sum_to_one(targets, self.class_dim or -1):
            elsewhere = -1 if self.class_dim == 1 else 1
            hint = ""
            if targets.dim() > 2 and _sum_to_one(targets, elsewhere):
                hint = f"; they do in dimension {elsewhere}: say class_dim={elsewhere}"
            low, high = targets.sum(self.class_dim or -1).aminmax()
            raise ValueError(
                f"{self.name}: the targets' probabilities must sum to 1 over the classes; they sum "
                f"to {low:g}..{high:g}{hint}"
            )
        self._check_outputs(outputs)

    def check_reading(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError for outputs that are probabilities."""
        self._check_no_softmax(outputs)

    def labels(self, targets: Tensor) -> Tensor:
        """Each row's most probable class; int64, without the classes' dimension."""
        return targets.argmax(self.class_dim or -1)

    def weights(self, targets: Tensor) -> Tensor:
        """What the score weighs each example by: the number of its rows; (B,)."""
        return how_many(self.labels(targets))

    def mistakes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The share of each example's rows whose class is not a most probable one; (B,)."""
        at = self.class_dim or -1
        named = targets.gather(at, outputs.argmax(at, keepdim=True))
        return by_example((named < targets.amax(at, keepdim=True)).double())

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.score == "error":
            return self.mistakes(outputs, targets)
        log_probs = self.logits(outputs).log_softmax(-1)
        last = targets.movedim(1, -1) if self.class_dim == 1 else targets
        nats = by_example(-cross_log_prob(last, log_probs).double())
        return nats / math.log(2) if self.score == "bits" else nats

    def agreement(self, own: dist.TorchDistribution, teacher: Tensor, targets: Tensor) -> Tensor:
        """sum_c p_c log q_c of each example, p the teacher's probabilities; (B,)."""
        return own.log_prob(self.logits(teacher).softmax(-1).movedim(-1, self.class_dim or -1))

    def softened(self, share: float) -> "SoftCategorical | Taught":
        """The same with that share of the given network's own predictions in a fit."""
        return Taught(self, share) if type(self) is SoftCategorical else self


def _sum_to_one(probabilities: Tensor, class_dim: int) -> bool:
    return bool(((probabilities.sum(class_dim) - 1).abs() <= SUM_TOLERANCE).all())
