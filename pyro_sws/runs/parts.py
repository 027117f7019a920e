"""The parts of a run: what a folder is written from, and read as."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

from torch import Tensor

from pyro_sws.assess.report.report import Report
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.plan import Plan
from pyro_sws.compression.refine import Refined
from pyro_sws.inference.history import History
from pyro_sws.weights.posterior import Posterior

if TYPE_CHECKING:  # its parts draw on libraries that a run does without
    from pyro_sws.assess.diagnostics import Diagnostics


class RunParts(TypedDict):
    """The fields of a ``Run``, by name; see there."""

    plan: Plan
    given: Mapping[str, Tensor]
    architecture: Mapping[str, tuple[int, ...]]
    posterior: Posterior
    packed: Posterior
    quantized: Quantized
    data: bytes
    report: Report
    history: History
    refined: Refined | None
    diagnostics: "Diagnostics | None"
