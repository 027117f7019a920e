"""Densities of class labels under logits: where some are ignored, and with soft targets."""

import math
from typing import Protocol

import pyro.distributions as dist
import torch
from torch import Tensor


class Softening(Protocol):
    """How labels are mixed with a teacher's probabilities, see Distilled."""

    @property
    def ignore_index(self) -> int | None: ...
    @property
    def share(self) -> float: ...
    @property
    def temperature(self) -> float: ...
    @property
    def smoothing(self) -> float: ...


class Labels(dist.Categorical):
    """Categorical in which a target that is to be ignored has log-density 0, label or not."""

    def __init__(self, logits: Tensor, ignore_index: int | None):
        super().__init__(logits=logits, validate_args=False)
        self.ignore_index = ignore_index

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size(batch_shape) + self.logits.shape[-1:]
        return Labels(self.logits.expand(shape), self.ignore_index)

    def log_prob(self, value: Tensor) -> Tensor:
        if self.ignore_index is None:
            return self.label_log_prob(value)
        ignored = value == self.ignore_index
        return self.label_log_prob(value.masked_fill(ignored, 0)).masked_fill(ignored, 0)

    def label_log_prob(self, label: Tensor) -> Tensor:
        return super().log_prob(label)


class SoftLabels(Labels):
    """Categorical whose log-density of a label is mixed with soft targets; see Distilled."""

    def __init__(self, outputs: Tensor, teacher: Tensor, spec: Softening):
        super().__init__(outputs, spec.ignore_index)
        self.outputs, self.teacher, self.spec = outputs, teacher.detach(), spec

    def expand(self, batch_shape, _instance=None):
        shape = torch.Size(batch_shape) + self.event_shape + self.outputs.shape[-1:]
        return SoftLabels(self.outputs.expand(shape), self.teacher.expand(shape), self.spec)

    def label_log_prob(self, label: Tensor) -> Tensor:
        spec = self.spec
        hard = super().label_log_prob(label)
        if spec.smoothing:
            possible = self.logits > -math.inf
            spread = self.logits.masked_fill(~possible, 0).sum(-1) / possible.sum(-1)
            hard = torch.lerp(hard, spread, spec.smoothing)
        own, teacher = (
            (x / spec.temperature).log_softmax(-1) for x in (self.outputs, self.teacher)
        )
        products = (teacher.exp() * own).masked_fill(teacher == -math.inf, 0)  # 0 log 0 is 0
        soft = spec.temperature**2 * products.sum(-1)
        return (1 - spec.share) * hard + spec.share * soft
