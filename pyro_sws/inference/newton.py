"""Newton's method: the mode near a start and the curvature there, for Laplace's method."""

from typing import Protocol

import torch
from pyro import poutine
from torch import Tensor

from pyro_sws.inference.isolation import pyro_step

HESSIANS, STEPS = 20, 20  # at most, and steps with each
CONVERGED = 1e-6  # nats that a step may still gain: half its square, in deviations


class Energy(Protocol):
    """-log of a density, up to a constant, as a function of a vector u (D,)."""

    @property
    def start(self) -> Tensor:
        """Near a mode."""
        ...

    def potential(self, u: Tensor) -> Tensor:
        """Its value at u in nats: a scalar, differentiable."""
        ...

    def hessian(self, u: Tensor) -> Tensor:
        """Second derivatives at u; (D, D)."""
        ...


def newton_mode(given: Energy, floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """The mode near the fitted point, and the Hessian's eigenvalues and -vectors (columns) there.

    Newton's method with halved steps, in the directions whose curvature is at least ``floor`` in
    size: in flatter ones there is no mode to go to, or none near.
    """
    at = given.start
    for _ in range(HESSIANS):
        values, vectors = torch.linalg.eigh(given.hessian(at))
        reached = _downhill(given, at, values, vectors, floor)
        if reached is at:
            return at, values, vectors
        at = reached
    return at, *torch.linalg.eigh(given.hessian(at))


def energy_and_gradient(given: Energy, u: Tensor) -> tuple[float, Tensor]:
    """The potential's value and slope at u (D,)."""
    at = u.detach().requires_grad_()
    with pyro_step(), poutine.block():
        energy = given.potential(at)
    (gradient,) = torch.autograd.grad(energy, at)
    return float(energy.detach()), gradient


def _downhill(given: Energy, at: Tensor, values: Tensor, vectors: Tensor, floor: float) -> Tensor:
    """Where Newton's steps with one Hessian lead: a slope is far cheaper. ``at`` at the mode."""
    for _ in range(STEPS):
        energy, gradient = energy_and_gradient(given, at)
        slopes = vectors.T @ gradient
        # Divided by |curvature|: downhill also from a saddle.
        along = torch.where(values.abs() >= floor, -slopes / values.abs(), 0.0)
        gain = -float(slopes @ along) / 2
        move = vectors @ along
        while gain >= CONVERGED:
            if energy_and_gradient(given, at + move)[0] <= energy - 0.1 * gain:
                break
            gain, move = gain / 2, move / 2
        else:
            return at
        at = at + move
    return at
