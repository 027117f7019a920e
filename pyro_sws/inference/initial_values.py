"""Weights and hyperparameters that a fit sets out from instead of its own, as given, checked."""

import os
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from pyro_sws.inference.plain_numbers import shown
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import weights_site

CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin")  # what torch's own files are called


def initial_values(
    groups: Mapping[str, Group],
    sites: Mapping[str, Tensor],
    start: Mapping[str, Tensor | np.ndarray],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copies of the weights to start from, by tensor name, and of hyperparameters, by site.

    ``sites``: the values that they would start from. A name of both is the tensor's. Raises
    ValueError where no group can take them, TypeError for what has no names.
    """
    _check_start(start)
    shapes = {name: shape for group in groups.values() for name, shape in group.shapes.items()}
    known = {weights_site(name) for name in groups}
    hyperparameters = {site: value for site, value in sites.items() if site not in known}
    weights: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for name, array in start.items():
        if name in shapes:
            weights[name] = _checked(name, array, shapes[name], "the network's")
        elif name in hyperparameters:
            like = hyperparameters[name]
            value = _checked(name, array, tuple(like.shape), "the prior's")
            values[name] = value.to(like)
        else:
            covered = ", ".join(shapes)
            raise ValueError(f"start: no prior covers a parameter {name!r}; covered are {covered}")
    return weights, values


def _checked(name: str, array: object, shape: tuple[int, ...], whose: str) -> Tensor:
    values = _copied(name, array)
    if tuple(values.shape) != shape:
        raise ValueError(f"start: {name!r} has shape {tuple(values.shape)}; {whose} has {shape}")
    if not values.isfinite().all():
        bad = int((~values.isfinite()).sum())
        raise ValueError(f"start: {name!r} has {bad} weights that are not finite")
    return values


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
