"""A .sws file back into a safetensors file, tensor by tensor, in the dtypes that they had."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from pyro_sws.codec.container import (
    FormatError,
    Layout,
    decode,
    decode_parts,
    has_fingerprint,
    inspect,
    inspect_parts,
)
from pyro_sws.codec.envelope import Table, is_envelope, read_table
from pyro_sws.codec.loops import expecting
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.checkpoints.part import DECISIONS
from pyro_sws.compression.checkpoints.source import DTYPES, RESERVED
from pyro_sws.files import check_apart, check_place, open_whole
from pyro_sws.inference.plain_numbers import count
from pyro_sws.inference.progress import Callback, Progress, check_callback, ignore

NAMES = {torch_name: name for name, torch_name in DTYPES.items()}  # as safetensors have them
ALIGNED = 8  # bytes: so that readers can map the values into memory


def expand(
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    max_weights: int | None = None,
    callback: Callback | None = None,
) -> None:
    """Write a .sws file's tensors as safetensors, in the dtypes that they had before ``shrink``.

    Files of networks (formats 1 to 4) say nothing of that: their weights are float32, or float64.
    A checkpoint is read and written part by part, never the whole.

    Args:
        source: the .sws file, of a stranger too: whatever its bytes are.
        out: the file to write, which is there only when it is whole.
        max_weights: the most weights that are decoded; by default as of ``decode``.
        callback: is told of each part, of the stage "expand", in weights.

    Raises:
        FormatError: for what is no well-formed .sws file within the limit.
        ValueError: for a file with a fingerprint in place of names, and an ``out`` that is it.
        OSError: for files and folders that are missing.
    """
    check_callback(callback)
    if max_weights is not None:
        max_weights = count("max_weights", max_weights)
    check_apart(check_place(out), [source])
    with open(source, "rb") as file:
        try:
            opened = _opened(file)
            with open_whole(out) as written, expecting(DECISIONS * opened.size):
                _write(written, opened, max_weights, callback or ignore)
        except ValueError as error:  # a FormatError stays one
            raise type(error)(f"{source}: {error}") from None


@dataclass(frozen=True, eq=False)
class _Opened:
    """A file whose headers are read."""

    file: BinaryIO
    table: Table | None  # None: a file of one network
    layouts: tuple[Layout, ...]  # of its parts
    dtypes: Mapping[str, str]  # of all tensors, as torch names them
    names: Mapping[str, tuple[str, ...]]  # tensor -> all that it is called

    @property
    def size(self) -> int:
        return sum(math.prod(t.shape) for each in self.layouts for t in each.tensors.values())

    def parts(self, max_weights: int | None) -> Iterator[Quantized]:
        if self.table is not None:
            return decode_parts(self.file, self.table, max_weights)
        self.file.seek(0)
        return iter([decode(self.file.read(), max_weights)])


def _opened(file: BinaryIO) -> _Opened:
    if not is_envelope(file.read(4)):
        file.seek(0)
        data = file.read()
        if has_fingerprint(data):
            raise ValueError("has a fingerprint in place of names; decode it with --recipe")
        layout = inspect(data)
        return _Opened(file, None, (layout,), _stored(layout), {n: (n,) for n in layout.tensors})
    table = read_table(file)
    layouts = tuple(inspect_parts(file, table))
    stored = [(name, dtype) for layout in layouts for name, dtype in _stored(layout).items()]
    told = [dtype for part in table.parts for dtype in part.dtypes]
    names = {name: [name] for name, _ in stored}
    for name, place in table.aliases.items():
        names[stored[place][0]].append(name)
    dtypes = {name: own or kept for (name, kept), own in zip(stored, told, strict=True)}
    every = {name: tuple(each) for name, each in names.items()}
    return _Opened(file, table, layouts, dtypes, every)


def _stored(layout: Layout) -> dict[str, str]:
    """The dtypes of the values that ``dequantize`` and ``raw`` give."""
    single = {True: "float32", False: "float64"}
    return {
        name: tensor.dtype if tensor.codebook is None else single[tensor.dtype != "float64"]
        for name, tensor in layout.tensors.items()
    }


def _write(out: BinaryIO, opened: _Opened, max_weights: int | None, tell: Callback) -> None:
    """A header of JSON after its length, then all values: as safetensors say, in their order."""
    sizes = {n: math.prod(t.shape) for each in opened.layouts for n, t in each.tensors.items()}
    out.write(_header(opened, sizes))
    done = 0
    for part in opened.parts(max_weights):
        for name, values in part.tensors().items():
            content = _bytes(name, values, opened.dtypes[name])
            for _ in opened.names[name]:
                out.write(content)
        done += part.size + sum(values.size for values in part.raw.values())
        tell(Progress("expand", done, opened.size))


def _header(opened: _Opened, sizes: Mapping[str, int]) -> bytes:
    told, start = {}, 0
    if RESERVED in chain(*opened.names.values()):
        raise ValueError(f"a tensor is named {RESERVED!r}, which safetensors keeps for itself")
    for layout in opened.layouts:
        for name, tensor in layout.tensors.items():
            dtype = opened.dtypes[name]
            length = sizes[name] * getattr(torch, dtype).itemsize
            for each in opened.names[name]:
                offsets = [start, start + length]
                shape = list(tensor.shape)
                told[each] = {"dtype": NAMES[dtype], "shape": shape, "data_offsets": offsets}
                start += length
    header = json.dumps(told, separators=(",", ":")).encode()
    header += b" " * (-len(header) % ALIGNED)
    return len(header).to_bytes(8, "little") + header


def _bytes(name: str, values: np.ndarray, dtype: str) -> bytes:
    tensor = torch.from_numpy(np.array(values))
    own: Tensor = tensor.to(getattr(torch, dtype))
    if own.is_floating_point() and (tensor.isfinite() & ~own.isfinite()).any():
        raise FormatError(f"{name!r} has values that {dtype} does not hold")
    flat = own.reshape(-1).clone(memory_format=torch.contiguous_format)  # of one value strides vary
    return flat.view(torch.uint8).numpy().tobytes()
