"""The .sws file: header, codebooks, scales, raw tensors, one coded payload and a checksum.

``docs/format.md`` writes the format down byte by byte. A change of bytes is a new version.
"""

import math
import zlib
from collections import Counter
from collections.abc import Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pyro_sws.codec.arithmetic import Decoder, Encoder
from pyro_sws.codec.coders import CODERS
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.symbols import MAX_LEVELS, Quantized, zero_symbol
from pyro_sws.codec.wire import MAX_NDIM, MAX_SIZE, Reader, Writer, dtype_code, span

__all__ = ["FORMAT_VERSION", "FormatError", "Layout", "StoredTensor", "decode", "encode", "inspect"]

MAGIC = b"SWS"
FORMAT_VERSION = 1
MAX_WEIGHTS = 100_000_000  # what decode allows unless told otherwise
PARTS = ("header", "codebooks", "scales", "symbols", "raw", "checksum")
SHORTEST = 13  # bytes of a file without tensors


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a file announces it; ``codebook`` is None for a raw one."""

    shape: tuple[int, ...]
    dtype: str  # of the stored values: the codebook's, or the raw tensor's
    codebook: str | None = None
    scale_shape: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """What is in a file, without its payload decoded. ``bits`` by part sum to 8 times its bytes."""

    version: int
    coder: str
    codebooks: Mapping[str, np.ndarray]
    tensors: Mapping[str, StoredTensor]  # coded, then raw
    bits: Mapping[str, int]


def encode(quantized: Quantized, coder: str = "order0") -> bytes:
    """The file's bytes; the same value gives the same bytes.

    Raises ValueError for an unknown coder, or a tensor that the format cannot hold.
    """
    if coder not in CODERS:
        raise ValueError(f"unknown coder {coder!r}; choose from {', '.join(CODERS)}")
    out = Writer(MAGIC + bytes([FORMAT_VERSION, CODERS[coder].code]))
    _write_codebooks(out, quantized)
    _write_coded(out, quantized)
    _write_raw(out, quantized)
    out.blob(_payload(quantized, coder))
    return bytes(out.data) + _checksum(out.data)


def decode(data: bytes, max_weights: int = MAX_WEIGHTS) -> Quantized:
    """The value that was encoded, exactly.

    Raises FormatError, and nothing else, for bytes that are not a well-formed file, or one with
    more than ``max_weights`` coded weights: a few bytes can stand for any number of zeros.
    """
    parsed = _parse(data)
    size = sum(math.prod(tensor.shape) for tensor in parsed.coded.values())
    if size > max_weights:
        raise FormatError(f"the file has {size} weights; max_weights allows {max_weights}")
    stream, coder = Decoder(parsed.payload), CODERS[parsed.coder]
    symbols, codebook_of = {}, {}
    for name, tensor in parsed.coded.items():
        assert tensor.codebook is not None
        book = parsed.codebooks[tensor.codebook]
        codebook_of[name] = tensor.codebook
        symbols[name] = coder.decode(stream, tensor.shape, len(book), zero_symbol(book))
    stream.finish()
    try:
        return Quantized(symbols, parsed.codebooks, codebook_of, parsed.raw, parsed.scales)
    except ValueError as error:
        raise FormatError(f"damaged .sws file: {error}") from None


def inspect(data: bytes) -> Layout:
    """What a file holds and where its bits go. Raises FormatError where it is not well-formed."""
    parsed = _parse(data)
    raw = {name: StoredTensor(a.shape, a.dtype.name) for name, a in parsed.raw.items()}
    return Layout(
        version=data[len(MAGIC)],
        coder=parsed.coder,
        codebooks=MappingProxyType(parsed.codebooks),
        tensors=MappingProxyType({**parsed.coded, **raw}),
        bits=MappingProxyType({part: 8 * parsed.bytes[part] for part in PARTS}),
    )


@dataclass(frozen=True)
class _Parsed:
    coder: str
    codebooks: dict[str, np.ndarray]
    coded: dict[str, StoredTensor]
    scales: dict[str, np.ndarray]
    raw: dict[str, np.ndarray]
    payload: bytes
    bytes: Counter[str]  # by part


def _write_codebooks(out: Writer, quantized: Quantized) -> None:
    out.varint(len(quantized.codebooks))
    for name, values in quantized.codebooks.items():
        out.name(name)
        out.byte(dtype_code(values.dtype))
        out.varint(len(values))
        out.values(values)


def _write_coded(out: Writer, quantized: Quantized) -> None:
    order = list(quantized.codebooks)
    out.varint(len(quantized.symbols))
    for name, symbols in quantized.symbols.items():
        _check_shape(name, symbols.shape)
        scale = quantized.scales.get(name)
        out.name(name)
        # The low half is the number of dimensions, the high half 0 or 1 + the scale's dtype code.
        out.byte(symbols.ndim + 16 * (0 if scale is None else 1 + dtype_code(scale.dtype)))
        out.dims(symbols.shape)
        if len(order) > 1:
            out.varint(order.index(quantized.codebook_of[name]))
        if scale is not None:
            out.byte(scale.ndim)
            out.dims(scale.shape)
            out.values(scale)


def _write_raw(out: Writer, quantized: Quantized) -> None:
    out.varint(len(quantized.raw))
    for name, values in quantized.raw.items():
        _check_shape(name, values.shape)
        out.name(name)
        out.byte(values.ndim + 16 * dtype_code(values.dtype))
        out.dims(values.shape)
        out.values(values)


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) > MAX_NDIM:
        raise ValueError(f"{name!r} has {len(shape)} dimensions; a file holds up to {MAX_NDIM}")
    if span(shape) > MAX_SIZE:
        raise ValueError(f"{name!r} has shape {shape}; a file holds up to {MAX_SIZE} elements")


def _payload(quantized: Quantized, coder: str) -> bytes:
    stream = Encoder()
    for name, symbols in quantized.symbols.items():
        book = quantized.codebooks[quantized.codebook_of[name]]
        CODERS[coder].encode(stream, symbols, len(book), zero_symbol(book))
    return stream.finish()


def _checksum(data: bytes | bytearray) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _parse(data: bytes) -> _Parsed:
    """Everything but the payload's symbols, checked."""
    data = bytes(data)
    _check_envelope(data)
    reader = Reader(data[:-4])
    reader.take(len(MAGIC) + 1)
    coder = _read_coder(reader)
    sizes = Counter(checksum=4)
    codebooks = _read_codebooks(reader, sizes)
    coded, scales = _read_coded(reader, codebooks, sizes)
    raw = _read_raw(reader, coded, sizes)
    payload = reader.take(reader.varint())
    if reader.left:
        reader.fail(f"{reader.left} bytes follow the payload that belong to nothing")
    sizes["symbols"] = len(payload)
    sizes["header"] = len(data) - sizes.total()
    return _Parsed(coder, codebooks, coded, scales, raw, payload, sizes)


def _check_envelope(data: bytes) -> None:
    if data[: len(MAGIC)] != MAGIC:
        raise FormatError(f"not a .sws file: starts with {data[:8]!r}, not {MAGIC!r}")
    if len(data) < SHORTEST:
        raise FormatError(f"the .sws file is truncated: {len(data)} bytes, at least {SHORTEST}")
    version = data[len(MAGIC)]
    if not 1 <= version <= FORMAT_VERSION:
        raise FormatError(f"file is format {version}; this build reads up to {FORMAT_VERSION}")
    if _checksum(data[:-4]) != data[-4:]:
        raise FormatError("the .sws file is altered or truncated: its checksum does not match")


def _read_coder(reader: Reader) -> str:
    code = reader.byte()
    names = {coder.code: name for name, coder in CODERS.items()}
    if code not in names:
        reader.fail(f"unknown coder {code}; this build knows {', '.join(map(str, sorted(names)))}")
    return names[code]


def _read_codebooks(reader: Reader, sizes: Counter[str]) -> dict[str, np.ndarray]:
    """Whole codebooks count as such, names too; only their number is header."""
    books: dict[str, np.ndarray] = {}
    count, start = reader.count("codebooks"), reader.position
    for _ in range(count):
        name = _new_name(reader, "codebook", books)
        dtype = reader.dtype(reader.byte())
        levels = reader.varint()
        if dtype.kind != "f" or levels > MAX_LEVELS:
            reader.fail(f"the codebook {name!r} has {levels} values of {dtype.name}")
        books[name] = reader.values(dtype, (levels,))
    sizes["codebooks"] = reader.position - start
    return books


def _read_coded(
    reader: Reader, books: dict[str, np.ndarray], sizes: Counter[str]
) -> tuple[dict[str, StoredTensor], dict[str, np.ndarray]]:
    coded: dict[str, StoredTensor] = {}
    scales: dict[str, np.ndarray] = {}
    order = list(books)
    for _ in range(reader.count("tensors")):
        name = _new_name(reader, "tensor", coded)
        kind = reader.byte()
        shape = reader.dims(kind % 16)
        index = reader.varint() if len(order) != 1 else 0
        if index >= len(order):
            reader.fail(f"{name!r} has codebook {index} of {len(order)}")
        scale_shape = None
        if kind >= 16:
            start, dtype = reader.position, reader.dtype(kind // 16 - 1)
            scale_shape = reader.dims(reader.byte())
            scales[name] = reader.values(dtype, scale_shape)
            sizes["scales"] += reader.position - start
        coded[name] = StoredTensor(shape, books[order[index]].dtype.name, order[index], scale_shape)
    return coded, scales


def _read_raw(
    reader: Reader, coded: dict[str, StoredTensor], sizes: Counter[str]
) -> dict[str, np.ndarray]:
    """Values count as raw; names and shapes are header."""
    raw: dict[str, np.ndarray] = {}
    taken = set(coded)
    for _ in range(reader.count("raw tensors")):
        name = _new_name(reader, "tensor", taken)
        taken.add(name)
        kind = reader.byte()
        shape = reader.dims(kind % 16)
        start = reader.position
        raw[name] = reader.values(reader.dtype(kind // 16), shape)
        sizes["raw"] += reader.position - start
    return raw


def _new_name(reader: Reader, what: str, taken: Container[str]) -> str:
    name = reader.name(what)
    if name in taken:
        reader.fail(f"the {what} {name!r} is there twice")
    return name
