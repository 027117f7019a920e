"""Certificates: what a file's length and its mistakes prove about unseen data. Values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pyro_sws.bounds.occam import (
    description_bits,
    hoeffding_bound,
    kl_inverse_bound,
    occam_bound,
)
from pyro_sws.inference.plain_numbers import real, whole

CODEC_BITS = 20.0  # a million formats, of which this one was kept


@dataclass(frozen=True)
class SideInformation:
    """What the decoder knows that neither the file nor the format says, in bits.

    A bound that holds for all files at once is paid for by their lengths; one that is to hold for
    several architectures, preprocessings or formats too pays for which of them it is. Settings of
    the training cost nothing: the file says all that they led to. Raises ValueError for numbers
    that cannot be.
    """

    tried: int = 1  # architectures times preprocessings that the certified data may have chosen of
    # The format's constants were chosen on public data, MNIST among it; 0 for data that has no part
    # in them, such as one's own.
    codec_bits: float = CODEC_BITS

    def __post_init__(self) -> None:
        object.__setattr__(self, "tried", whole("tried", self.tried))
        object.__setattr__(self, "codec_bits", real("codec_bits", self.codec_bits))
        if self.tried < 1:
            raise ValueError(f"tried must be at least 1, the one that it is; got {self.tried}")
        if not 0 <= self.codec_bits < math.inf:
            raise ValueError(f"codec_bits must be a number >= 0, got {self.codec_bits}")

    @property
    def bits(self) -> float:
        return self.codec_bits + math.log2(self.tried)


@dataclass(frozen=True)
class Certificate:
    """With probability 1 - delta over the examples, the true error is at most this.

    Of training examples it holds for all files of the format at once, so nothing is paid for how
    training went. It assumes independent examples, and a decoder and architecture that were fixed
    before the data was seen.
    """

    bound_percent: float
    training_mistakes: int
    training_examples: int
    description_bits: float  # of the file and of the side information
    delta: float
    chance_percent: float
    side_bits: float = 0.0  # of these, what the file does not say
    kl_percent: float | None = None  # the same by Chernoff's bound on the tail
    hoeffding_percent: float | None = None  # the same in closed form

    @property
    def vacuous(self) -> bool:
        """Whether guessing a label, each as likely as any other, does as well."""
        return self.bound_percent >= self.chance_percent


@dataclass(frozen=True)
class HoldoutCertificate:
    """With probability 1 - delta over examples that nothing saw, the true error is at most this.

    The one-sided interval of Clopper & Pearson 1934, at delta / looks: so it holds for each of as
    many files at once, and the one that is kept may have been chosen by these examples.
    """

    bound_percent: float
    mistakes: int
    examples: int
    looks: int
    delta: float


def certificate_of_counts(
    file_bytes: int,
    mistakes: int,
    examples: int,
    delta: float = 0.05,
    classes: int = 2,
    side: SideInformation = SideInformation(codec_bits=0.0),
) -> Certificate:
    """Occam bound on the error of the network decoded from a file of ``file_bytes``.

    The exact binomial form: the largest r with P[Bin(n, r) <= k] >= delta 2^-L, for k mistakes on
    n examples, and L bits of the file, which says where it ends, and of the side information.

    Args:
        file_bytes: the file's length.
        mistakes: of the decoded network, in eval mode, on all examples that it was trained on.
        examples: how many these are.
        delta: the probability, over draws of the training data, that the bound fails.
        classes: says only from where on the bound is vacuous.
        side: what the decoder needs beside the file.

    Raises:
        ValueError: for numbers that cannot be.
    """
    # A share of mistakes in the place of their number would make a bound that does not hold.
    file_bytes, counts = whole("file_bytes", file_bytes), _counts(mistakes, examples, delta)
    length = description_bits(file_bytes, self_delimiting=True) + side.bits
    exact, kl, hoeffding = (
        100 * bound(*counts[:2], length, counts[2])
        for bound in (occam_bound, kl_inverse_bound, hoeffding_bound)
    )
    chance = 100 * (1 - 1 / max(classes, 2))
    return Certificate(
        exact, *counts[:2], length, counts[2], chance, side.bits, kl_percent=kl,
        hoeffding_percent=hoeffding,
    )  # fmt: skip


def holdout_certificate(
    mistakes: int, examples: int, delta: float = 0.05, looks: int = 1
) -> HoldoutCertificate:
    """A bound from ``mistakes`` on examples that had no part in training.

    ``looks`` is how many files were compared on them: 1 where none was chosen so. Raises ValueError
    for numbers that cannot be.
    """
    k, n, delta = _counts(mistakes, examples, delta)
    if (looks := whole("looks", looks)) < 1:
        raise ValueError(f"looks must be at least 1, the file itself; got {looks}")
    return HoldoutCertificate(100 * occam_bound(k, n, 0, delta / looks), k, n, looks, delta)


def frontier_certificates(
    mistakes: Sequence[int], examples: int, delta: float = 0.05
) -> list[HoldoutCertificate]:
    """Of each file of a frontier, all at once, from their mistakes on the same held-out examples.

    With probability 1 - delta none of the bounds fails: each is at delta / files.
    """
    return [holdout_certificate(k, examples, delta, looks=len(mistakes)) for k in mistakes]


def _counts(mistakes: int, examples: int, delta: float) -> tuple[int, int, float]:
    mistakes, examples = whole("mistakes", mistakes), whole("examples", examples)
    delta = real("delta", delta)
    if not 0 <= mistakes <= examples or examples < 1:
        raise ValueError(f"mistakes must be in 0..examples, got {mistakes} of {examples}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
    return mistakes, examples, delta
