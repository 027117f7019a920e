"""What outputs mean: whether they fit the targets clearly better read in another way.

A network knows whether it gives logits or probabilities, log-rates or rates, and does not say.
"""

import math

import torch
from torch import Tensor

from pyro_sws.inference.output_graph import by_linear_layer, makers

FEWEST = 20  # outputs from which their meaning is guessed
MOST_LOG_RATE = 100.0  # above, its exp is as bad
MOST_GAIN = 10  # times the median: what a single gain counts at most
CLEARLY = 3  # standard errors of a difference between two readings


def within_0_and_1(values: Tensor, outputs: Tensor, kinds: set[str]) -> bool:
    """Whether all are; where all are just 0 or 1, which may be anything, if these made them."""
    if not ((values >= 0) & (values <= 1)).all():
        return False
    return made_by(makers(outputs), kinds) or not bool(((values == 0) | (values == 1)).all())


def made_by(made: frozenset[str], kinds: set[str]) -> bool:
    """Whether all of what made the outputs is of these kinds, and something is known of it."""
    return bool(made) and made <= kinds


def better_as_probabilities(
    values: Tensor, outputs: Tensor, targets: Tensor, counted: Tensor
) -> bool:
    """Whether values fit 0s and 1s clearly better than outputs do as logits; see ``_better``.

    Of the targets that are ``counted``, bool.
    """
    if targets.shape != values.shape:
        return False
    bernoulli, wanted = torch.nn.functional.binary_cross_entropy, targets[counted].double()
    share = (wanted.sum() + 1) / (wanted.numel() + 2)
    as_logits = torch.nn.functional.binary_cross_entropy_with_logits(
        outputs.detach()[counted].double(), wanted, reduction="none"
    )
    as_probabilities = bernoulli(values[counted].double(), wanted, reduction="none")
    constant = bernoulli(share.expand_as(wanted), wanted, reduction="none")
    return _better(as_probabilities, as_logits, constant, outputs)


def better_as_rates(values: Tensor, outputs: Tensor, targets: Tensor) -> bool:
    """Whether outputs fit counts clearly better as rates than as log-rates; see ``_better``."""
    if targets.shape != values.shape:
        return False
    given, wanted = values.double(), targets.double()
    mean = (wanted.sum() + 1) / (wanted.numel() + 1)
    as_rates, constant = (
        torch.nn.functional.poisson_nll_loss(rates, wanted, log_input=False, reduction="none")
        for rates in (given, mean.expand_as(given))
    )
    as_log_rates = given.clamp_max(MOST_LOG_RATE).exp() - wanted * given
    return _better(as_rates, as_log_rates, constant, outputs)


def _better(other: Tensor, given: Tensor, constant: Tensor, outputs: Tensor) -> bool:
    """Whether the losses of another reading are clearly below those of the given one.

    Outputs of a network that knows nothing yet may by chance fit rare targets better that way. So
    they must do no worse than one constant for all, and clearly better where a linear layer made
    them, which makes logits.
    """
    knows = clearly_less(other, constant) if by_linear_layer(outputs) else True
    return knows and clearly_less(other, given) and not clearly_less(constant, other)


def clearly_less(one: Tensor, other: Tensor) -> bool:
    """By three standard errors of the difference, of losses one by one.

    A few large gains, as the exp of a wrong log-rate makes, count as less: they would be the error.
    """
    gain = (other - one).flatten()
    if len(gain) < FEWEST:
        return False
    gain = gain.clamp_max(MOST_GAIN * gain.abs().median())
    return bool(gain.mean() > CLEARLY * gain.std() / math.sqrt(len(gain)))
