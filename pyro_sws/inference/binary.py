"""The likelihood of targets 0 or 1: two classes, or several labels an example (multi-label)."""

import math
from dataclasses import dataclass, field
from typing import Literal

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.labels import BinaryLabels
from pyro_sws.inference.output_graph import by_linear_layer, makers
from pyro_sws.inference.readings import better_as_probabilities, made_by, within_0_and_1
from pyro_sws.inference.scores import Scored, ScoredBy, own_score
from pyro_sws.inference.targets import (
    by_example,
    check_probabilities,
    floating,
    log_of,
    same_shape,
)
from pyro_sws.inference.typed_fields import check_fields

SIGMOIDS = {"Sigmoid", "Hardsigmoid", "Softmax"}
LOG_SIGMOIDS = {"LogSigmoid", "LogSoftmax"}
UNKNOWN = -1  # how a label that is not known is often marked
MOST_LABELS = 50  # whose combinations are told apart


@dataclass(frozen=True)
class Bernoulli(Scored):
    """Targets 0 or 1, floats or bools, under logits of the same shape (B, ...): each by itself.

    Of shape (B, L) they are L labels of an example, of which several may be 1 (multi-label), with
    the binary cross-entropy summed over them. Scored by the error, the percentage of labels that
    are wrong; with ``score = "exact_match_error"`` by the percentage of examples of which any label
    is; with "bits" or "nll" by -log p(label) in bits or nats, the mean over labels. A certificate
    is of examples, so that of several labels it takes the exact match.

    Targets equal to ``ignore_index``, such as -1 for a label that is not known, count neither in a
    fit nor in scores. With ``inputs = "probabilities"`` the network's outputs are those of a 1, as
    after a Sigmoid.
    """

    __pydantic_config__ = {"extra": "forbid"}
    inputs: Literal["logits", "probabilities"] = field(default="logits", kw_only=True)
    score: ScoredBy[Literal["error", "exact_match_error", "bits", "nll"]] = field(
        default="error",  # type: ignore[arg-type]  # __post_init__ makes it a Score
        kw_only=True,
    )
    ignore_index: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_fields(self, "bernoulli: ")
        own_score(self)
        if self.ignore_index in (0, 1):
            raise ValueError(
                f"bernoulli: ignore_index must be none of 0 and 1, got {self.ignore_index}; "
                "mark labels that are not known by another number, such as -1"
            )

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        density = BinaryLabels(self.logits(outputs), self.ignore_index)
        return density.to_event(outputs.dim() - 1)

    def logits(self, outputs: Tensor) -> Tensor:
        """The network's outputs as logits, of the same shape."""
        if self.inputs == "logits":
            return outputs
        return log_of(outputs) - log_of(1 - outputs)

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        if targets.dtype != torch.bool:
            floating("bernoulli", targets)
        same_shape("bernoulli", targets, outputs.shape)
        if not ((targets == 0) | (targets == 1) | ~self.counted(targets)).all():
            low, high = targets.aminmax()
            remedy = ""
            if self.ignore_index is None and bool((targets == UNKNOWN).any()):
                remedy = f"; of labels that are not known say ignore_index={UNKNOWN}"
            raise ValueError(
                f"bernoulli: targets must be 0 or 1, got values in {low:g}..{high:g}{remedy}"
            )
        if self.inputs == "probabilities":
            check_probabilities("bernoulli", outputs)

    def counted(self, targets: Tensor) -> Tensor:
        """Which targets are not to be ignored; bool, of their shape."""
        if self.ignore_index is None:
            return torch.ones_like(targets, dtype=torch.bool)
        return targets != self.ignore_index

    def weights(self, targets: Tensor) -> Tensor:
        """What the score weighs each example by: the number of its labels, or 1 as one; (B,)."""
        known = self.counted(targets).reshape(len(targets), -1).sum(1).double()
        return known.clamp_max(1) if self.score == "exact_match_error" else known

    def classes(self, outputs: Tensor) -> int:
        """How many answers there are: of several labels, if all must be right, each combination."""
        together = self.score == "exact_match_error"
        return 2 ** min(outputs[0].numel(), MOST_LABELS) if together else 2

    def check_reading(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError for outputs that are probabilities, or their logs.

        All of the batch are in [0, 1], and sigmoids made them all; or, where their graph does not
        tell what did, as probabilities they say more of the targets than as logits. Logs of them
        are at most 0, and else found alike.
        """
        if self.inputs == "probabilities":
            return
        values, made, counted = outputs.detach(), makers(outputs), self.counted(targets)
        if within_0_and_1(values, outputs, SIGMOIDS) and (
            made_by(made, SIGMOIDS) or better_as_probabilities(values, outputs, targets, counted)
        ):
            raise ValueError(
                "bernoulli: outputs are probabilities (all are in [0, 1]), logits were expected: "
                'drop the last Sigmoid, or say Bernoulli(inputs="probabilities")'
            )
        if bool((values <= 0).all()) and (
            made_by(made, LOG_SIGMOIDS)
            or not by_linear_layer(outputs)  # logits of rare labels are almost log-probabilities
            and better_as_probabilities(values.exp(), outputs, targets, counted)
        ):
            raise ValueError(
                "bernoulli: outputs are logs of probabilities (all are at most 0), logits were "
                "expected: drop the last LogSigmoid, or end in the probabilities and say "
                'Bernoulli(inputs="probabilities")'
            )

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        counted = self.counted(targets)
        if self.score in ("bits", "nll"):
            nats = -BinaryLabels(self.logits(outputs), self.ignore_index).log_prob(targets).double()
            return by_example(nats / math.log(2) if self.score == "bits" else nats, counted)
        wrong = self._wrong(outputs, targets) & counted
        if self.score == "exact_match_error":
            return wrong.reshape(len(wrong), -1).any(1).double()
        return by_example(wrong.double(), counted)

    def mistakes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1 for an example with a label that is wrong, else 0, whatever the score is; (B,)."""
        wrong = self._wrong(outputs, targets) & self.counted(targets)
        return wrong.reshape(len(wrong), -1).any(1).double()

    def _wrong(self, outputs: Tensor, targets: Tensor) -> Tensor:
        border = 0.5 if self.inputs == "probabilities" else 0.0
        return (outputs > border) != (targets > 0.5)

    def agreement(self, own: dist.TorchDistribution, teacher: Tensor, targets: Tensor) -> Tensor:
        """-binary cross-entropy of the teacher's probabilities, where targets count; (B,)."""
        predicted = self.logits(teacher).sigmoid()
        ignored = 0 if self.ignore_index is None else self.ignore_index
        return own.log_prob(predicted.where(self.counted(targets), ignored))
