"""A file's weights back into a network: a new module, the given one left as it is. Torch only."""

import os
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pyro_sws.codec.container import decode, weights_allowed
from pyro_sws.codec.symbols import Quantized
from pyro_sws.weights.around import added, base_of, fingerprint, saved_tensors
from pyro_sws.weights.network import check_values, copied, listed, plain


@torch.inference_mode(False)
def load(
    source: str | os.PathLike | bytes, into: nn.Module, base: nn.Module | None = None
) -> nn.Module:
    """A copy of ``into``, in eval mode, with the weights of a .sws file (a path or its bytes).

    A file of differences needs the ``base`` that it was made against, whose weights are added.

    The whole file is decoded, of a checkpoint, too: for one that is larger than memory see
    ``expand``. Where it or a part is wrapped (``torch.compile``, ``AveragedModel``,
    ``DataParallel``), the copy is of the module inside. Raises TypeError for what is no module,
    FormatError for a damaged file, ValueError where names or shapes are not the network's, and for
    another base than the file's, or none.
    """
    into = plain(into, "into")
    data = file_bytes(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _from_file(into, data, base)
    try:
        return _from_file(into, data, base)
    except ValueError as error:  # a FormatError stays one
        raise type(error)(f"{source}: {error}") from None


def file_bytes(source: str | os.PathLike | bytes) -> bytes:
    """The bytes of a .sws file, where its path is given. Raises OSError for none, and a folder."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(f"a .sws file is a path or bytes, got {type(source).__name__}")
    if Path(source).is_dir():
        raise IsADirectoryError(f"{source} is a folder; name the file in it, such as model.sws")
    return Path(source).read_bytes()


def _from_file(into: nn.Module, data: bytes, base: nn.Module | None) -> nn.Module:
    """A checkpoint may have all names of a tied tensor, as a state dict has."""
    stored = decode_for(into, data)
    tensors = first_names(into, stored.tensors())
    if base is not None and stored.base:
        if fingerprint(base) != stored.base:
            raise ValueError(
                f"the file is a difference to the base {stored.base.hex()}, and base= is "
                f"{fingerprint(base).hex()}; give the network that it was made against"
            )
        return loaded(into, added(tensors, base, into))
    if base is not None:
        raise ValueError("the file holds weights, not differences; leave base= out")
    if stored.base != base_of(into):
        raise ValueError(
            f"the file holds differences to a base, {stored.base.hex()}; give that network, base="
            if stored.base
            else "the file holds weights, and the network is one of differences; give a plain one"
        )
    return loaded(into, tensors)


def loaded(into: nn.Module, tensors: dict[str, np.ndarray]) -> nn.Module:
    """A copy of the network, in eval mode, that computes with these tensors.

    It is filled in train mode: modules that prepare their weights for eval mode do so anew. What no
    state dict has stays as it is, as with torch's own ``load_state_dict``: an unsaved buffer may be
    the weights of the beginning, which a centred network subtracts. Raises ValueError where names
    or shapes are not the network's, and where eval() changes the weights.
    """
    own = copied(plain(into, "into")).train()
    fill(own, tensors)
    own.eval()
    _check_filled(own, tensors)
    return own


def decode_for(net: nn.Module, data: bytes) -> Quantized:
    """What is in the file of a network, whether with names and shapes or a fingerprint."""
    net = plain(net)
    check_values(net)
    size = sum(p.numel() for p in net.parameters())
    allowed = max(size, weights_allowed(len(data)))
    return decode(data, max_weights=allowed, architecture=architecture(net))


def architecture(net: nn.Module) -> dict[str, tuple[int, ...]]:
    """Name -> shape of all that a file of the network holds: parameters and saved buffers."""
    return {name: tuple(tensor.shape) for name, tensor in saved_tensors(plain(net)).items()}


@torch.no_grad()
def fill(net: nn.Module, tensors: dict[str, np.ndarray]) -> None:
    """Write the arrays into the network's parameters and buffers of the same names."""
    own = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    unknown = [name for name in tensors if name not in own]
    missing = sorted(saved_tensors(net).keys() - tensors.keys())
    if unknown or missing:
        raise ValueError(
            f"the file is of another network: it has {_listed(unknown)} that the network lacks, "
            f"and lacks {_listed(missing)}{_prefixed(tensors, net)}"
        )
    for name, array in tensors.items():
        if tuple(array.shape) != tuple(own[name].shape):
            raise ValueError(
                f"{name!r} has shape {array.shape} in the file and {tuple(own[name].shape)} "
                "in the network; give the network that was compressed"
            )
        own[name].copy_(torch.from_numpy(np.array(array)))


def first_names(net: nn.Module, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a state dict, which names a tied tensor several times, each by its first name.

    Raises ValueError where a file has several values of what is one tensor.
    """
    own = {id(t): name for name, t in (*net.named_buffers(), *net.named_parameters())}
    every = (
        *net.named_buffers(remove_duplicate=False),
        *net.named_parameters(remove_duplicate=False),
    )
    first = {name: own[id(tensor)] for name, tensor in every}
    found: dict[str, np.ndarray] = {}
    for name, array in tensors.items():
        known = found.setdefault(first.get(name, name), array)
        if not np.array_equal(known, array, equal_nan=known.dtype.kind == "f"):
            raise ValueError(
                f"{name!r} and {first[name]!r} are one tensor in the network, and two in the file"
            )
    return found


def _prefixed(tensors: Collection[str], net: nn.Module) -> str:
    """A hint where all names of a file would be right without a prefix, as wrappers put one."""
    prefixes = {name.partition(".")[0] + "." for name in tensors}
    if len(prefixes) != 1 or not tensors:
        return ""
    (prefix,) = prefixes
    if {name.removeprefix(prefix) for name in tensors} != set(saved_tensors(net)):
        return ""
    return f"; its names are right without {prefix!r}, which a wrapper put there: leave that out"


def _check_filled(net: nn.Module, tensors: dict[str, np.ndarray]) -> None:
    own = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    for name, array in tensors.items():
        given = torch.from_numpy(np.array(array)).to(own[name].dtype)
        if not _equal(own[name].detach().cpu(), given):
            raise ValueError(
                f"the network's own eval() changed {name!r} after it was filled; give a network "
                "whose weights are not merged or folded"
            )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal, with NaN for NaN, as a buffer may have it."""
    if torch.equal(one, other) or not one.is_floating_point():
        return torch.equal(one, other)
    same = torch.equal(one.isnan(), other.isnan())
    return same and torch.equal(one[~one.isnan()], other[~other.isnan()])


def _listed(names: list[str]) -> str:
    return listed(names) if names else "no tensor"


def tensors_of(net: nn.Module) -> dict[str, torch.Tensor]:
    """Copies of the network's parameters and buffers by name, on the CPU: shared ones once."""
    net = plain(net)
    own = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in own.items()}
