"""What diagnostics.json has: one shape, made of those of its parts. Types alone.

A file without ``format`` was written before it had one, and has the same parts.
"""

from typing import Final, Literal, TypedDict

from pyro_sws.assess.draws.psis import LeaveOneOutSummary
from pyro_sws.assess.point.assignment_certainty import CertaintySummary
from pyro_sws.assess.point.calibration import CalibrationStage
from pyro_sws.assess.point.occupancy import Occupancy
from pyro_sws.assess.point.quantization_cost import QuantizationCostSummary
from pyro_sws.assess.point.restarts import AgreementSummary
from pyro_sws.assess.prior.conflict import HyperparameterTailRow, PriorCheckRow

FORMAT: Final = 1  # another one where a reader of this one could go wrong


class PointDiagnostics(TypedDict):
    """What holds for a point; each dict is by group."""

    # "test", "validation" or "training": what ``snapping`` and ``calibration`` are on. None, as
    # they are then, too, without the network.
    data: str | None
    certainty: CertaintySummary
    occupancy: dict[str, Occupancy]
    warnings: dict[str, list[str]]
    snapping: QuantizationCostSummary | None
    placed: dict[str, list[HyperparameterTailRow]]  # also by "likelihood"
    trained_weights: dict[str, list[PriorCheckRow]]


class ScalarRow(TypedDict):
    """A scalar by ``summary`` and ``prior_sensitivity``; None where that is not finite."""

    name: str
    mean: float | None
    sd: float | None
    hdi_low: float | None
    hdi_high: float | None
    ess_bulk: float | None
    ess_tail: float | None
    r_hat: float | None
    mcse: float | None
    prior: float | None
    prior_chance: float | None
    likelihood: float | None
    likelihood_chance: float | None


class MixtureRow(ScalarRow, total=False):
    """A scalar, and how far its posterior overlaps with its prior, where that has draws."""

    overlap: float | None


class MixtureOfAnyMethod(TypedDict):
    """What a mixture's draws have by whatever method."""

    method: str
    chains: int
    draws: int
    notes: list[str]
    binning_error_nats: float
    rows: list[MixtureRow]


class Nearness(TypedDict):
    """How near Laplace's approximation is to the posterior, by PSIS."""

    khat: float | None  # None where it is infinite, or all weights are alike
    good_k: float
    near: bool


class MixtureDiagnostics(MixtureOfAnyMethod, total=False):
    """A mixture's draws in numbers, and whether to trust them."""

    # By NUTS.
    largest_r_hat: float | None
    least_ess: float | None
    divergences: int
    relabelled: list[float]  # by chain, the share of draws with components in another order
    seconds: float
    # By Laplace's approximation.
    khat: float | None
    good_k: float
    near: bool
    floored: int


class NoScore(TypedDict):
    """Why there is no leave-one-out score."""

    reason: str


class Diagnostics(PointDiagnostics):
    """The whole of diagnostics.json, as this version writes it."""

    format: Literal[1]  # FORMAT
    guide: str
    mixture: dict[str, MixtureDiagnostics]  # by the name of its tree
    without_mixture: dict[str, str]  # group -> why it has none
    without_network: str | None  # what to do for what needs it; None where it was at hand
    calibration: dict[str, CalibrationStage] | None  # by stage; None where there are no classes
    leave_one_out: LeaveOneOutSummary | NoScore | None  # None for weights that are a point
    restarts: AgreementSummary | None  # None where no other fits were given
