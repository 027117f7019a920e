"""The envelope of a checkpoint: complete .sws files one after the other, behind a table.

Format 5 of ``docs/format.md``. Parts are written and read one at a time, by whoever holds them; the
table says where each lies, which dtypes its tensors had, and which names are of the same tensor.
"""

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.wire import Reader, Writer

MAGIC = b"SWS"
ENVELOPE = 5  # the format's number
INNER = (2, 3, 4)  # formats of parts: not 5, so that nothing is nested
HEAD = len(MAGIC) + 1
CRC = 4  # bytes
FINGERPRINT = 1  # a flag in the byte after a part's version
LEAST_PART = 12  # bytes
# A place is a code in the file: None is the dtype that the stored values have.
TENSOR_DTYPES = (None, "float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True)
class Part:
    """One file inside: ``length`` bytes from ``start``, of so many tensors."""

    start: int
    length: int
    checksum: bytes  # its last four bytes
    dtypes: tuple[str | None, ...]  # of its tensors, in its own order; None: as stored


@dataclass(frozen=True)
class Table:
    """What an envelope says before its parts."""

    parts: tuple[Part, ...]
    aliases: Mapping[str, int] = field(default_factory=dict)  # name -> place among all tensors
    size: int = 0  # bytes of the whole file
    length: int = 0  # bytes before the first part


@dataclass(frozen=True)
class NewPart:
    """What a table is to say of a part: see ``Part``, whose start follows."""

    length: int
    checksum: bytes
    dtypes: Sequence[str | None]

    @staticmethod
    def of(data: bytes, dtypes: Sequence[str | None]) -> "NewPart":
        return NewPart(len(data), bytes(data[-CRC:]), dtypes)


def write_table(parts: Sequence[NewPart], aliases: Mapping[str, int]) -> bytes:
    """All bytes before the first part.

    Args:
        parts: in the order in which their bytes follow.
        aliases: further names of tensors, and their places among all tensors of all parts, from 0.
    """
    table = Writer()
    table.varint(len(parts))
    for part in parts:
        table.varint(part.length)
        table.data += part.checksum
        table.varint(len(part.dtypes))
        table.data += bytes(TENSOR_DTYPES.index(dtype) for dtype in part.dtypes)
    table.varint(len(aliases))
    for name, place in aliases.items():
        table.name(name)
        table.varint(place)
    head = Writer(MAGIC + bytes([ENVELOPE]))
    head.blob(bytes(table.data))
    return bytes(head.data) + zlib.crc32(head.data).to_bytes(CRC, "little")


def is_envelope(data: bytes) -> bool:
    """Whether bytes, the first four are enough, begin one."""
    return data[:HEAD] == MAGIC + bytes([ENVELOPE])


def read_table(file: BinaryIO) -> Table:
    """The table of an envelope, and that its parts are as long as the file; none of them is read.

    Raises FormatError for bytes that are not a well-formed one.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(HEAD + 9)  # the length is a varint of at most nine bytes
    if not is_envelope(head):
        raise FormatError(f"not a checkpoint's .sws file: starts with {head[:8]!r}")
    lengths = Reader(head)
    lengths.take(HEAD)
    length = lengths.varint()
    whole = lengths.position + length + CRC
    if whole > size:
        raise FormatError(f"the .sws file is truncated: its table takes {whole} of {size} bytes")
    file.seek(0)
    data = file.read(whole)
    if zlib.crc32(data[:-CRC]).to_bytes(CRC, "little") != data[-CRC:]:
        raise FormatError("the .sws file is altered or truncated: its table's checksum differs")
    reader = Reader(data[:-CRC])
    reader.take(lengths.position)
    parts = tuple(_read_parts(reader, whole))
    aliases = _read_aliases(reader, sum(len(part.dtypes) for part in parts))
    if reader.left:
        reader.fail(f"{reader.left} bytes of the table belong to nothing")
    end = parts[-1].start + parts[-1].length if parts else whole
    if end != size:
        raise FormatError(f"the .sws file has {size} bytes; its table says {end}")
    return Table(parts, aliases, size, whole)


def read_part(file: BinaryIO, part: Part) -> bytes:
    """The bytes of a part. Raises FormatError where they are not those that the table is of."""
    file.seek(part.start)
    data = file.read(part.length)
    if len(data) != part.length or data[: len(MAGIC)] != MAGIC or data[HEAD - 1] not in INNER:
        raise FormatError(f"what lies at byte {part.start} is no .sws file of formats 2 to 4")
    if data[HEAD] & FINGERPRINT:
        raise FormatError(f"the part at byte {part.start} has a fingerprint in place of names")
    if data[-CRC:] != part.checksum:
        raise FormatError(f"the part at byte {part.start} is another one than its table says")
    return data


def _read_parts(reader: Reader, start: int) -> Iterator[Part]:
    for _ in range(reader.count("parts")):
        length, checksum = reader.varint(), reader.take(CRC)
        if length < LEAST_PART:
            reader.fail(f"a part of {length} bytes; at least {LEAST_PART} are possible")
        codes = reader.take(reader.count("tensors"))
        if any(code >= len(TENSOR_DTYPES) for code in codes):
            reader.fail(f"a tensor has the unknown dtype code {max(codes)}")
        yield Part(start, length, checksum, tuple(TENSOR_DTYPES[code] for code in codes))
        start += length


def _read_aliases(reader: Reader, tensors: int) -> dict[str, int]:
    aliases: dict[str, int] = {}
    for _ in range(reader.count("further names")):
        name, place = reader.name("tensor"), reader.varint()
        if name in aliases or place >= tensors:
            reader.fail(f"{name!r} is there twice, or is of tensor {place} of {tensors}")
        aliases[name] = place
    return aliases
