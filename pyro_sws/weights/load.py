"""A file's weights back into a network: a new module, the given one left as it is. Torch only."""

import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pyro_sws.codec.container import decode, weights_allowed
from pyro_sws.codec.symbols import Quantized
from pyro_sws.weights.network import check_values, copied, named_held, plain


@torch.inference_mode(False)
def load(source: str | os.PathLike | bytes, into: nn.Module) -> nn.Module:
    """A copy of ``into``, in eval mode, with the weights of a .sws file (a path or its bytes).

    Where ``into`` is wrapped whole (``torch.compile``, ``AveragedModel``, ``DataParallel``), the
    copy is of the module inside. Raises TypeError for what is no module, FormatError for a damaged
    file, ValueError where names or shapes are not the network's.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return loaded(into, decode_for(into, bytes(source)).tensors())
    try:
        return loaded(into, decode_for(into, Path(source).read_bytes()).tensors())
    except ValueError as error:  # a FormatError stays one
        raise type(error)(f"{source}: {error}") from None


def loaded(into: nn.Module, tensors: dict[str, np.ndarray]) -> nn.Module:
    """A copy of the network, in eval mode, that computes with these tensors.

    It is filled in train mode: modules that prepare their weights for eval mode do so anew. Raises
    ValueError where names or shapes are not the network's, and where it keeps its old weights.
    """
    own = copied(plain(into, "into")).train()
    before = _copies_of_weights(own)
    fill(own, tensors)
    own.eval()
    _check_filled(own, tensors, before)
    return own


def decode_for(net: nn.Module, data: bytes) -> Quantized:
    """What is in the file of a network, whether with names and shapes or a fingerprint."""
    net = plain(net)
    check_values(net)
    size = sum(p.numel() for p in net.parameters())
    allowed = max(size, weights_allowed(data))
    return decode(data, max_weights=allowed, architecture=architecture(net))


def architecture(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all that a file of the network holds: parameters and saved buffers."""
    return {name: tuple(tensor.shape) for name, tensor in _tensors_in_file(plain(net)).items()}


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


def _copies_of_weights(net: nn.Module) -> list[tuple[str, torch.Tensor, str]]:
    """Attributes that hold a copy of a parameter of their module: where, the copy, whose it is."""
    found = []
    for prefix, module in net.named_modules():
        own = dict(module.named_parameters())
        for where, held in named_held(module):
            for name, p in own.items():
                if held.is_floating_point() and p.is_floating_point() and _permuted(held, p):
                    path = f"{prefix}.{name}".removeprefix(".")
                    found.append((f"{prefix}.{where}".removeprefix("."), held, path))
    return found


def _permuted(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether they hold the same values in any order, as a transposed copy does."""
    if one.numel() != other.numel() or one.numel() < 2:
        return False
    first, second = (t.detach().reshape(-1).cpu().double().sort().values for t in (one, other))
    return torch.equal(first, second)


def _check_filled(
    net: nn.Module,
    tensors: dict[str, np.ndarray],
    copies: list[tuple[str, torch.Tensor, str]],
) -> None:
    own = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    for name, array in tensors.items():
        if not torch.equal(own[name].cpu(), torch.from_numpy(np.array(array)).to(own[name].dtype)):
            raise ValueError(
                f"the network's own eval() changed {name!r} after it was filled; give a network "
                "whose weights are not merged or folded"
            )
    held = {where: tensor for where, tensor in named_held(net)}
    for where, copy_, name in copies:
        if held.get(where) is copy_ and not _permuted(copy_, own[name]):
            raise ValueError(
                f"the network keeps a copy of its old {name!r} in {where!r}, which filling it does "
                "not change; give a network that has not prepared it yet"
            )


def _listed(names: list[str]) -> str:
    return ", ".join(names) if names else "no tensor"


def tensors_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the network's parameters and buffers by name, on the CPU: shared ones once."""
    own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in own.items()}
