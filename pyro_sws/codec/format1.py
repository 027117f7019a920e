"""The .sws file, format 1: read only, as the first release wrote it. docs/format.md, appendix."""

import math
from collections import Counter
from collections.abc import Container

import numpy as np

from pyro_sws.codec import order0
from pyro_sws.codec.header import Header
from pyro_sws.codec.stream import Stream
from pyro_sws.codec.symbols import MAX_LEVELS, zero_symbol
from pyro_sws.codec.wire import Reader

LEAST = 62  # its estimates have no least share of the range


def read_header(reader: Reader) -> tuple[Header, dict[str, np.ndarray], Counter[str]]:
    """What stands before the payload: header, codebooks, and bytes of the parts."""
    coder, sizes, header = reader.byte(), Counter[str](), Header()
    if coder:
        reader.fail(f"unknown coder {coder}; format 1 has 0")
    books = _read_codebooks(reader, sizes)
    _read_coded(reader, header, books, sizes)
    _read_raw(reader, header, sizes)
    return header, books, sizes


def read_symbols(
    stream: Stream, header: Header, books: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Symbols by tensor name: uint16, of the tensor's shape. Reads the stream in file order."""
    arrays = {}
    for name, shape in header.shapes.items():
        book = books[header.codebook_of[name]]
        symbols = np.zeros(math.prod(shape), np.uint16)
        if len(book) > 1:
            order0.code(stream, symbols, len(book), zero_symbol(book), spread=False, least=LEAST)
        arrays[name] = symbols.reshape(shape)
    return arrays


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
    reader: Reader, header: Header, books: dict[str, np.ndarray], sizes: Counter[str]
) -> None:
    order = list(books)
    for _ in range(reader.count("tensors")):
        name = _new_name(reader, "tensor", header.shapes)
        kind = reader.byte()
        shape = reader.dims(kind % 16)
        index = reader.varint() if len(order) != 1 else 0
        if index >= len(order):
            reader.fail(f"{name!r} has codebook {index} of {len(order)}")
        if kind >= 16:
            start, dtype = reader.position, reader.dtype(kind // 16 - 1)
            header.scales[name] = reader.values(dtype, reader.dims(reader.byte()))
            sizes["scales"] += reader.position - start
        header.shapes[name], header.codebook_of[name] = shape, order[index]


def _read_raw(reader: Reader, header: Header, sizes: Counter[str]) -> None:
    """Values count as raw; names and shapes are header."""
    taken = set(header.shapes)
    for _ in range(reader.count("raw tensors")):
        name = _new_name(reader, "tensor", taken)
        taken.add(name)
        kind = reader.byte()
        shape = reader.dims(kind % 16)
        start = reader.position
        header.raw[name] = reader.values(reader.dtype(kind // 16), shape)
        sizes["raw"] += reader.position - start


def _new_name(reader: Reader, what: str, taken: Container[str]) -> str:
    name = reader.name(what)
    if name in taken:
        reader.fail(f"the {what} {name!r} is there twice")
    return name
