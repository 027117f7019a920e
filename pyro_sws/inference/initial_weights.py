"""Weights that a fit sets out from instead of the network's own, as they were given, checked."""

import os
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pyro_sws.inference.plain_numbers import shown
from pyro_sws.weights.group import Group

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")  # what torch's own files are called


def initial_weights(
    groups: Mapping[str, Group], start: Mapping[str, Tensor | np.ndarray]
) -> dict[str, Tensor]:
    """Copies of the weights to start from, by tensor name.

    Raises ValueError where no group can take them, TypeError for what has no names.
    """
    _check_start(start)
    shapes = {name: shape for group in groups.values() for name, shape in group.shapes.items()}
    weights: dict[str, Tensor] = {}
    for name, array in start.items():
        if name not in shapes:
            known = ", ".join(shapes)
            raise ValueError(f"start: no prior covers a parameter {name!r}; covered are {known}")
        weights[name] = values = _copied(name, array)
        if tuple(values.shape) != shapes[name]:
            given, own = tuple(values.shape), shapes[name]
            raise ValueError(f"start: {name!r} has shape {given}; the network's has {own}")
        if not values.isfinite().all():
            bad = int((~values.isfinite()).sum())
            raise ValueError(f"start: {name!r} has {bad} weights that are not finite")
    return weights


def _check_start(start: object) -> None:
    """Raise TypeError, with the remedy, for what has no weights by name, such as a file's path."""
    if isinstance(start, Mapping):
        return
    remedy = "give a dict of tensors by name"
    if isinstance(start, str | os.PathLike):
        remedy = "read the file first, as by safetensors.torch.load_file(path)"
        if str(start).endswith(CHECKPOINTS):
            remedy = "read the file first, as by torch.load(path, weights_only=True)"
    if isinstance(start, nn.Module):
        remedy = "give dict(module.named_parameters())"
    raise TypeError(f"start must be weights by tensor name, got {shown(start)}; {remedy}")


def _copied(name: str, values: object) -> Tensor:
    try:
        weights = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"start: {name!r} must be a tensor, got {shown(values)}") from None
    if weights.is_complex() or weights.is_meta:
        kind = "complex" if weights.is_complex() else "on the meta device"
        raise ValueError(f"start: {name!r} must have real values, and is {kind}")
    return weights.detach().clone()
