"""A network as its differences to a base of the same form: the weights that a file has. Torch.

Under a prior of the differences a weight is spread around the base's own: a spike keeps it, a slab
moves it by one of few amounts.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyro_sws.weights.network import check_network, copied, listed, plain

FINGERPRINT = 8  # bytes: of two bases that meet by chance there is one in 10^19


class _Around:
    """What the class of a network of differences has more than the network's own."""

    base_fingerprint: bytes

    def forward(self, *arguments: Any, **more: Any) -> Any:
        raise NotImplementedError  # each such class has its own


def around(net: nn.Module, base: nn.Module) -> nn.Module:
    """A copy of ``net`` whose tensors are the differences to those of ``base``, which it adds.

    It computes what ``net`` does, to rounding. Its parameters and saved buffers, of the same names,
    are those of ``net`` less those of ``base``; unsaved buffers stay as they are. Raises ValueError
    where names or shapes of the two are not the same, TypeError for what is no module.
    """
    net, base = plain(net), plain(base, "base")
    check_network(net)
    check_network(base)
    _check_form(net, base)
    theirs = {name: tensor.clone() for name, tensor in saved_tensors(base).items()}
    template, own = copied(net).requires_grad_(False), copied(net)
    with torch.no_grad():
        for name, tensor in saved_tensors(own).items():
            if _is_number(tensor):
                tensor.sub_(theirs[name].to(tensor))
    original = type(own)

    def forward(self, *arguments: Any, **more: Any) -> Any:
        tensors = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        for name, tensor in tensors.items():
            if name in theirs and _is_number(tensor):
                tensors[name] = tensor + theirs[name].to(device=tensor.device, dtype=tensor.dtype)
        return functional_call(template, tensors, arguments, more)

    fields = {"forward": forward, "base_fingerprint": fingerprint(base), "__module__": __name__}
    own.__class__ = type(original.__name__, (_Around, original), fields)
    return own.train(net.training)


def base_of(net: nn.Module) -> bytes:
    """The fingerprint of the base that a network's tensors are differences to; b"" for none."""
    return net.base_fingerprint if isinstance(net, _Around) else b""


def fingerprint(base: nn.Module) -> bytes:
    """Of names, shapes and values of all that a file of the network holds."""
    seen = hashlib.blake2b(digest_size=FINGERPRINT)
    for name, tensor in sorted(saved_tensors(plain(base, "base")).items()):
        array = _as_array(tensor)
        seen.update(repr((name, array.dtype.str, array.shape)).encode())
        seen.update(np.ascontiguousarray(array).data)
    return seen.digest()


def added(
    tensors: Mapping[str, np.ndarray], base: nn.Module, like: nn.Module
) -> dict[str, np.ndarray]:
    """The differences of a file on the base's tensors, as a network of differences adds them.

    ``like`` says in which dtypes. Raises ValueError where names or shapes are not the base's.
    """
    own, kinds = saved_tensors(plain(base, "base")), saved_tensors(plain(like))
    if tensors.keys() != own.keys():
        odd = sorted(tensors.keys() ^ own.keys())
        raise ValueError(f"file and base differ in their tensors: {listed(odd)} is in one only")
    found = {}
    for name, array in tensors.items():
        given, dtype = torch.from_numpy(np.array(array)), kinds[name].dtype
        if tuple(given.shape) != tuple(own[name].shape):
            raise ValueError(
                f"{name!r} has shape {tuple(given.shape)} in the file and {tuple(own[name].shape)} "
                "in the base"
            )
        if _is_number(own[name]):
            given = given.to(dtype) + own[name].cpu().to(dtype)
        found[name] = _as_array(given)
    return found


def saved_tensors(net: nn.Module) -> dict[str, Tensor]:
    """Parameters, tied ones once, and saved buffers: what a file holds."""
    saved = net.state_dict().keys()
    buffers = {name: tensor for name, tensor in net.named_buffers() if name in saved}
    own = {**dict(net.named_parameters()), **buffers}
    return {name: tensor.detach() for name, tensor in own.items()}


def _check_form(net: nn.Module, base: nn.Module) -> None:
    ours, theirs = saved_tensors(net), saved_tensors(base)
    if odd := sorted(ours.keys() ^ theirs.keys()):
        raise ValueError(
            f"net and base do not have the same tensors: {listed(odd)} is in one only; a base is a "
            "network of the same form"
        )
    for name, tensor in ours.items():
        if tensor.shape != theirs[name].shape:
            raise ValueError(
                f"{name!r} has shape {tuple(tensor.shape)} in net and "
                f"{tuple(theirs[name].shape)} in base"
            )


def _is_number(tensor: Tensor) -> bool:
    """Whether it is added to; a mask of booleans is a value of its own."""
    return tensor.dtype != torch.bool


def _as_array(tensor: Tensor) -> np.ndarray:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
