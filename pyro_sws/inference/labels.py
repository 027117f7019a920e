"""Densities of labels under logits, of classes and of 0 and 1: ignored, smoothed, soft ones."""

import math
from typing import Protocol

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor


class Softening(Protocol):
    """How labels are mixed with a teacher's probabilities, see Distilled."""

    @property
    def ignore_index(self) -> int | None: ...
    @property
    def label_smoothing(self) -> float: ...
    @property
    def share(self) -> float: ...
    @property
    def temperature(self) -> float: ...


class Labels(dist.Categorical):
    """Categorical in which a target that is to be ignored has log-density 0, label or not.

    ``label_smoothing`` is as in torch's cross_entropy, the share of each label that is spread
    evenly over the classes (Szegedy et al. 2016); a class that a logit of -inf rules out gets none.
    """

    def __init__(self, logits: Tensor, ignore_index: int | None, label_smoothing: float = 0.0):
        super().__init__(logits=logits, validate_args=False)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size(batch_shape) + self.logits.shape[-1:]
        return Labels(self.logits.expand(shape), self.ignore_index, self.label_smoothing)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.ignore_index is None:
            return self.label_log_prob(value)
        ignored = value == self.ignore_index
        return self.label_log_prob(value.masked_fill(ignored, 0)).masked_fill(ignored, 0)

    def label_log_prob(self, label: Tensor) -> Tensor:
        hard = super().log_prob(label)
        if not self.label_smoothing:
            return hard
        possible = self.logits > -math.inf
        spread = self.logits.masked_fill(~possible, 0).sum(-1) / possible.sum(-1)
        return torch.lerp(hard, spread, self.label_smoothing)


class SoftLabels(Labels):
    """Categorical whose log-density of a label is mixed with soft targets; see Distilled."""

    def __init__(self, outputs: Tensor, teacher: Tensor, spec: Softening):
        super().__init__(outputs, spec.ignore_index, spec.label_smoothing)
        self.outputs, self.teacher, self.spec = outputs, teacher.detach(), spec

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size(batch_shape) + self.event_shape + self.outputs.shape[-1:]
        return SoftLabels(self.outputs.expand(shape), self.teacher.expand(shape), self.spec)

    def label_log_prob(self, label: Tensor) -> Tensor:
        spec = self.spec
        own, teacher = (
            (x / spec.temperature).log_softmax(-1) for x in (self.outputs, self.teacher)
        )
        soft = spec.temperature**2 * cross_log_prob(teacher.exp(), own)
        return (1 - spec.share) * super().label_log_prob(label) + spec.share * soft


class SoftTargets(dist.TorchDistribution):
    """sum_c p_c log q_c of probabilities p of classes: of the labels' shape, and the classes.

    A log-density of p up to a constant; exactly, the expected one of a label drawn from p. Draws
    are of such labels, one-hot.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.independent(constraints.unit_interval, 1)

    def __init__(self, logits: Tensor, class_dim: int = -1):
        """``logits`` (B, ..., C); targets have their classes in ``class_dim``, -1 or 1."""
        self.log_probs, self.class_dim = logits.log_softmax(-1), class_dim
        shape = self.log_probs.movedim(-1, class_dim).shape
        super().__init__(shape[:1], shape[1:], validate_args=False)

    def expand(self, batch_shape, _instance=None):
        batch_shape = torch.Size(batch_shape)
        if batch_shape == self.batch_shape:
            return self
        return dist.ExpandedDistribution(self, batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        each = cross_log_prob(value.movedim(self.class_dim, -1), self.log_probs)
        return each.reshape(len(each), -1).sum(1)

    def sample(self, sample_shape=()):
        drawn = dist.OneHotCategorical(logits=self.log_probs).sample(sample_shape)
        return drawn.movedim(-1, self.class_dim + (len(sample_shape) if self.class_dim > 0 else 0))


class BinaryLabels(dist.Bernoulli):
    """Bernoulli of targets that may be bool, where ignored ones have log-density 0."""

    def __init__(self, logits: Tensor, ignore_index: int | None = None):
        super().__init__(logits=logits, validate_args=False)
        self.ignore_index = ignore_index

    def expand(self, batch_shape, _instance=None):
        return BinaryLabels(self.logits.expand(torch.Size(batch_shape)), self.ignore_index)

    def log_prob(self, value: Tensor) -> Tensor:
        own = value.to(self.logits.dtype)
        if self.ignore_index is None:
            return super().log_prob(own)
        ignored = value == self.ignore_index
        return super().log_prob(own.masked_fill(ignored, 0)).masked_fill(ignored, 0)


def cross_log_prob(probabilities: Tensor, log_probs: Tensor) -> Tensor:
    """sum_c p_c log q_c over the last dimension, where 0 log 0 is 0; (..., C) -> (...)."""
    return (probabilities * log_probs).masked_fill(probabilities == 0, 0).sum(-1)
