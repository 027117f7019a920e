"""Laplace's approximation to p(hyperparameters | weights): draws of the Gaussian at its mode."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.hyper_draws import HyperDraws, at_vectors
from pyro_sws.inference.hyperposterior import Hyperposterior
from pyro_sws.inference.mode import FLOOR, mode_of
from pyro_sws.inference.steps import pyro_step


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
    if not isinstance(draws, int) or draws < 1:
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
