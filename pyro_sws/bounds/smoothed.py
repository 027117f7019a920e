"""Label smoothing of predictions, which keeps the bits of a label within a range."""

import math

import numpy as np


def smoothed_bits(probabilities: np.ndarray, smoothing: float, classes: int) -> np.ndarray:
    """-log2((1 - a) p + a / V) of each label's probability p: (n,) bits, within ``loss_range``."""
    return -np.log2((1 - smoothing) * np.asarray(probabilities) + smoothing / classes)


def loss_range(smoothing: float, classes: int) -> tuple[float, float]:
    """The bits of a label that is sure, and of one that is out of the question.

    They are log2(1 + (1 - a) V / a) apart (Lotfi et al. 2024). Raises ValueError for a smoothing
    that is not in (0, 1], and for fewer than two classes.
    """
    if not 0 < smoothing <= 1 or classes < 2:
        raise ValueError(
            f"smoothing must be in (0, 1] and classes at least 2, got {smoothing} and {classes}"
        )
    least = smoothing / classes
    return -math.log2(1 - smoothing + least), -math.log2(least)
