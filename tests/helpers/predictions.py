"""Predictions that are calibrated, or not, by their making."""

import numpy as np

from pyro_sws.assess.point.calibration import (
    Predictions,
)


def drawn(n=2000, classes=4, seed=0, sharpen=1.0):
    """Labels drawn from the probabilities; what is predicted is those, sharpened."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.standard_normal((n, classes))
    p = softmax(logits)
    labels = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(max=classes - 1)
    return Predictions(softmax(sharpen * logits), labels)


def two_class(confidences, right):
    """Predictions of class 0 with these confidences, right where it says so."""
    c = np.array(confidences)
    return Predictions(np.stack([c, 1 - c], axis=1), 1 - np.array(right, int))


def softmax(logits):
    p = np.exp(logits - logits.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)
