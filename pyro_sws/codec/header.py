"""The plain part of a file: which tensors there are, or a hash of whose; scales; raw tensors.

A name is its stem and, where that is common, a code for its ending; a stem is not repeated. With an
``Architecture`` names and shapes are left out, and its hash stands for them.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyro_sws.codec.folded_norms import (
    WEIGHT,
    FoldedNorm,
    read_norms,
    split_raw,
    with_statistics,
    write_norms,
)
from pyro_sws.codec.raw_values import CODINGS, PLAIN, codings, read_raw, write_raw
from pyro_sws.codec.symbols import MAX_LEVELS, Quantized
from pyro_sws.codec.wire import DTYPES, MAX_NDIM, MAX_SIZE, Reader, Writer, dtype_code, span

Architecture = Mapping[str, tuple[int, ...]]  # names of tensors -> shapes, in order

MOST_VALUES = 1 << 20  # of all codebooks together
# A place is a code in files. Rows are only ever added, at the end, up to 8 in all.
ENDINGS = ("", ".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked")
SAME_STEM = 8  # added to an ending's code
LIKE_UNITS = 15  # in place of the number of dimensions: a vector with the latest matrix's units
# Flags of a file: a fingerprint, scales, raw tensors, codebooks' places, tensors' places and, since
# format 3, folded batch norms are there
FINGERPRINT, SCALES, RAW, BOOKS, CHOSEN, NORMS = 1, 2, 4, 8, 16, 32
OWN_NAME, TENSOR_NAME, ALL = range(3)  # how a codebook is called


@dataclass
class Header:
    """What a file says before its payload; ``books`` are the dtypes and sizes of the codebooks."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of the coded tensors
    codebook_of: dict[str, str] = field(default_factory=dict)
    books: dict[str, tuple[np.dtype, int]] = field(default_factory=dict)
    scales: dict[str, np.ndarray] = field(default_factory=dict)
    raw: dict[str, np.ndarray] = field(default_factory=dict)


def fingerprint(architecture: Architecture) -> bytes:
    """4 bytes of the SHA-256 of the names and shapes."""
    out = Writer()
    for name, shape in architecture.items():
        out.name(name)
        out.varint(len(shape))
        out.dims(tuple(shape))
    return hashlib.sha256(bytes(out.data)).digest()[:4]


def version_of(quantized: Quantized) -> int:
    """The earliest format that is as short: 4 where a raw tensor is coded, 3 with folded norms."""
    raw, norms = _split(quantized)
    if any(coding != PLAIN for coding, _ in codings(raw.values())):
        return 4
    return 3 if norms else 2


def write_header(out: Writer, quantized: Quantized, architecture: Architecture | None) -> None:
    """Raises ValueError for a tensor that the format, or the architecture, does not have."""
    raw, norms = _split(quantized)
    tensors = {**quantized.symbols, **raw}
    for name, values in {**quantized.symbols, **quantized.raw}.items():
        _check_shape(name, values.shape)
    indices = _indices(quantized)
    usual = indices == _usual_indices(len(indices), len(quantized.codebooks))
    flags = SCALES * bool(quantized.scales) + RAW * bool(raw) + BOOKS * (not usual)
    flags += NORMS * bool(norms)
    coded = len(quantized.symbols)
    if architecture is None:
        out.byte(flags)
        _write_counts(out, coded, len(raw))
        _write_tensors(out, tensors)
        if norms:
            write_norms(out, norms, tensors)
    else:
        _write_architecture(out, flags, quantized, tensors, norms, architecture)
    out.varint(len(quantized.codebooks))
    for index in () if usual else indices:
        out.varint(index)
    _write_books(out, quantized)
    for name in quantized.symbols if quantized.scales else ():
        _write_scale(out, quantized.scales.get(name))
    for values, coding in zip(raw.values(), codings(raw.values()), strict=True):
        write_raw(out, values, *coding)


def raw_codings(quantized: Quantized) -> dict[str, tuple[str, int]]:
    """How a file has each raw tensor's values, and in how many bytes."""
    raw, _ = _split(quantized)
    own = [(CODINGS[coding], len(data)) for coding, data in codings(raw.values())]
    folded = dict.fromkeys(quantized.raw, ("folded norm", 0))  # their values follow from it
    return folded | dict(zip(raw, own, strict=True))


def _split(quantized: Quantized) -> tuple[dict[str, np.ndarray], list[FoldedNorm]]:
    return split_raw(quantized.raw, {name: s.shape for name, s in quantized.symbols.items()})


def _write_architecture(
    out: Writer,
    flags: int,
    quantized: Quantized,
    tensors: Mapping[str, np.ndarray],
    norms: Sequence[FoldedNorm],
    architecture: Architecture,
) -> None:
    """The fingerprint; the norms, whose statistics the rest is without; the tensors' places."""
    _check_architecture({**quantized.symbols, **quantized.raw}, architecture)
    rest = _without(architecture, norms)
    order = {name: index for index, name in enumerate(rest)}
    places = [order[name] for name in tensors]
    chosen = places != list(range(len(rest)))
    out.byte(flags + FINGERPRINT + CHOSEN * chosen)
    out.data += fingerprint(architecture)
    if norms:
        write_norms(out, norms, architecture)
    if chosen or flags & RAW:
        _write_counts(out, len(quantized.symbols), len(tensors) - len(quantized.symbols))
    for index in places if chosen else ():
        out.varint(index)


def _without(architecture: Architecture, norms: Sequence[FoldedNorm]) -> Architecture:
    """The architecture without the norms' statistics."""
    gone = {name for norm in norms for name in norm.names()}
    return {name: shape for name, shape in architecture.items() if name not in gone}


def header_bytes(quantized: Quantized, architecture: Architecture | None) -> int:
    """How long the header is; files with and without an architecture differ in nothing else."""
    out = Writer()
    write_header(out, quantized, architecture)
    return len(out.data)


def read_header(
    reader: Reader, architecture: Architecture | None, version: int = 4
) -> tuple[Header, Counter[str]]:
    """What ``write_header`` wrote, and the bytes of its parts that are not header.

    Raises ValueError where the file needs an architecture, or has another one's fingerprint.
    """
    header, sizes = Header(), Counter[str]()
    flags = reader.byte()
    if flags >= (2 * CHOSEN if version == 2 else 2 * NORMS):
        reader.fail(f"unknown flags {flags}")
    if flags & CHOSEN and not flags & FINGERPRINT:
        reader.fail("tensors are chosen from an architecture that the file is not for")
    norms: list[FoldedNorm] = []
    if flags & FINGERPRINT:
        shapes, coded, norms = _from_architecture(reader, flags, architecture)
    else:
        shapes, coded = _read_tensors(reader, flags)
        norms = read_norms(reader, list(shapes)) if flags & NORMS else []
    statistics = with_statistics(reader, norms, shapes)
    names = list(shapes)
    header.shapes = {name: shapes[name] for name in names[:coded]}
    count = reader.count("codebooks")
    indices = _usual_indices(coded, count)
    if flags & BOOKS:
        indices = [reader.varint() for _ in range(coded)]
    if indices is None or any(index >= count for index in indices):
        reader.fail(f"{coded} tensors have no such places among {count} codebooks")
    _read_books(reader, header, count, dict(zip(header.shapes, indices, strict=True)))
    start = reader.position
    for name in header.shapes if flags & SCALES else ():
        _read_scale(reader, header.scales, name)
    sizes["scales"] = reader.position - start
    start = reader.position
    own = read_raw(reader, [shapes[name] for name in names[coded:]], version)
    header.raw = dict(zip(names[coded:], own, strict=True))
    sizes["raw"] = reader.position - start - len(header.raw)  # a byte each says which dtype
    header.raw |= statistics
    return header, sizes


def _indices(quantized: Quantized) -> list[int]:
    """The index of each coded tensor's codebook."""
    order = {name: index for index, name in enumerate(quantized.codebooks)}
    return [order[quantized.codebook_of[name]] for name in quantized.symbols]


def _usual_indices(tensors: int, books: int) -> list[int] | None:
    """The indices that are not written: one codebook for all, or each its own."""
    if books == 1:
        return [0] * tensors
    return list(range(tensors)) if books == tensors else None


def _check_architecture(tensors: Mapping[str, np.ndarray], architecture: Architecture) -> None:
    """Raise ValueError for a tensor that the architecture does not have in this shape."""
    shapes = {name: tuple(shape) for name, shape in architecture.items()}
    for name, values in tensors.items():
        if shapes.get(name) != values.shape:
            has = shapes.get(name, "no such tensor")
            raise ValueError(f"{name!r} has shape {values.shape}; the architecture has {has}")


def _write_counts(out: Writer, coded: int, raw: int) -> None:
    out.varint(coded)
    if raw:
        out.varint(raw)


def _read_counts(reader: Reader, flags: int) -> tuple[int, int]:
    coded = reader.count("tensors")
    return coded, reader.count("raw tensors") if flags & RAW else 0


def _check_shape(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) > MAX_NDIM:
        raise ValueError(f"{name!r} has {len(shape)} dimensions; a file holds up to {MAX_NDIM}")
    if span(shape) > MAX_SIZE:
        raise ValueError(f"{name!r} has shape {shape}; a file holds up to {MAX_SIZE} elements")


def _write_tensors(out: Writer, tensors: Mapping[str, np.ndarray]) -> None:
    """One byte for the ending of the name and the dimensions, the stem, the shape."""
    before, units = None, None
    for name, values in tensors.items():
        shape = values.shape
        ending = max(i for i, end in enumerate(ENDINGS) if name.endswith(end))
        stem = name.removesuffix(ENDINGS[ending])
        like = len(shape) == 1 and shape[0] == units
        known = SAME_STEM * (stem == before)
        out.byte((ending + known) * 16 + (LIKE_UNITS if like else len(shape)))
        if not known:
            out.name(stem)
        if not like:
            out.dims(shape)
        before, units = stem, shape[0] if len(shape) > 1 else units


def _read_tensors(reader: Reader, flags: int) -> tuple[dict[str, tuple[int, ...]], int]:
    """Name -> shape, the coded ones first, and how many these are."""
    coded, raw = _read_counts(reader, flags)
    shapes: dict[str, tuple[int, ...]] = {}
    stem = units = None
    for _ in range(coded + raw):
        ending, kind = divmod(reader.byte(), 16)
        if ending % SAME_STEM >= len(ENDINGS):
            reader.fail(f"unknown ending {ending} of a name")
        if ending < SAME_STEM:
            stem = reader.name("tensor")
        if stem is None or (kind == LIKE_UNITS and units is None):
            reader.fail("the first tensor refers to one before it")
        name = stem + ENDINGS[ending % SAME_STEM]
        if name in shapes:
            reader.fail(f"the tensor {name!r} is there twice")
        shapes[name] = (units,) if kind == LIKE_UNITS else reader.dims(kind)  # type: ignore
        units = shapes[name][0] if len(shapes[name]) > 1 else units
    return shapes, coded


def _from_architecture(
    reader: Reader, flags: int, architecture: Architecture | None
) -> tuple[dict[str, tuple[int, ...]], int, list[FoldedNorm]]:
    """Name -> shape, the coded ones first, how many these are, and the folded norms."""
    mark = reader.take(4)
    if architecture is None:
        raise ValueError(
            "the file has a fingerprint in place of names and shapes; give the architecture of "
            "the network that it was made for"
        )
    if mark != fingerprint(architecture):
        raise ValueError(
            f"the file is of another network: it has the fingerprint {mark.hex()}, the "
            f"architecture given has {fingerprint(architecture).hex()}"
        )
    norms = read_norms(reader, list(architecture)) if flags & NORMS else []
    _check_statistics(reader, norms, architecture)
    names = list(_without(architecture, norms))
    coded = len(names)
    if flags & (CHOSEN | RAW):
        coded, raw = reader.varint(), reader.varint() if flags & RAW else 0
        if coded + raw > len(names):
            reader.fail(f"{coded} and {raw} tensors are more than the architecture's {len(names)}")
        if flags & CHOSEN:
            own = [reader.varint() for _ in range(coded + raw)]
            if any(index >= len(names) for index in own) or len(set(own)) < len(own):
                reader.fail("the places in the architecture are not distinct, or beyond it")
            names = [names[index] for index in own]
        elif coded + raw != len(names):
            reader.fail(f"{coded} and {raw} tensors are not the architecture's {len(names)}")
    return {name: tuple(architecture[name]) for name in names}, coded, norms


def _check_statistics(
    reader: Reader, norms: Sequence[FoldedNorm], architecture: Architecture
) -> None:
    """Fail where a folded norm's statistics are not those that the architecture has."""
    for norm in norms:
        channels = tuple(architecture[norm.prefix + WEIGHT])
        for name, shape in zip(norm.names(), (channels, channels, ()), strict=True):
            if name not in architecture or tuple(architecture[name]) != shape:
                has = architecture.get(name, "no such tensor")
                reader.fail(f"{name!r} of a folded norm has shape {shape}; there is {has}")


def _first_users(codebook_of: Mapping[str, str]) -> dict[str, str]:
    """Codebook -> the first tensor that has it."""
    users: dict[str, str] = {}
    for tensor, book in codebook_of.items():
        users.setdefault(book, tensor)
    return users


def _write_books(out: Writer, quantized: Quantized) -> None:
    """One byte for dtype and kind of name, the name where it must be, the number of values."""
    users = _first_users(quantized.codebook_of)
    if (total := sum(map(len, quantized.codebooks.values()))) > MOST_VALUES:
        raise ValueError(f"{total} codebook values; a file holds up to {MOST_VALUES}")
    for name, values in quantized.codebooks.items():
        kind = TENSOR_NAME if users.get(name) == name else ALL if name == "all" else OWN_NAME
        out.byte(dtype_code(values.dtype) + 4 * kind)
        if kind == OWN_NAME:
            out.name(name)
        out.varint(len(values))


def _read_books(reader: Reader, header: Header, count: int, indices: dict[str, int]) -> None:
    users: dict[int, str] = {}
    for tensor, index in indices.items():
        users.setdefault(index, tensor)
    names: list[str] = []
    total = 0
    for index in range(count):
        kind, code = divmod(reader.byte(), 4)
        if code > 2 or kind > ALL or (kind == TENSOR_NAME and index not in users):
            reader.fail(f"a codebook of unknown kind {4 * kind + code}")
        name = (
            "all" if kind == ALL else reader.name("codebook") if kind == OWN_NAME else users[index]
        )
        levels = reader.varint()
        if name in header.books or levels > MAX_LEVELS:
            reader.fail(f"the codebook {name!r} is there twice, or has {levels} values")
        header.books[name] = np.dtype(DTYPES[code]), levels
        total += levels
        if total > MOST_VALUES:
            reader.fail(f"more than {MOST_VALUES} codebook values")
        names.append(name)
    header.codebook_of = {tensor: names[index] for tensor, index in indices.items()}


def _write_scale(out: Writer, scale: np.ndarray | None) -> None:
    """A byte, 0 without a scale, else 1 + its dtype's code + 4 x its dimensions; shape; values."""
    if scale is None:
        out.byte(0)
        return
    out.byte(1 + dtype_code(scale.dtype) + 4 * scale.ndim)
    out.dims(scale.shape)
    out.values(scale)


def _read_scale(reader: Reader, scales: dict[str, np.ndarray], name: str) -> None:
    kind = reader.byte()
    if kind:
        ndim, code = divmod(kind - 1, 4)
        if code > 2:
            reader.fail(f"a scale of unknown dtype {code}")
        scales[name] = reader.values(np.dtype(DTYPES[code]).newbyteorder("<"), reader.dims(ndim))
