"""What a network on a walk is held to: its score on some data, and by how much it may be worse."""

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_sws.inference.batches import moved
from pyro_sws.inference.evaluation import (
    STAGES,
    Evaluated,
    Evaluation,
    device_dtype,
    evaluate,
    evaluations_or_not_finite,
)
from pyro_sws.inference.finite import NotFinite
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import (
    HeteroscedasticGaussian,
    Likelihood,
    counted_targets,
)
from pyro_sws.weights.structures import value_of

POINTS = 0.5  # of a score in percent, by default
RARE = 0.25  # of what a network is better by than one that says the same of every example
SHARE = 0.02  # of any other score
ROUNDING = 1e-6  # of two scores that are the same
FLOOR = 0.001  # of the constant's score: a network may have next to none of its own
FEW = 100  # examples, of which a standard error is itself hardly known


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores on ``batches``; within the tolerance are those up to ``limit``."""

    model: Joint
    batches: Iterable
    name: str  # of the data
    reference: float  # the score that is to be kept
    tolerance: float
    error: float  # standard error of the reference
    examples: int  # that the reference is of
    dispersion: float = 1.0  # of the targets, see ``Gaussian.dispersion``

    @property
    def unit(self) -> str:
        return self.model.likelihood.score_unit

    @property
    def limit(self) -> float:
        return self.reference + self.tolerance

    @property
    def follows(self) -> bool:
        """Whether the reference is the best score met so far; see ``Objective``."""
        return False

    @property
    def kept_within(self) -> float:
        """How much worse than the reference the file may be that comes back."""
        return self.tolerance

    def rank(self, score: float, file_bytes: int) -> tuple[float, float]:
        """Of two files within the tolerance the one is kept whose rank is less."""
        return file_bytes, score

    def doubts(self, learnt_from: bool) -> tuple[str, ...]:
        """What a report should say of it; ``learnt_from``: the walk learns from its examples."""
        doubts = []
        unit, less = self.unit, self.tolerance < self.error
        if less or (self.tolerance == self.error and self.examples < FEW):
            doubts.append(
                f"the tolerance of {self.tolerance:.3g} {unit} is "
                f"{'less' if less else 'no more'} than the standard error of the {self.name} "
                f"score on {self.examples:,} examples, {self.error:.3g}: files within it are so "
                "by chance; give more examples, or a larger tolerance="
            )
        if learnt_from:
            doubts.append(
                "files were judged on training examples, and a score on new data may have lost "
                "more; give validation= of examples that the network was not trained on"
            )
        return tuple(doubts)

    def score(
        self, weights: Mapping[str, Tensor], point: Mapping[str, Tensor], file_bytes: int = 0
    ) -> float:
        """Of the network with these weights; infinite where its outputs are not finite."""
        outputs = {"quantized": evaluated(self.model, weights, point)}
        found = evaluations_or_not_finite(outputs, self.model.likelihood, self.batches, self.name)[
            "quantized"
        ]
        if isinstance(found, NotFinite):
            if found.of_data:
                raise found.error(self.name, STAGES["quantized"])
            return math.inf
        return found.score


def judge(model: Joint, batches: Iterable, name: str, tolerance: float | None) -> Judge:
    """A judge whose reference is the network as it is.

    Without a ``tolerance`` it is POINTS of a score in percent and SHARE of another's (of a density,
    which has no natural 0, SHARE of what the network has over one answer for all), or one standard
    error of the reference, whichever is larger; but no more than RARE of what the network
    has over one that says the same of every example: of rare labels half a point is all, and
    outliers among the targets make any error large.
    """
    before = evaluate(model, model.exact, batches, model.start(), name, STAGES["before"])
    error = standard_error(before, model.likelihood)
    if tolerance is None:
        tolerance = _tolerance(before.score, error, model, batches, name)
    dispersion = getattr(model.likelihood, "dispersion", lambda mean_loss: 1.0)(before.mean_loss)
    return Judge(
        model, batches, name, before.score, tolerance, error, before.judged, dispersion or 1.0
    )


def _tolerance(score: float, error: float, model: Joint, batches: Iterable, name: str) -> float:
    constant = _constant_score(model, batches, name)
    gain = 0.0 if constant is None else constant - score
    if model.likelihood.score_unit == "percent":
        least = POINTS
    elif constant is not None and _is_normal_density(model.likelihood):
        least = SHARE * gain
    else:
        least = max(SHARE * abs(score), FLOOR * (constant or 0.0))
    tolerance = max(least, error)
    if constant is not None and gain > ROUNDING * abs(constant):
        tolerance = min(tolerance, RARE * gain)
    return max(tolerance, sys.float_info.min)


def _constant_score(model: Joint, batches: Iterable, name: str) -> float | None:
    """The best score of one answer for all examples, output by output; None for one not known.

    Such as the most common label, their frequencies, the mean or median of numbers, or their normal
    distribution.
    """
    likelihood = model.likelihood
    score, percent = likelihood.score_name, likelihood.score_unit == "percent"
    if hasattr(likelihood, "generalised"):
        return None
    if not percent and score not in ("rmse", "mae", "bits", "nll"):
        return None
    batches = moved(batches, name, *device_dtype(model))
    each = torch.cat([_targets(model, value_of(targets)) for _, targets in batches])
    if percent:
        return _constant_error(each, score)
    if score == "rmse":
        return float((each - each.mean(0)).double().square().mean().sqrt())
    if score == "mae":
        return float((each - each.median(0).values).double().abs().mean())
    if _is_normal_density(likelihood):
        variances = each.double().var(0, correction=0)
        return float((2 * math.pi * math.e * variances).log().mean() / 2)
    if each.is_floating_point():
        return None
    shares = torch.unique(each, return_counts=True)[1].double() / each.numel()
    return float(-(shares * shares.log()).sum()) / (math.log(2) if score == "bits" else 1)


def _is_normal_density(likelihood: Likelihood) -> bool:
    return isinstance(likelihood, HeteroscedasticGaussian) and likelihood.score_name == "nll"


def _constant_error(each: Tensor, score: str) -> float:
    """The error in percent of each output's most common target; NaN is no target."""
    known = ~each.isnan()
    common = each.mode(0).values if known.all() else each.nanmedian(0).values  # of 0 and 1 alike
    wrong = (each != common) & known
    if score == "exact_match_error":
        rows, known = wrong.reshape(len(wrong), -1), known.reshape(len(wrong), -1).any(1)
        wrong = rows.any(1)
    return 100 * float(wrong.sum()) / float(known.sum())


def _targets(model: Joint, targets: Any) -> Tensor:
    """On the CPU: (B, ...) outputs of 0 and 1, NaN where they do not count; of labels (n,)."""
    counted = counted_targets(model.likelihood, targets)
    if hasattr(model.likelihood, "labels"):
        targets = model.likelihood.labels(targets).flatten()
    elif targets.is_floating_point() or targets.dtype == torch.bool:
        targets = targets.double().masked_fill(~counted, math.nan)
    else:
        targets = targets[counted]
    return targets.cpu()


def standard_error(evaluation: Evaluation, likelihood: Likelihood) -> float:
    """Of the score, by the delta method from that of the mean loss.

    A share of losses that are 1, the others 0, is taken by Laplace's rule, (mistakes + 1) /
    (examples + 2): without a mistake it is not known exactly either. Of examples that count.
    """
    variance, mean = evaluation.loss_variance, evaluation.mean_loss
    if evaluation.zero_or_one and likelihood.score_unit != "target units":
        mean = (round(mean * evaluation.judged) + 1) / (evaluation.judged + 2)
        variance = mean * (1 - mean) * evaluation.examples / evaluation.judged
    error = math.sqrt(variance / evaluation.examples)
    lowest = 0.0 if mean >= 0 else -math.inf  # as -log of a density may be
    low, high = (likelihood.score(max(lowest, mean + sign * error)) for sign in (-1, 1))
    return (high - low) / 2


def evaluated(
    model: Joint, weights: Mapping[str, Tensor], point: Mapping[str, Tensor]
) -> Evaluated:
    """The model's network with these weights, as it is measured."""
    return Evaluated(lambda x: model.outputs(weights, x), device_dtype(model), point)
