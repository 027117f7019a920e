"""What likelihoods ask of outputs and targets, and how losses become one an example."""

import pyro.distributions as dist
import torch
from torch import Tensor

SUM_TOLERANCE = 1e-3  # of probabilities around 1


def by_example(losses: Tensor, counted: Tensor | None = None) -> Tensor:
    """Mean over everything but the batch, or over what counts there; (B, ...) -> (B,)."""
    each = losses.reshape(len(losses), -1)
    if counted is None or counted.all():
        return each.mean(1)
    counted = counted.reshape(len(losses), -1)
    return each.where(counted, 0).sum(1) / counted.sum(1).clamp_min(1)


def how_many(targets: Tensor) -> Tensor:
    """Of each example, by which a mean over them weighs it; (B, ...) -> (B,)."""
    return targets.new_full((len(targets),), targets.shape[1:].numel(), dtype=torch.float64)


def one_by_one(prediction: dist.TorchDistribution) -> dist.TorchDistribution:
    """Of each target by itself: several of an example are more of its batch, and no event."""
    while isinstance(prediction, dist.Independent):
        prediction = prediction.base_dist
    return prediction


def what(tensor: Tensor) -> str:
    """Its dtype and shape, for a message."""
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"


def floating(likelihood: str, targets: Tensor) -> None:
    """Raise ValueError for targets that are no floats."""
    if not targets.is_floating_point():
        raise ValueError(
            f"{likelihood}: targets must be floats, got {what(targets)}; give targets.float()"
        )


def same_shape(likelihood: str, targets: Tensor, shape: torch.Size) -> None:
    """Raise ValueError for targets of another shape."""
    if targets.shape == shape:
        return
    remedy = ""
    if targets.shape == (*shape, 1):
        remedy = "; give targets.squeeze(-1)"
    elif (*targets.shape, 1) == shape:
        remedy = "; give targets.unsqueeze(-1)"
    raise ValueError(
        f"{likelihood}: targets must have shape {tuple(shape)}, got {what(targets)}{remedy}"
    )


def check_probabilities(likelihood: str, outputs: Tensor) -> None:
    """Raise ValueError for outputs that are none, where a likelihood's inputs are."""
    if ((outputs < 0) | (outputs > 1)).any():
        low, high = outputs.aminmax()
        raise ValueError(
            f"{likelihood}: inputs are probabilities, which are in 0..1, but the network's outputs "
            f'are in {low:g}..{high:g}; end it in one, or say inputs="logits"'
        )


def log_of(probabilities: Tensor) -> Tensor:
    """The log, of 0 that of the least normal number (-87 in float32), whose gradient is 0."""
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
