"""How the joint's density is computed while fitting: backend, estimate, precision. A value."""

from dataclasses import dataclass
from typing import Literal

import torch

from pyro_sws.inference.plain_numbers import shown
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.density.log_density import BACKENDS


@dataclass(frozen=True)
class Density:
    """How log p(weights) and the network are computed in a fit; the density is the same.

    Raises ValueError for an unknown way, a fraction outside (0, 1] and another precision.
    """

    __pydantic_config__ = {"extra": "forbid"}
    # Blocks in plain torch, torch.compile, or whichever is faster here.
    way: Literal["auto", "portable", "compiled"] = "auto"
    prior_subsample: float | None = None  # fraction of the weights in each step's estimate
    # Of the network's arithmetic in the fit; float16 would need its loss scaled.
    autocast: Literal["bfloat16"] | None = None

    def __post_init__(self) -> None:
        if self.way not in BACKENDS:
            choices = ", ".join(BACKENDS)
            raise ValueError(f"unknown density {shown(self.way)}; choose from {choices}")
        check_fields(self)
        if self.prior_subsample is not None and not 0 < self.prior_subsample <= 1:
            raise ValueError(
                "prior_subsample must be a fraction of the weights in (0, 1], got "
                f"{self.prior_subsample}"
            )

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The precision as torch has it."""
        return None if self.autocast is None else torch.bfloat16
