"""What is in a report: its format, and the shapes of its tables as report.json has them."""

from collections.abc import Mapping
from typing import Literal, TypedDict

REPORT_FORMAT = 1  # a change that an older build would read wrongly is a new one


def check_format(table: object) -> None:
    """Raise ValueError for what is no table, and a report of a format that this build has not.

    One without a number is of before there were any, and reads as the first.
    """
    if not isinstance(table, Mapping):
        raise ValueError(f"a report is a table of keys and values, got {type(table).__name__}")
    number = table.get("format", REPORT_FORMAT)
    if not isinstance(number, int) or not 1 <= number <= REPORT_FORMAT:
        raise ValueError(f"report is format {number}; this build reads up to {REPORT_FORMAT}")


class Score(TypedDict):
    """How well the network predicts at each stage; lower is better."""

    name: str
    unit: str  # "percent", or the unit itself
    data: str  # "test", "validation" or "training"
    examples: int  # of which a target counts
    before: float  # the network as given
    posterior: float | None  # after fitting, before snapping; None of a walk, which always snaps
    quantized: float  # every weight snapped to its value
    decoded: float  # read back from the file


class Description(TypedDict):
    """The two-part description length of the training targets at tau = 1, in bits."""

    file_bits: float
    label_bits: float
    total_bits: float


class FurtherBounds(TypedDict, total=False):
    """Later reports; see ``bounds/rates.py``."""

    kt_bits: float
    rate_distortion_bits: float | None  # of the fitted density; None where it has no squared error
    permutation_bits: float  # what the order of the units is worth


class Bounds(FurtherBounds):
    """Lengths in bits that other codes for the same symbols would have."""

    order0_entropy_bits: float
    enumerative_bits: float
    nml_bits: float
    coder_ideal_bits: float
    mixture_cross_entropy_bits: float


class Variants(TypedDict):
    """Bytes of the file, with names and shapes in it or a fingerprint in their place."""

    self_contained: int
    fingerprint: int


class Assumed(TypedDict, total=False):
    """What a certificate rests on; reports of single pieces, and older ones, do not say."""

    assumes: list[str]  # sentences; what is known to be broken is among them


class OtherForms(TypedDict, total=False):
    """The same by other bounds on the tail, and what is paid beside the file; later reports."""

    side_bits: float
    kl_percent: float
    hoeffding_percent: float


class CertificateRow(Assumed, OtherForms):
    """See ``Certificate``."""

    bound_percent: float
    training_mistakes: int
    training_examples: int
    description_bits: float
    delta: float
    chance_percent: float
    vacuous: bool


class HoldoutRow(TypedDict):
    """See ``HoldoutCertificate``."""

    bound_percent: float
    mistakes: int
    examples: int
    looks: int
    delta: float


class UnitCounts(TypedDict, total=False):
    """Later reports."""

    unit_counts: list[int]  # of each set of units whose order is free


class RewritingRow(UnitCounts):
    """See ``Rewritten``."""

    hidden: int
    silent: int
    dropped: int
    folded: int  # units that give a constant, which the next layer's bias has; no batch norms
    orders: dict[str, str]  # a layer's weight -> its units' order
    largest_difference: float | None
    left_alone: dict[str, str]  # a tensor, or "the network" -> why its units stay as they are


class RefinementRow(TypedDict):
    """See ``Refined``."""

    epochs: int
    epoch_kept: int
    widening: float
    description_nats_before: float
    description_nats: float


class Limited(TypedDict, total=False):
    """Why a walk's file is not shorter; older reports do not say."""

    limited_by: Literal["tolerance", "budget"]  # "budget": nothing as wide was beyond the tolerance
    objective: str  # "certificate" or "mdl", where the least of it was sought; scores are of it


class WalkRow(Limited):
    """What a walk was held to, and what it met; see ``Frontier``."""

    judged_on: str  # "validation" or "training" data
    reference: float  # the score that was to be kept, in the score's unit
    tolerance: float
    score: float  # of the file, on that data
    files: int  # that it met
    step: int  # of the file
    passes: float  # through the training data, in all
    width: float  # of the components, in root mean squares of the weights


class PostTrainingRow(TypedDict):
    """What a file of post-training was held to; see ``PostTraining``."""

    judged_on: str  # "validation" or "held-out training" data
    unit: str  # "nats": divergence from the network's own predictions; else the score's
    reference: float  # of the network: 0 nats
    tolerance: float
    score: float  # of the file, on that data
    files: int  # that the sweep made
    rate: float  # nats a target that a bit of the file was worth
    predicted_nats: float  # that the curvature says are lost, an example; of "nats", a target


class TensorRow(TypedDict):
    """One coded tensor."""

    name: str
    shape: list[int]
    weights: int
    nonzero: int
    bits: float  # what the coder's decisions on it cost


class RawRow(TypedDict):
    """One tensor that no prior covers."""

    name: str
    shape: list[int]
    given: str  # dtype
    stored: str  # dtype
    coding: str  # "plain", or how the file has its values in fewer bytes
    bytes: int  # of its values in the file
    largest_error: float  # of a value, by rounding
    largest_relative_error: float  # of a value, over its magnitude, which is not 0


class InUse(TypedDict):
    """How many values a group's weights take; see ``components_in_use``."""

    used_components: int
    effective_components: float


class DensityRow(TypedDict):
    """How log p(weights) was computed while fitting, and why not compiled where it was not."""

    name: str  # "portable" or "compiled"
    reason: str | None
    prior_subsample: float | None


class GroupRow(InUse):
    """One group of weights, and the mixture that it was snapped with."""

    family: str
    weights: int
    tensors: list[str]
    components: int
    components_before_merging: int
    merged: list[list[int]]
    deleted: list[int]
    means: list[float]
    deviations: list[float]
    proportions: list[float]
    density: DensityRow


class DataRow(TypedDict):
    """What was read: its name, where one is known, and the number of examples of each split."""

    name: str | None
    training: int
    validation: int | None
    test: int | None
