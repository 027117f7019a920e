"""The certificate on a file: what its length and its training errors prove about unseen data."""

from dataclasses import dataclass

from pyro_sws.bounds.occam import description_bits, occam_bound
from pyro_sws.inference.plain_numbers import real, whole


@dataclass(frozen=True)
class Certificate:
    """With probability 1 - delta over the training sample, the true error is at most this.

    Holds for all files of the format at once, so nothing is paid for how training went. It assumes
    independent examples, and a decoder and architecture that were fixed before the data was seen.
    """

    bound_percent: float
    training_mistakes: int
    training_examples: int
    description_bits: float
    delta: float
    chance_percent: float

    @property
    def vacuous(self) -> bool:
        """Whether guessing a label, each as likely as any other, does as well."""
        return self.bound_percent >= self.chance_percent


def certify(
    file_bytes: int, mistakes: int, examples: int, delta: float = 0.05, classes: int = 2
) -> Certificate:
    """Occam bound on the error of the network decoded from a file of ``file_bytes``.

    The exact binomial form: the largest r with P[Bin(n, r) <= k] >= delta 2^-L, for k mistakes on
    n examples, and L bits of the file made self-delimiting.

    Args:
        file_bytes: the file's length.
        mistakes: of the decoded network, in eval mode, on all examples that it was trained on.
        examples: how many these are.
        delta: the probability, over draws of the training data, that the bound fails.
        classes: says only from where on the bound is vacuous.

    Raises:
        ValueError: for numbers that cannot be.
    """
    # A share of mistakes in the place of their number would make a bound that does not hold.
    file_bytes, mistakes = whole("file_bytes", file_bytes), whole("mistakes", mistakes)
    examples, delta = whole("examples", examples), real("delta", delta)
    if not 0 <= mistakes <= examples or examples < 1:
        raise ValueError(f"mistakes must be in 0..examples, got {mistakes} of {examples}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
    length = description_bits(file_bytes, self_delimiting=True)
    bound = occam_bound(mistakes, examples, length, delta)
    chance = 100 * (1 - 1 / max(classes, 2))
    return Certificate(100 * bound, mistakes, examples, length, delta, chance)
