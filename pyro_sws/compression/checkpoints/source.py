"""Where a checkpoint's tensors are: one safetensors file, a folder of shards, or a mapping.

Headers are read at once, and all that they show to be wrong is said then; tensors one at a time.
"""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from pyro_sws.codec.coders import MOST_WEIGHTS
from pyro_sws.codec.wire import MAX_NDIM
from pyro_sws.files import UNREADABLE, read_json

INDEX = "model.safetensors.index.json"
FLOATS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
# As safetensors name them -> as torch does.
DTYPES = FLOATS | {
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8", "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "BOOL": "bool",
}  # fmt: skip
RESERVED = "__metadata__"
BLOCK = 1 << 24  # bytes that are looked at at once


@dataclass(frozen=True)
class Stored:
    """A tensor as a header tells of it."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # as torch names it
    file: str | None  # None: of a mapping

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def coded(self) -> bool:
        """Whether it becomes symbols: floats of two dimensions or more. Others are raw."""
        return self.dtype in FLOATS.values() and len(self.shape) > 1 and self.size > 0

    def __str__(self) -> str:
        return f"tensor {self.name!r}" + ("" if self.file is None else f" in {self.file}")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, in order; ``given`` holds those of a mapping."""

    stored: tuple[Stored, ...]
    given: Mapping[str, Tensor] | None = None

    @property
    def size(self) -> int:
        return sum(each.size for each in self.stored)

    def read(self, stored: Stored) -> Tensor:
        """The tensor, on the CPU."""
        return read(stored) if self.given is None else self.given[stored.name].detach().cpu()


def checkpoint(source: str | os.PathLike | Mapping[str, Tensor]) -> Checkpoint:
    """A file, a folder of shards, or a mapping, its tensors unread.

    Raises:
        OSError: for a file or shard that is missing.
        ValueError: for a file that is no safetensors file, a name that is there twice, and a
            tensor that no file holds.
        TypeError: for what is no checkpoint.
    """
    if isinstance(source, Mapping):
        found = Checkpoint(tuple(_of_mapping(source)), source)
    elif isinstance(source, str | os.PathLike):
        found = Checkpoint(tuple(_of_files(_files(Path(source)))))
    else:
        raise TypeError(
            "source must be a .safetensors file, a folder of them, or tensors by name, got "
            f"{type(source).__name__}"
        )
    if not found.stored:
        raise ValueError(f"{'source' if found.given is not None else source} has no tensors")
    for each in found.stored:
        _check(each)
    return found


def read(stored: Stored) -> Tensor:
    """The tensor of a file. Raises ValueError where there is none, or not as the header told."""
    assert stored.file is not None
    try:
        with safe_open(stored.file, "pt") as file:
            tensor = file.get_tensor(stored.name)
    except UNREADABLE as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{stored} cannot be read: {reason}") from None
    if tuple(tensor.shape) != stored.shape or tensor.dtype != getattr(torch, stored.dtype):
        raise ValueError(f"{stored} has changed while it was read")
    return tensor


def digest(tensor: Tensor, stored: Stored) -> bytes:
    """16 bytes that tell the tensor's dtype, shape and content from any other's.

    Raises ValueError for a tensor that is to be coded and has a NaN or inf.
    """
    seen = hashlib.blake2b(repr((stored.dtype, stored.shape)).encode(), digest_size=16)
    flat = tensor.reshape(-1)
    for part in flat.split(max(1, BLOCK // flat.element_size())):
        if stored.coded:
            check_usable(part, stored)
        seen.update(part.contiguous().view(torch.uint8).numpy().data)
    return seen.digest()


def check_usable(weights: Tensor, stored: Stored) -> None:
    """Raise ValueError for NaN and inf; -inf is what a mask of attention has where it hides."""
    odd = weights[weights.isnan() | (weights == math.inf)]
    if len(odd):
        raise ValueError(f"{stored} holds {float(odd[0])}; weights must be finite: mend it first")


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        if not source.exists():
            raise FileNotFoundError(f"there is no {source}; give a .safetensors file or a folder")
        return [source]
    if not (source / INDEX).exists():
        if shards := sorted(source.glob("*.safetensors")):
            return shards
        raise FileNotFoundError(f"{source} has no .safetensors files, and no {INDEX}")
    return _shards(source, read_json(source / INDEX))


def _shards(source: Path, index: object) -> list[Path]:
    """The files that an index names. Raises where one, or a tensor in it, is missing."""
    where = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(where, dict) or not all(isinstance(v, str) for v in where.values()):
        raise ValueError(f"{source / INDEX} has no weight_map from names of tensors to files")
    for name in where.values():
        if Path(name).name != name or name in ("", ".."):  # an index may come from a stranger
            raise ValueError(f"{source / INDEX} names {name!r}, which is no file of its folder")
    shards = [source / name for name in sorted(set(where.values()))]
    for shard in shards:
        if not shard.exists():
            raise FileNotFoundError(f"{source / INDEX} names {shard.name}, which is missing")
    inside = {shard.name: set(_names(shard)) for shard in shards}
    for name, shard_name in where.items():
        if name not in inside[shard_name]:
            raise ValueError(f"{source / shard_name} has no {name!r}, which {INDEX} says it has")
    return shards


def _names(file: Path) -> list[str]:
    return [each.name for each in _of_file(file)]


def _of_files(files: Sequence[Path]) -> Iterator[Stored]:
    first: dict[str, Path] = {}
    for file in files:
        for stored in _of_file(file):
            if stored.name in first:
                raise ValueError(
                    f"tensor {stored.name!r} is in {first[stored.name]} and in {file}; a "
                    "checkpoint has each once"
                )
            first[stored.name] = file
            yield stored


def _of_file(file: Path) -> Iterator[Stored]:
    try:
        with safe_open(str(file), "pt") as opened:
            for name in opened.keys():
                part = opened.get_slice(name)
                dtype = part.get_dtype()
                yield Stored(name, tuple(part.get_shape()), DTYPES.get(dtype, dtype), str(file))
    except UNREADABLE as error:
        raise ValueError(f"{file} is no safetensors file that can be read: {error}") from None


def _of_mapping(source: Mapping[str, Tensor]) -> Iterator[Stored]:
    for name, tensor in source.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise TypeError(
                f"source[{name!r}] is of {type(tensor).__name__}; give tensors by their names"
            )
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise ValueError(f"source[{name!r}] is sparse, or has no values; give a dense tensor")
        yield Stored(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), None)


def _check(stored: Stored) -> None:
    """Raise ValueError for a tensor that no file holds."""
    if stored.name == RESERVED:
        raise ValueError(f"a tensor is named {RESERVED!r}, which safetensors keeps; rename it")
    if stored.dtype not in DTYPES.values():
        known = ", ".join(DTYPES.values())
        raise ValueError(
            f"{stored} is of dtype {stored.dtype}; a file holds {known}: convert it, such as to "
            "bfloat16"
        )
    if len(stored.shape) > MAX_NDIM:
        raise ValueError(f"{stored} has {len(stored.shape)} dimensions; at most {MAX_NDIM} go")
    if stored.size > MOST_WEIGHTS:
        raise ValueError(
            f"{stored} has {stored.size} elements; a file holds tensors of up to {MOST_WEIGHTS}"
        )
