"""Posteriors as safetensors: the fitted one whole, the packed one as far as it differs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from pyro_sws.files import UNREADABLE
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.posterior_tensors import from_tensors, to_tensors


def posterior_bytes(posterior: Posterior) -> bytes:
    """The file's content."""
    return save(*to_tensors(posterior))


def packed_bytes(packed: Posterior, fitted: Posterior) -> bytes:
    """The content of a file beside the fitted posterior's: without the tensors that are its own."""
    tensors, metadata = to_tensors(packed)
    there, _ = to_tensors(fitted)
    own = {n: t for n, t in tensors.items() if n not in there or not _same(t, there[n])}
    return save(own, metadata)


def read_posteriors(fitted: Path, packed: Path) -> tuple[Posterior, Posterior]:
    """Both from their files, on the CPU. Raises ValueError that names the file for damaged ones."""
    tensors, metadata = read_tensors(fitted)
    own, packed_metadata = read_tensors(packed)
    return _posterior(fitted, tensors, metadata), _posterior(
        packed, {**tensors, **own}, packed_metadata
    )


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """A safetensors file's tensors and metadata. Raises ValueError for a damaged one."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        with safe_open(path, "pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path}: {reason}") from None


def _posterior(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Posterior:
    try:
        return from_tensors(tensors, metadata)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)
