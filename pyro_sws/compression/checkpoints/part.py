"""A part of a checkpoint's file: some tensors on their grids, encoded; and what is told of them."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pyro_sws.codec import order0
from pyro_sws.codec.container import encode, ordered
from pyro_sws.codec.header import raw_codings
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.checkpoints.source import FLOATS, Stored
from pyro_sws.compression.post_training.without_data import OnGrid, on_grid
from pyro_sws.weights.raw import in_half

METHOD = 2  # raised whenever the same tensor and tolerance give other bytes
DECISIONS = 4  # of the coder, about, that a weight takes, which otherwise is mostly zero: one
TOGETHER = 1 << 20  # weights of a part at least, where there are so many: of small tensors several


@dataclass(frozen=True)
class Unit:
    """Tensors of one part, and a key that tells the part from those of any others."""

    stored: tuple[Stored, ...]
    key: str

    @property
    def size(self) -> int:
        return sum(each.size for each in self.stored)


@dataclass(frozen=True)
class ShrunkTensor:
    """What became of one tensor."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # that it had, and has again
    bits: float  # in the file, an element; of those that share a part, by their entropies
    relative_error: float  # ||dw||^2 / ||w||^2 of what comes back
    seconds: float  # of its part's, its share by elements


@dataclass(frozen=True, eq=False)
class Made:
    """A part's bytes, the dtypes that its tensors are to have again, and a row for each."""

    data: bytes
    order: tuple[str, ...]  # of the tensors in the file
    dtypes: tuple[str | None, ...]  # of those; None: as stored
    rows: tuple[ShrunkTensor, ...]

    def notes(self) -> str:
        """All but the bytes, as JSON."""
        told = {"order": self.order, "dtypes": self.dtypes}
        return json.dumps(told | {"rows": [asdict(row) for row in self.rows]})


@dataclass(frozen=True, eq=False)
class Kept:
    """Tensors as a file has them, and what that cost."""

    quantized: Quantized
    errors: Mapping[str, float]  # ||dw||^2 / ||w||^2, by tensor
    dtypes: Mapping[str, str]  # those that the tensors had, by tensor


def units(stored: Sequence[Stored], digests: Mapping[str, bytes], how: object) -> list[Unit]:
    """All tensors in parts, in order: large ones alone, small ones with what follows.

    ``how``: all else that the bytes of a part depend on.
    """
    parts: list[list[Stored]] = []
    room = 0
    for each in stored:
        if each.size >= TOGETHER:
            parts.append([each])
            room = 0
            continue
        if room <= 0:
            parts.append([])
            room = TOGETHER
        parts[-1].append(each)
        room -= each.size
    return [Unit(tuple(part), _key(part, digests, how)) for part in parts]


def made(unit: Unit, tensors: Mapping[str, Tensor], tolerance: float) -> Made:
    """The unit's part. The same tensors and tolerance give the same bytes."""
    began = time.perf_counter()
    held = kept({each.name: tensors[each.name] for each in unit.stored if each.coded}, tolerance)
    held = with_raw(held, {each.name: tensors[each.name] for each in unit.stored if not each.coded})
    data = encode(held.quantized)
    rows = shrunk_tensors(held, len(data), time.perf_counter() - began)
    order = (*held.quantized.symbols, *held.quantized.raw)
    dtypes = tuple(_kept_dtype(held, name) for name in order)
    return Made(data, order, dtypes, tuple(rows[each.name] for each in unit.stored))


def kept(tensors: Mapping[str, Tensor], tolerance: float) -> Kept:
    """Tensors on grids of their own; as ``with_raw`` has them where a grid has no room for one."""
    grids = {name: on_grid(tensor, tolerance) for name, tensor in tensors.items()}
    found: dict[str, OnGrid] = {name: grid for name, grid in grids.items() if grid is not None}
    quantized = Quantized(
        {name: grid.symbols for name, grid in found.items()},
        {name: grid.codebook for name, grid in found.items()},
        {name: name for name in found},
        {},
        {name: np.array(grid.step) for name, grid in found.items()},
    )
    errors = {name: grid.relative_error for name, grid in found.items()}
    held = Kept(quantized, errors, {name: _dtype(tensors[name]) for name in found})
    return with_raw(held, {name: tensors[name] for name in grids if name not in found})


def with_raw(held: Kept, tensors: Mapping[str, Tensor]) -> Kept:
    """With these tensors, too: float16 where no value loses more than 2^-11, else as they are."""
    raw, errors = dict(held.quantized.raw), dict(held.errors)
    for name, tensor in tensors.items():
        values = as_array(tensor)
        wide = values.dtype.kind == "f" and values.itemsize > 2
        rounded = in_half(values) if wide else None
        raw[name] = values if rounded is None else rounded
        errors[name] = error_of(values, raw[name])
    dtypes = {**held.dtypes, **{name: _dtype(tensor) for name, tensor in tensors.items()}}
    return Kept(replace(held.quantized, raw=raw), errors, dtypes)


def as_array(tensor: Tensor) -> np.ndarray:
    """The values, exactly: numpy has no bfloat16, and float32 has all of its numbers."""
    given = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
    return np.array(given.numpy(), order="C")


def error_of(values: np.ndarray, stored: np.ndarray) -> float:
    """||stored - values||^2 / ||values||^2, of those that are finite."""
    if values is stored or values.dtype.kind != "f":
        return 0.0
    known = np.isfinite(values)
    wide = values[known].astype(np.float64)
    power = np.square(wide).sum()
    return float(np.square(stored[known] - wide).sum() / power) if power > 0 else 0.0


def shrunk_tensors(held: Kept, length: int, seconds: float) -> dict[str, ShrunkTensor]:
    """A row for each tensor of a file of so many bytes, which they share by what they hold."""
    quantized = held.quantized
    tensors = {**quantized.symbols, **quantized.raw}
    weight = dict.fromkeys(tensors, 1.0)
    if len(tensors) > 1:  # one alone has all of it, however large it is
        for name, symbols, plane in zip(quantized.symbols, *ordered(quantized), strict=True):
            counts = np.bincount(symbols.ravel(), minlength=plane.levels)
            weight[name] = 8 + order0.shorter(counts, plane.zero)[1]
        weight |= {name: 8.0 + 8 * taken for name, (_, taken) in raw_codings(quantized).items()}
    total, size = sum(weight.values()), sum(each.size for each in tensors.values())
    return {
        name: ShrunkTensor(
            name,
            values.shape,
            held.dtypes[name],
            8 * length * weight[name] / total / max(1, values.size),
            held.errors[name],
            seconds * values.size / max(1, size),
        )
        for name, values in tensors.items()
    }


def _kept_dtype(held: Kept, name: str) -> str | None:
    """What the table says of a tensor: nothing where its values have its dtype anyway."""
    stored = "float32" if name in held.quantized.symbols else held.quantized.raw[name].dtype.name
    own = held.dtypes[name]
    return None if own == stored or own not in FLOATS.values() else own


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _key(stored: Sequence[Stored], digests: Mapping[str, bytes], how: object) -> str:
    told = [(each.name, each.dtype, each.shape, digests[each.name].hex()) for each in stored]
    return hashlib.blake2b(repr((METHOD, how, told)).encode(), digest_size=16).hexdigest()
