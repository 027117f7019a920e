"""Laplace's approximation to p(hyperparameters | weights): draws of the Gaussian at its mode."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import ClassVar

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.guides.laplace import MOST_HYPERPARAMETERS
from pyro_sws.inference.hyperposterior.draws import HyperDraws, at_vectors
from pyro_sws.inference.hyperposterior.target import Hyperposterior
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.newton import newton_mode

FLOOR = 0.1  # of the curvature in a direction, beneath which it is taken for flat
LOST = 1.0  # nats that the bins may change on the way to the mode


@dataclass(frozen=True, eq=False)
class LaplaceDraws(HyperDraws):
    """Independent draws of the Gaussian, as one chain; see PSIS for how near it is."""

    log_q: Tensor  # (1, draws) density of the vectors under the Gaussian, in nats
    floored: int  # directions whose width is the floor's, not the curvature's
    method: ClassVar[str] = "laplace"

    @property
    def stats(self) -> dict[str, Tensor]:
        return {**super().stats, "log_p": self.log_density, "log_q": self.log_q}


def laplace_hyperparameters(
    target: Hyperposterior, *, draws: int = 1000, seed: int = 0, floor: float = FLOOR
) -> LaplaceDraws:
    """``draws`` of the Gaussian of the curvature at the mode, in unconstrained space.

    Directions flatter than ``floor`` are as wide as it says, 1 / sqrt(floor). Raises ValueError for
    no draw, and for a start too far from the mode (see ``mode_of``).
    """
    if not isinstance(draws, Integral) or draws < 1:
        raise ValueError(f"draws must be a whole number >= 1, got {draws}")
    mode, curvatures, directions = mode_of(target, floor)
    widths = curvatures.clamp_min(floor).rsqrt()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(draws, len(mode), generator=generator, dtype=mode.dtype)
    u = mode + (noise * widths) @ directions.T
    with torch.no_grad(), pyro_step(), poutine.block():
        log_density = torch.stack([-target.potential(row) for row in u])
    normalizer = widths.log().sum() + len(mode) * 0.5 * math.log(2 * math.pi)
    return LaplaceDraws(
        **at_vectors(target, u.unsqueeze(0)),
        log_density=log_density.unsqueeze(0),
        log_q=(-0.5 * noise.square().sum(1) - normalizer).unsqueeze(0),
        floored=int((curvatures < floor).sum()),
    )


def mode_of(target: Hyperposterior, floor: float = FLOOR) -> tuple[Tensor, Tensor, Tensor]:
    """As ``newton_mode`` does: the mode (D,), the Hessian's eigenvalues (D,) and -vectors there.

    The weights' bins are as narrow as the components were at the start. Where these get far
    narrower on the way, the bins' expansion of the density no longer holds, and there may be no
    mode at all: that is a ValueError, as are more hyperparameters than a dense Hessian is for.
    """
    if len(target.start) > MOST_HYPERPARAMETERS:
        raise ValueError(
            f"group {target.group.name!r} has {len(target.start)} hyperparameters, too many for a "
            f"dense Hessian (at most {MOST_HYPERPARAMETERS})"
        )
    try:
        with torch.enable_grad():
            mode, curvatures, directions = newton_mode(target, floor)
        moved = abs(target.binning_error(mode) - target.binning_error(target.start))
    except torch.linalg.LinAlgError:
        moved = float("inf")
    if not moved < LOST:
        raise ValueError(
            f"group {target.group.name!r}: on the way from the start to the mode the bins' error "
            f"changed by {moved:.3g} nats; start at a fitted point, whose components are about as "
            "wide as the weights have them, or do without bins: hyperposterior(..., exact=True)"
        )
    return mode, curvatures, directions
