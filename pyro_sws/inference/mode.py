"""The mode of a hyperposterior near the fitted point, and the curvature there."""

import torch
from torch import Tensor

from pyro_sws.inference.guides.laplace import MOST_HYPERPARAMETERS, polished
from pyro_sws.inference.hyperposterior import Hyperposterior

FLOOR = 0.1  # of the curvature in a direction, beneath which it is taken for flat
LOST = 1.0  # nats that the bins may change on the way to the mode


def mode_of(target: Hyperposterior, floor: float = FLOOR) -> tuple[Tensor, Tensor, Tensor]:
    """As ``polished``: the mode (D,), eigenvalues (D,) of the Hessian there, and its eigenvectors.

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
            mode, curvatures, directions = polished(target, floor)
        moved = abs(target.binning_error(mode) - target.binning_error(target.start))
    except torch.linalg.LinAlgError:
        moved = float("inf")
    if not moved < LOST:
        raise ValueError(
            f"group {target.group.name!r}: on the way from the start to the mode the bins' error "
            f"changed by {moved:.3g} nats; start at a fitted point, whose components are about as "
            "wide as the weights have them, or give exact=True"
        )
    return mode, curvatures, directions
