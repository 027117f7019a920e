"""A bound on the bits that labels of unseen examples take, by the decoded network's answers."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_sws.bounds.occam import bounded_loss_bound
from pyro_sws.bounds.smoothed import loss_range, smoothed_bits
from pyro_sws.inference.batches import moved
from pyro_sws.inference.classification import Categorical
from pyro_sws.inference.evaluation import Evaluated
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.weights.structures import value_of

EXPONENTS = range(1, 13)  # of the smoothing that is tried: 1/2, 1/4, ...


@dataclass(frozen=True)
class LabelBits:
    """With probability 1 - delta, labels take at most this many bits each in expectation.

    Of the network's probabilities mixed with a share ``smoothing`` of the uniform ones, which keeps
    the loss bounded (Lotfi et al. 2024). Guessing takes log2 of the classes.
    """

    bound_bits: float
    training_bits: float  # smoothed alike, the mean of the training examples
    smoothing: float
    guess_bits: float

    @property
    def vacuous(self) -> bool:
        return self.bound_bits >= self.guess_bits


@torch.no_grad()
def smoothed_bits_bound(
    evaluated: Evaluated,
    likelihood: Likelihood,
    batches: Iterable,
    description_bits: float,
    delta: float,
) -> LabelBits | None:
    """The least of the bounds for each smoothing, which one is tried being paid for.

    None for a likelihood that is not of one label an example.
    """
    if not isinstance(likelihood, Categorical):
        return None
    found: list[Tensor] = []
    classes = 2
    for inputs, targets in moved(batches, "train", *evaluated.device_dtype):
        with pyro_step():
            outputs = evaluated.outputs(inputs)
        labels = value_of(targets)
        if labels.ndim != 1 or outputs.ndim != 2:
            return None  # several labels an example: their mean's terms are not all bounded alike
        counted = likelihood.counted(labels)
        log_probs = likelihood(outputs).log_prob(labels)[counted]
        found.append(log_probs.double().exp().cpu())
        classes = outputs.shape[1]
    probabilities = torch.cat(found).numpy()
    if not len(probabilities):
        return None
    rows = []
    price = description_bits + float(torch.tensor(float(len(EXPONENTS))).log2())
    for exponent in EXPONENTS:
        smoothing = 2.0**-exponent
        mean = float(smoothed_bits(probabilities, smoothing, classes).mean())
        low, high = loss_range(smoothing, classes)
        bound = bounded_loss_bound(mean, low, high, len(probabilities), price, delta)
        rows.append((bound, mean, smoothing))
    bound, mean, smoothing = min(rows)
    return LabelBits(bound, mean, smoothing, float(torch.tensor(float(classes)).log2()))
