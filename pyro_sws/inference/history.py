"""What is kept of each epoch of a fit or a refinement: a row of history. Types alone."""

from typing import TypedDict


class MixtureRow(TypedDict):
    """A group's mixture, a number a component."""

    means: list[float]
    precisions: list[float]
    proportions: list[float]


class ValidationScores(TypedDict, total=False):
    """Scores on the validation data, where there are any."""

    validation_posterior: float  # of the weights as fitted
    validation_quantized: float | None  # of the same weights, snapped; None: see the note
    validation_note: str  # why the snapped network has no score


class _Epoch(TypedDict):
    epoch: int  # from 1; 0 for the row that a refinement starts at


class HistoryRow(_Epoch, ValidationScores, total=False):
    """An epoch, as ``fit`` describes it; a refinement's first row has the description alone."""

    negative_elbo_nats: float
    error_cost_nats: float
    complexity_cost_nats: float
    mixtures: dict[str, MixtureRow]  # by group
    seconds: float
    file_bytes: int  # of a walk
    width: float  # of a walk: the components', in root mean squares of the weights
    description_nats: float | None  # of a refinement, see ``refine``; None if not finite


History = list[HistoryRow]
