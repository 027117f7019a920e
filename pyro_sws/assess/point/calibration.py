"""Are predicted class probabilities as good as they say? Scores, bins and rejection. Numpy.

Of any set of probabilities: of one network, or averaged over draws. Confidence is the largest
probability of an example, and "right" is that its class is the label.
"""

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TypedDict, cast

import numpy as np

BINS = 15
BINNINGS = ("equal_mass", "equal_width")
SIMULATIONS = 1000  # of labels, for what chance does to a calibration error
LEAST = np.finfo(float).tiny  # a label's probability is not taken for less: at most 708 nats


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted probabilities (N, C) and labels (N,). Raises ValueError where they are not that."""

    probabilities: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        p, labels = np.asarray(self.probabilities, float), np.asarray(self.labels)
        if p.ndim != 2 or not len(p) or labels.shape != p.shape[:1]:
            raise ValueError(
                f"probabilities must be (N, C) and labels (N,), got {p.shape} and {labels.shape}"
            )
        if bad := int((~np.isfinite(p).all(1)).sum()):
            raise ValueError(f"each row must be probabilities; {bad} of {len(p)} are not finite")
        if not (p >= 0).all() or not np.allclose(p.sum(1), 1, atol=1e-4):
            sums = f"{p.sum(1).min():g} to {p.sum(1).max():g}"
            raise ValueError(f"each row must be probabilities, not below 0; rows sum to {sums}")
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= p.shape[1]:
            raise ValueError(
                f"labels must be whole numbers in 0..{p.shape[1] - 1}, got {labels.dtype} in "
                f"{labels.min()}..{labels.max()}"
            )
        object.__setattr__(self, "probabilities", p)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def confidence(self) -> np.ndarray:
        """(N,) the largest probability."""
        return self.probabilities.max(1)

    @cached_property
    def right(self) -> np.ndarray:
        """(N,) bool."""
        return self.probabilities.argmax(1) == self.labels

    @cached_property
    def nll_nats(self) -> np.ndarray:
        """(N,) -log of the label's probability."""
        return -np.log(np.maximum(self.probabilities[np.arange(len(self)), self.labels], LEAST))

    @cached_property
    def brier(self) -> np.ndarray:
        """(N,) sum over classes of (p - 1 if it is the label, else p)^2, in [0, 2]; Brier 1950."""
        at_label = self.probabilities[np.arange(len(self)), self.labels]
        return np.square(self.probabilities).sum(1) - 2 * at_label + 1


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram's bins that hold examples, in ascending confidence; each field (B,)."""

    counts: np.ndarray
    confidence: np.ndarray  # mean
    accuracy: np.ndarray
    low: np.ndarray  # Wilson's 95 % interval for the accuracy
    high: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: |accuracy - confidence|, averaged over the examples."""
        return float(self.counts @ np.abs(self.accuracy - self.confidence) / self.counts.sum())

    @property
    def squared_error(self) -> float:
        """Mean over the examples of (accuracy - confidence)^2 of their bins, without the noise.

        Each bin's variance of the accuracy, a (1 - a) / (n - 1), is taken off, which makes it
        unbiased for the bins' squared error, and negative where there is none (Bröcker 2012;
        Kumar, Liang & Ma 2019). Bins of one example have no such estimate and are left out.
        """
        several = self.counts > 1
        n, a = self.counts[several], self.accuracy[several]
        squares = np.square(a - self.confidence[several]) - a * (1 - a) / (n - 1)
        return float(n @ squares / n.sum()) if several.any() else 0.0


@dataclass(frozen=True, eq=False)
class Rejection:
    """Accuracy on the examples that are kept as the least confident are rejected; each (N,)."""

    rejected: np.ndarray  # share of the examples, ascending from 0
    accuracy: np.ndarray

    @property
    def area(self) -> float:
        """Mean of the accuracies over all numbers kept: the accuracy itself for a random order."""
        return float(self.accuracy.mean())


class CalibrationRow(TypedDict):
    """A ``Calibration`` as JSON."""

    examples: int
    accuracy: float
    accuracy_error: float
    nll_nats: float
    nll_error: float
    brier: float
    brier_error: float
    binning: str
    bins: int
    ece: float
    ece_by_chance: float
    ece_by_chance_high: float
    squared_error: float
    rejection_area: float
    calibrated: bool


class Change(TypedDict):
    """A mean's change, and the standard error of the change."""

    change: float
    error: float


class CalibrationChange(TypedDict):
    """What changed between two sets of predictions of the same examples."""

    accuracy: Change
    nll_nats: Change
    brier: Change
    confidence: Change


class CalibrationStage(CalibrationRow):
    """``calibration`` of diagnostics.json, of a stage; the change is against the first one."""

    change: CalibrationChange


@dataclass(frozen=True)
class Calibration:
    """How good probabilities are; means over the examples, with their standard errors."""

    examples: int
    accuracy: float
    accuracy_error: float
    nll_nats: float
    nll_error: float
    brier: float
    brier_error: float
    binning: str
    bins: int  # asked for; fewer where many confidences are equal
    ece: float  # of the confidences, in these bins
    ece_by_chance: float  # mean ECE of labels drawn from the very confidences: of a calibrated one
    ece_by_chance_high: float  # and its 95 % quantile
    squared_error: float  # see Reliability
    rejection_area: float

    @property
    def calibrated(self) -> bool:
        """Whether chance alone would explain the ECE: it is not above that 95 % quantile."""
        return self.ece <= self.ece_by_chance_high

    def to_dict(self) -> CalibrationRow:
        """As JSON."""
        return cast(CalibrationRow, asdict(self) | {"calibrated": self.calibrated})


def calibration(
    predictions: Predictions, bins: int = BINS, binning: str = "equal_mass", seed: int = 0
) -> Calibration:
    """NLL, Brier score, calibration error and area of the rejection curve, each with its noise.

    The ECE is biased upwards: a calibrated network's is not 0. What it would be is simulated, from
    SIMULATIONS sets of labels that are right with each example's confidence, in the same bins
    (Bröcker & Smith 2007). The caller's generators are left alone.
    """
    bin_of = _bin_indices(predictions.confidence, bins, binning)
    by_chance = _errors_by_chance(predictions.confidence, bin_of, np.random.default_rng(seed))
    diagram = _reliability(predictions, bin_of)
    (accuracy, accuracy_error), (nll, nll_error), (brier, brier_error) = (
        mean_and_error(values)
        for values in (predictions.right, predictions.nll_nats, predictions.brier)
    )
    return Calibration(
        examples=len(predictions),
        accuracy=accuracy,
        accuracy_error=accuracy_error,
        nll_nats=nll,
        nll_error=nll_error,
        brier=brier,
        brier_error=brier_error,
        binning=binning,
        bins=bins,
        ece=diagram.error,
        ece_by_chance=float(by_chance.mean()),
        ece_by_chance_high=float(np.quantile(by_chance, 0.95)),
        squared_error=diagram.squared_error,
        rejection_area=rejection(predictions).area,
    )


def reliability(
    predictions: Predictions, bins: int = BINS, binning: str = "equal_mass"
) -> Reliability:
    """Accuracy and mean confidence bin by bin (DeGroot & Fienberg 1983; Guo et al. 2017).

    "equal_width" cuts [0, 1] evenly; "equal_mass" at the confidences' quantiles, so that bins hold
    equally many examples, but for equal confidences, which stay together. Raises ValueError for an
    unknown binning and fewer than one bin.
    """
    return _reliability(predictions, _bin_indices(predictions.confidence, bins, binning))


def rejection(predictions: Predictions) -> Rejection:
    """The accuracy-rejection curve by largest probability (Nadeem, Zucker & Hanczar 2009).

    Examples of equal confidence are rejected in random order: the curve is the mean of all orders.
    """
    _, group = np.unique(-predictions.confidence, return_inverse=True)
    counts = np.bincount(group)
    shares = np.bincount(group, predictions.right) / counts
    kept = np.arange(1, len(predictions) + 1)
    accuracy = np.cumsum(np.repeat(shares, counts)) / kept
    return Rejection(1 - kept[::-1] / len(predictions), accuracy[::-1])


def difference(before: Predictions, after: Predictions) -> CalibrationChange:
    """After - before, with the standard error of it: both are of the same examples, in pairs.

    Raises ValueError where they are not.
    """
    if not np.array_equal(before.labels, after.labels):
        raise ValueError("before and after must be of the same examples in the same order")
    pairs = (
        (before.right.astype(float), after.right.astype(float)),
        (before.nll_nats, after.nll_nats),
        (before.brier, after.brier),
        (before.confidence, after.confidence),
    )
    (accuracy, nll, brier, confidence) = (_change(a, b) for a, b in pairs)
    return {"accuracy": accuracy, "nll_nats": nll, "brier": brier, "confidence": confidence}


def _change(before: np.ndarray, after: np.ndarray) -> Change:
    mean, error = mean_and_error(after - before)
    return {"change": mean, "error": error}


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of values (N,), and its standard error; 0 for a single one."""
    values = np.asarray(values, float)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(values.mean()), float(spread / np.sqrt(len(values)))


def _bin_indices(confidence: np.ndarray, bins: int, binning: str) -> np.ndarray:
    """Each example's bin, (N,), numbered from 0 without gaps."""
    if binning not in BINNINGS:
        raise ValueError(f"unknown binning {binning!r}; choose from {', '.join(BINNINGS)}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    edges = np.quantile(confidence, inner) if binning == "equal_mass" else inner
    return np.unique(np.searchsorted(edges, confidence), return_inverse=True)[1]


def _reliability(predictions: Predictions, bin_of: np.ndarray) -> Reliability:
    counts = np.bincount(bin_of)
    accuracy = np.bincount(bin_of, predictions.right) / counts
    low, high = _wilson(accuracy, counts)
    return Reliability(
        counts, np.bincount(bin_of, predictions.confidence) / counts, accuracy, low, high
    )


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.959964) -> tuple[np.ndarray, np.ndarray]:
    """Wilson 1927: an interval that stays in [0, 1], and is not empty for a share of 0 or 1."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def _errors_by_chance(
    confidence: np.ndarray, bin_of: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """ECEs (SIMULATIONS,) of labels that are right as often as the confidences say."""
    expected = np.bincount(bin_of, confidence)
    draws = (rng.random(len(confidence)) < confidence for _ in range(SIMULATIONS))
    gaps = [np.abs(np.bincount(bin_of, right) - expected).sum() for right in draws]
    return np.array(gaps) / len(confidence)
