"""The parts of a run: what a folder is written from, and read as. A value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from pyro_sws.assess.report.report import Report
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.plan import Plan
from pyro_sws.compression.refine import Refined
from pyro_sws.compression.walk.frontier import Frontier
from pyro_sws.inference.history import History
from pyro_sws.weights.posterior import Posterior

if TYPE_CHECKING:  # its parts draw on libraries that a run does without
    from pyro_sws.assess.diagnostics import Diagnostics


@dataclass(frozen=True, eq=False)
class RunParts:
    """A plan and all that came of it; see ``Run``."""

    plan: Plan
    given: Mapping[str, Tensor]  # the network's tensors before compression, by name
    architecture: Mapping[str, tuple[int, ...]]  # names and shapes of what the file holds
    posterior: Posterior  # as fitted
    packed: Posterior  # after merging components, and after refinement where there was any
    quantized: Quantized  # what the file holds
    data: bytes  # the file
    report: Report
    history: History
    refined: Refined | None = None  # what refinement did
    frontier: Frontier | None = None  # the files that a walk met
    diagnostics: "Diagnostics | None" = None  # what ``diagnose`` found
