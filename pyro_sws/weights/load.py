"""A file's weights back into a network: a new module, the given one left as it is. Torch only."""

import copy
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pyro_sws.codec.container import decode, weights_allowed
from pyro_sws.codec.symbols import Quantized


def load(source: str | os.PathLike | bytes, into: nn.Module) -> nn.Module:
    """A copy of ``into``, in eval mode, with the weights of a .sws file (a path or its bytes).

    Raises FormatError for a damaged file, ValueError where names or shapes are not the network's.
    """
    own = copy.deepcopy(into).eval()
    if isinstance(source, bytes | bytearray | memoryview):
        fill(own, decode_for(own, bytes(source)).tensors())
        return own
    try:
        fill(own, decode_for(own, Path(source).read_bytes()).tensors())
    except ValueError as error:  # a FormatError stays one
        raise type(error)(f"{source}: {error}") from None
    return own


def decode_for(net: nn.Module, data: bytes) -> Quantized:
    """What is in the file of a network, whether with names and shapes or a fingerprint."""
    size = sum(p.numel() for p in net.parameters())
    allowed = max(size, weights_allowed(data))
    return decode(data, max_weights=allowed, architecture=architecture(net))


def architecture(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all that a file of the network holds: parameters and saved buffers."""
    return {name: tuple(tensor.shape) for name, tensor in _tensors_in_file(net).items()}


@torch.no_grad()
def fill(net: nn.Module, tensors: dict[str, np.ndarray]) -> None:
    """Write the arrays into the network's parameters and buffers of the same names."""
    own = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    unknown = [name for name in tensors if name not in own]
    missing = sorted(_tensors_in_file(net).keys() - tensors.keys())
    if unknown or missing:
        raise ValueError(
            f"the file is of another network: it has {_listed(unknown)} that the network lacks, "
            f"and lacks {_listed(missing)}"
        )
    for name, array in tensors.items():
        if tuple(array.shape) != tuple(own[name].shape):
            raise ValueError(
                f"{name!r} has shape {array.shape} in the file and {tuple(own[name].shape)} "
                "in the network; give the network that was compressed"
            )
        own[name].copy_(torch.from_numpy(np.array(array)))


def _tensors_in_file(net: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters, tied ones once, and saved buffers."""
    saved = net.state_dict().keys()
    buffers = {name: tensor for name, tensor in net.named_buffers() if name in saved}
    return {**dict(net.named_parameters()), **buffers}


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "no tensor"


def tensors_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the network's parameters and buffers by name, on the CPU: shared ones once."""
    own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in own.items()}
