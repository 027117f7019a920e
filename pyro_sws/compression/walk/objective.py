"""What a walk minimises, in the place of a tolerance: the certificate, or the whole description.

Each is of the training examples and of the file's length, and holds for all files at once: it may
be looked at as often as one likes.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from pyro_sws.assess.report.certificate import SideInformation, certificate_of_counts
from pyro_sws.compression.walk.judge import evaluated
from pyro_sws.inference.evaluation import Evaluation, evaluations_or_not_finite
from pyro_sws.inference.finite import NotFinite
from pyro_sws.inference.joint import Joint

OBJECTIVES = ("certificate", "mdl")
# How much more of it a walk may have on the way than the least that it met: widths grow where it
# has less, and are held where it has more until it comes back.
SLACK = 0.03


@dataclass(frozen=True, eq=False)
class Objective:
    """A judge whose scores are the objective's values: lower is better, and there is no limit.

    ``certificate``: the bound on the error in percent, at delta 0.05. ``mdl``: bits of the file and
    of the training targets given its network (Blier & Ollivier 2018). ``reference`` is the least
    value met, which a walk lowers as it goes.
    """

    model: Joint
    batches: Iterable  # all training examples, each once and without augmentation
    kind: str  # among OBJECTIVES
    reference: float = math.inf
    name: str = "training"

    @property
    def unit(self) -> str:
        return "percent" if self.kind == "certificate" else "bits"

    @property
    def tolerance(self) -> float:
        return SLACK * abs(self.reference)

    @property
    def limit(self) -> float:
        return self.reference + self.tolerance if math.isfinite(self.reference) else math.inf

    @property
    def follows(self) -> bool:
        """Whether the reference is the best score met so far."""
        return True

    @property
    def kept_within(self) -> float:
        """How much worse than the reference the file may be that comes back."""
        return 0.0

    def rank(self, score: float, file_bytes: int) -> tuple[float, float]:
        """Of two files the one is kept whose rank is less."""
        return score, file_bytes

    def score(
        self, weights: Mapping[str, Tensor], point: Mapping[str, Tensor], file_bytes: int
    ) -> float:
        """Of a file of so many bytes; infinite where its network's outputs are not finite."""
        found = evaluations_or_not_finite(
            {"quantized": evaluated(self.model, weights, point)},
            self.model.likelihood,
            self.batches,
            self.name,
        )["quantized"]
        return math.inf if isinstance(found, NotFinite) else self.of(found, file_bytes)

    def of(self, found: Evaluation, file_bytes: int) -> float:
        """The objective of a network's evaluation on all training examples.

        Raises ValueError for a certificate where an example is not right or wrong.
        """
        if self.kind == "mdl":
            return 8 * file_bytes + found.error_cost_nats / math.log(2)
        if found.mistakes is None:
            raise ValueError(
                'tau="certificate" is for a loss of 0 or 1 an example, and this likelihood\'s is '
                'none; say tau="mdl", or give a tolerance='
            )
        return certificate_of_counts(
            file_bytes, found.mistakes, found.judged, classes=found.classes, side=SideInformation()
        ).bound_percent
