"""What a recipe names, loaded and checked: its network, its data, the weights to start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pyro_sws.inference.batches import Batches
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.recipes.recipe import Recipe, Settings
from pyro_sws.weights.load import fill

SPLITS = ("train", "test", "validation")


Splits = Mapping[str, tuple[Tensor, Tensor]]  # those of SPLITS that there are: inputs, targets


def training_batches(recipe: Recipe, data: Splits, size: int) -> Batches:
    """What is trained on: the training split, shuffled, augmented where the recipe says so."""
    return Batches(*data["train"], size, augment=recipe.augment)


def model_settings(settings: Settings) -> dict[str, Any]:
    """What ``joint`` takes, and ``compress`` hands on to it."""
    return {
        "tau": settings.tau,
        "density": settings.density,
        "prior_subsample": settings.prior_subsample,
        "autocast": None if settings.autocast is None else getattr(torch, settings.autocast),
        "device": settings.device,
        "dtype": None if settings.dtype is None else getattr(torch, settings.dtype),
    }


def build_network(recipe: Recipe) -> nn.Module:
    """The recipe's network, with weights drawn under its seed. Raises ValueError for no module."""
    with forked_rng(recipe.settings.seed, torch.device("cpu")):
        net = recipe.network(recipe.folder)
    if not isinstance(net, nn.Module):
        kind = type(net).__name__
        raise ValueError(f"network: {recipe.network.path} returned {kind}, not a torch.nn.Module")
    return net


def load_data(recipe: Recipe, data_dir: str | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """ "train", and "validation" or else "test", where there are any: (inputs, targets) pairs.

    Who holds data out is choosing by it; the test split, which is for what was chosen, is then not
    even looked at.
    """
    more = {} if data_dir is None else {"data_dir": data_dir}
    data = recipe.data(recipe.folder, **more)
    if not isinstance(data, Mapping) or "train" not in data:
        kind = type(data).__name__
        raise ValueError(
            f"data: {recipe.data.path} returned {kind}; it must return a mapping with 'train', and "
            "optionally 'test' and 'validation', each a pair (inputs, targets)"
        )
    left_out = "test" if "validation" in data else None
    found = {name: data[name] for name in SPLITS if name in data and name != left_out}
    for name, split in found.items():
        _check_split(split, f"data: {recipe.data.path} returned for {name!r}")
    return found


def load_start(net: nn.Module, path: Path) -> None:
    """Fill the network with trained weights. Raises ValueError where they are not its own."""
    try:
        load_tensors(net, path)
    except ValueError as error:
        raise ValueError(f"start: {error}") from None


def load_tensors(net: nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
        fill(net, {name: _as_array(tensor) for name, tensor in tensors.items()})
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def unshuffled(data: Mapping[str, tuple[Tensor, Tensor]], name: str) -> Batches | None:
    return Batches(*data[name], 1000, shuffle=False) if name in data else None


def _check_split(split: Any, where: str) -> None:
    if not (isinstance(split, tuple | list) and len(split) == 2):
        raise ValueError(f"{where} {kind_of(split)}; it must be a pair (inputs, targets)")
    if not all(isinstance(part, Tensor) for part in split):
        kinds = " and ".join(map(kind_of, split))
        raise ValueError(f"{where} {kinds}; inputs and targets must be tensors")
    counts = [len(part) for part in split]
    if counts[0] != counts[1] or not counts[0]:
        given = f"{counts[0]} inputs and {counts[1]} targets"
        raise ValueError(f"{where} {given}; give as many, and at least one")


def kind_of(value: Any) -> str:
    return f"a {type(value).__name__}"


def _as_array(tensor: Tensor) -> np.ndarray:
    """As numpy has it, which knows no bfloat16."""
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def check_device(device: str | None) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device: cannot compute on {device!r} ({reason}); use 'cpu', or leave it out"
        ) from None
