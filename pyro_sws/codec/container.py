"""The .sws file: a header, one coded payload of codebooks and symbols, and a checksum; or several.

``docs/format.md`` writes the format down byte by byte. A change of bytes is a new version.
"""

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from types import MappingProxyType
from typing import BinaryIO

import numpy as np

from pyro_sws.codec import format1
from pyro_sws.codec.codebooks import code_codebook
from pyro_sws.codec.coders import CODERS, EXPECTING, Adaptive, Plane, dense, read_tensors
from pyro_sws.codec.differences import (
    DIFFERENCE,
    as_difference,
    is_difference,
    read_difference,
)
from pyro_sws.codec.envelope import CRC, ENVELOPE, Table, is_envelope, read_part, read_table
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.header import Architecture, Header, read_header, version_of, write_header
from pyro_sws.codec.loops import loops
from pyro_sws.codec.merging import Met, merged, merged_books
from pyro_sws.codec.stream import Stream
from pyro_sws.codec.symbols import BASE, Quantized, zero_symbol
from pyro_sws.codec.wire import Reader, Writer

__all__ = ["FORMAT_VERSION", "FormatError", "Layout", "StoredTensor", "decode", "encode", "inspect"]

MAGIC = b"SWS"
FORMAT_VERSION = 6
LARGEST = 4  # format of a network in one piece; 5 is an envelope of several, 6 of differences
CHOOSES_CONTEXTS = 4  # the first format with a coin for the contexts of what is expected
PARTS = ("header", "codebooks", "scales", "symbols", "raw", "checksum")
SHORTEST = 12  # bytes of a file without tensors
# What decode allows unless told otherwise: a few bytes can stand for any number of zeros.
WEIGHTS_FREE, WEIGHTS_PER_BYTE = 1 << 20, 1 << 12


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as a file announces it; ``codebook`` is None for a raw one."""

    shape: tuple[int, ...]
    dtype: str  # of the stored values: the codebook's, or the raw tensor's
    codebook: str | None = None
    scale_shape: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """What is in a file, its symbols not decoded. ``bits`` by part sum to 8 times its bytes."""

    version: int
    coder: str
    codebooks: Mapping[str, np.ndarray]
    tensors: Mapping[str, StoredTensor]  # coded, then raw
    bits: Mapping[str, int]
    base: bytes = b""  # of what the values are differences to


def encode(
    quantized: Quantized, coder: str = "context", architecture: Architecture | None = None
) -> bytes:
    """The file's bytes; the same value gives the same bytes.

    Args:
        quantized: what ``quantize`` or ``rewrite`` returned.
        coder: a name in CODERS.
        architecture: the shapes of a network's tensors by name. Where it is given, a fingerprint
            of it takes the place of names and shapes in the file.

    Raises:
        ValueError: for an unknown coder, and a tensor that the format or the architecture does not
            have.
    """
    if not isinstance(quantized, Quantized):
        kind = type(quantized).__name__
        raise TypeError(f"encode takes what quantize or rewrite returned, got {kind}")
    if coder not in CODERS:
        raise ValueError(f"unknown coder {coder!r}; choose from {', '.join(CODERS)}")
    if quantized.base:
        plain = encode(replace(quantized, base=b""), coder, architecture)
        return as_difference(plain, quantized.base)
    symbols = ordered(quantized)
    data = _file(quantized, symbols, CODERS[coder], version_of(quantized), architecture)
    if CODERS[coder].contexts and dense(*symbols):
        other = _file(quantized, symbols, EXPECTING, CHOOSES_CONTEXTS, architecture)
        return min(data, other, key=len)
    return data


def decode(
    data: bytes, max_weights: int | None = None, architecture: Architecture | None = None
) -> Quantized:
    """The value that was encoded, exactly; of a checkpoint all of its parts together.

    Args:
        data: the file's bytes.
        max_weights: the most coded weights that are decoded: by default 2^20, and 4,096 for each
            byte of the file. Those 2^20 take a fraction of a second with numba, up to a minute in
            plain Python; whoever reads files of strangers should set what is expected.
        architecture: the shapes of the network's tensors by name, for a file with a fingerprint.

    Raises:
        FormatError: for bytes that are not a well-formed file within the limit.
        ValueError: for a file with a fingerprint without the architecture that it was made for.
    """
    data = _as_bytes(data)
    if max_weights is None:
        max_weights = weights_allowed(len(data))
    if is_difference(data):
        data, base = read_difference(data)
        return replace(_decode(data, max_weights, architecture), base=base)
    if not is_envelope(data):
        return _decode(data, max_weights, architecture)
    file = BytesIO(data)
    table = read_table(file)
    return merged(list(decode_parts(file, table, max_weights)), table.aliases)


def decode_parts(
    file: BinaryIO, table: Table, max_weights: int | None = None
) -> Iterator[Quantized]:
    """The parts of a checkpoint, each decoded when it is asked for, and none of them kept.

    Args:
        file: of format 5.
        table: of it, as ``read_table`` gives it.
        max_weights: the most elements of all tensors, raw ones too, each as often as it has names;
            by default as of ``decode``.

    Raises FormatError for bytes that are not a well-formed file within the limit.
    """
    left = weights_allowed(table.size) if max_weights is None else max_weights
    met, repeats = Met.nothing(table), Counter(table.aliases.values())
    place = 0
    for part in table.parts:
        found = _decode(read_part(file, part), left)
        met.check(part, _stored_dtypes(found), found.codebooks)
        sizes = [each.size for each in (*found.symbols.values(), *found.raw.values())]
        left -= sum((1 + repeats[place + i]) * size for i, size in enumerate(sizes))
        if left < 0:
            raise FormatError("the file has more weights than max_weights allows")
        place += len(sizes)
        yield found


def _stored_dtypes(quantized: Quantized) -> dict[str, str]:
    """Of the values that a file has of each tensor."""
    books = {name: values.dtype.name for name, values in quantized.codebooks.items()}
    coded = {name: books[quantized.codebook_of[name]] for name in quantized.symbols}
    return coded | {name: values.dtype.name for name, values in quantized.raw.items()}


def _decode(data: bytes, max_weights: int, architecture: Architecture | None = None) -> Quantized:
    parsed = _parse(data, architecture, max_weights)
    header, books = parsed.header, parsed.codebooks
    try:
        if parsed.version == 1:
            symbols = format1.read_symbols(parsed.stream, header, books)
        else:
            symbols = _read_symbols(parsed, header, books)
        parsed.stream.finish()
        return Quantized(symbols, books, header.codebook_of, header.raw, header.scales)
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"damaged .sws file: {error}") from None


def inspect(data: bytes, architecture: Architecture | None = None) -> Layout:
    """What a file holds and where its bits go; raises what ``decode`` does."""
    data = _as_bytes(data)
    if is_difference(data):
        plain, base = read_difference(data)
        found = _inspect(plain, architecture)
        bits = {**found.bits, "header": found.bits["header"] + 8 * (len(data) - len(plain))}
        return replace(found, version=DIFFERENCE, base=base, bits=MappingProxyType(bits))
    return _inspect_all(BytesIO(data)) if is_envelope(data) else _inspect(data, architecture)


def inspect_parts(file: BinaryIO, table: Table) -> Iterator[Layout]:
    """The layouts of a checkpoint's parts; raises what ``decode_parts`` does."""
    met = Met.nothing(table)
    for part in table.parts:
        found = _inspect(read_part(file, part))
        met.check(
            part, {name: tensor.dtype for name, tensor in found.tensors.items()}, found.codebooks
        )
        yield found


def _inspect_all(file: BinaryIO) -> Layout:
    table = read_table(file)
    layouts = list(inspect_parts(file, table))
    books, called = merged_books([found.codebooks for found in layouts])
    tensors = {
        name: replace(tensor, codebook=own[tensor.codebook]) if tensor.codebook else tensor
        for found, own in zip(layouts, called, strict=True)
        for name, tensor in found.tensors.items()
    }
    order = list(tensors.values())
    tensors |= {name: order[place] for name, place in table.aliases.items()}
    bits = {part: sum(found.bits[part] for found in layouts) for part in PARTS}
    bits["header"] += 8 * (table.length - CRC)
    bits["checksum"] += 8 * CRC
    held = MappingProxyType(books), MappingProxyType(tensors), MappingProxyType(bits)
    return Layout(ENVELOPE, "context", *held)


def _inspect(data: bytes, architecture: Architecture | None = None) -> Layout:
    parsed = _parse(data, architecture)
    header, books = parsed.header, parsed.codebooks
    tensors = {}
    for name, shape in header.shapes.items():
        book, scale = header.codebook_of[name], header.scales.get(name)
        scale_shape = None if scale is None else scale.shape
        tensors[name] = StoredTensor(shape, books[book].dtype.name, book, scale_shape)
    for name, values in header.raw.items():
        tensors[name] = StoredTensor(values.shape, values.dtype.name)
    return Layout(
        version=parsed.version,
        coder="order0" if parsed.version == 1 else "context",
        codebooks=MappingProxyType(books),
        tensors=MappingProxyType(tensors),
        bits=MappingProxyType({part: parsed.bits[part] for part in PARTS}),
    )


def _file(
    quantized: Quantized,
    symbols: tuple[list[np.ndarray], list[Plane]],
    coder: Adaptive,
    version: int,
    architecture: Architecture | None,
) -> bytes:
    out = Writer(MAGIC + bytes([version]))
    write_header(out, quantized, architecture)
    stream = Stream(None, loops(quantized.size))
    for values in quantized.codebooks.values():
        code_codebook(stream, values.dtype, len(values), values)
    if version >= CHOOSES_CONTEXTS:
        stream.coin(int(coder.expecting))
    coder.write(stream, *symbols)
    out.blob(stream.finish())
    return bytes(out.data) + _checksum(out.data)


def _as_bytes(data: object) -> bytes:
    """Raises TypeError for what is no bytes, such as a path: bytes(path) would be its letters."""
    if not isinstance(data, bytes | bytearray | memoryview):
        kind = type(data).__name__
        raise TypeError(f"data must be a file's bytes, as Path(file).read_bytes(), got {kind}")
    return bytes(data)


def has_fingerprint(data: bytes) -> bool:
    """Whether a file needs the architecture to be read."""
    if is_difference(data):
        data = MAGIC + data[len(MAGIC) + 1 + BASE :]
    place = len(MAGIC)
    known = data[:place] == MAGIC and len(data) > place + 1 and 2 <= data[place] <= LARGEST
    return known and data[place + 1] & 1 == 1


def weights_allowed(length: int) -> int:
    """How many weights ``decode`` allows a file of so many bytes unless told otherwise."""
    return WEIGHTS_FREE + WEIGHTS_PER_BYTE * length


def ordered(quantized: Quantized) -> tuple[list[np.ndarray], list[Plane]]:
    """The coded tensors as a coder sees them: symbols in the order of their values."""
    ranks = {name: _ranks(values) for name, values in quantized.codebooks.items()}
    tensors, planes = [], []
    for name, symbols in quantized.symbols.items():
        book = quantized.codebook_of[name]
        rank = ranks[book]
        tensors.append(symbols if rank is None else rank[symbols])
        planes.append(_plane(symbols.shape, quantized.codebooks[book]))
    return tensors, planes


def _plane(shape: tuple[int, ...], book: np.ndarray) -> Plane:
    zero, ranks = zero_symbol(book), _ranks(book)
    if zero is not None and ranks is not None:
        zero = int(ranks[zero])
    return Plane(shape, len(book), zero)


def _ranks(book: np.ndarray) -> np.ndarray | None:
    """The place of each value among the sorted ones; None where they are in order."""
    order = np.argsort(book, kind="stable")
    if (order == np.arange(len(book))).all():
        return None
    ranks = np.empty(len(book), np.uint16)
    ranks[order] = np.arange(len(book))
    return ranks


def _read_symbols(
    parsed: "_Parsed", header: Header, books: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    expecting = parsed.version >= CHOOSES_CONTEXTS and bool(parsed.stream.coin())
    names = header.codebook_of
    planes = [_plane(shape, books[names[name]]) for name, shape in header.shapes.items()]
    symbols = dict(zip(header.shapes, read_tensors(parsed.stream, planes, expecting), strict=True))
    for name, array in symbols.items():
        if _ranks(books[names[name]]) is not None:
            symbols[name] = np.argsort(books[names[name]], kind="stable").astype(np.uint16)[array]
    return symbols


@dataclass(frozen=True)
class _Parsed:
    version: int
    header: Header
    codebooks: dict[str, np.ndarray]
    stream: Stream  # the payload, up to the symbols
    bits: dict[str, int]  # by part


def _parse(
    data: bytes, architecture: Architecture | None, max_weights: int | None = None
) -> _Parsed:
    """Everything but the symbols, checked."""
    version = _check_envelope(data)
    reader = Reader(data[:-4])
    reader.take(len(MAGIC) + 1)
    if version == 1:
        header, books, sizes = format1.read_header(reader)
    else:
        header, sizes = read_header(reader, architecture, version)
    size = sum(math.prod(shape) for shape in header.shapes.values())
    if max_weights is not None and size > max_weights:
        raise FormatError(f"the file has {size} weights; max_weights allows {max_weights}")
    payload = reader.take(reader.varint())
    if reader.left:
        reader.fail(f"{reader.left} bytes follow the payload that belong to nothing")
    stream = Stream(payload, loops(size))
    bits = {part: 8 * sizes[part] for part in PARTS}
    if version > 1:
        books = _read_codebooks(stream, header)
        bits["codebooks"] = min(8 * len(payload), math.ceil(stream.bits))
    bits["symbols"] = 8 * len(payload) - (bits["codebooks"] if version > 1 else 0)
    bits["checksum"] = 32
    bits["header"] = 8 * len(data) - sum(bits.values())
    return _Parsed(version, header, books, stream, bits)


def _read_codebooks(stream: Stream, header: Header) -> dict[str, np.ndarray]:
    nothing = np.zeros(0)
    return {
        name: code_codebook(stream, dtype, levels, nothing)
        for name, (dtype, levels) in header.books.items()
    }


def _checksum(data: bytes | bytearray) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _check_envelope(data: bytes) -> int:
    """The version. Raises FormatError for what is no file, or not a whole one."""
    if data[: len(MAGIC)] != MAGIC:
        raise FormatError(f"not a .sws file: starts with {data[:8]!r}, not {MAGIC!r}")
    if len(data) < SHORTEST:
        raise FormatError(f"the .sws file is truncated: {len(data)} bytes, at least {SHORTEST}")
    version = data[len(MAGIC)]
    if not 1 <= version <= LARGEST:
        raise FormatError(f"file is format {version}; this build reads up to {FORMAT_VERSION}")
    if _checksum(data[:-4]) != data[-4:]:
        raise FormatError("the .sws file is altered or truncated: its checksum does not match")
    return version
