"""A file of differences: a complete .sws file, and which base its values are added to.

Format 6 of ``docs/format.md``. The base itself is not in it, and is named by its fingerprint.
"""

import zlib

from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.symbols import BASE

MAGIC = b"SWS"
DIFFERENCE = 6  # the format's number
INNER = (2, 3, 4)  # formats of what is inside
HEAD = len(MAGIC) + 1 + BASE
CRC = 4  # bytes


def as_difference(data: bytes, base: bytes) -> bytes:
    """The file of differences of a file's bytes: without its first three and its checksum."""
    whole = MAGIC + bytes([DIFFERENCE]) + base + data[len(MAGIC) : -CRC]
    return whole + zlib.crc32(whole).to_bytes(CRC, "little")


def is_difference(data: bytes) -> bool:
    """Whether bytes begin one."""
    return data[: len(MAGIC) + 1] == MAGIC + bytes([DIFFERENCE])


def read_difference(data: bytes) -> tuple[bytes, bytes]:
    """The file inside, and the fingerprint of the base. Raises FormatError for a damaged one."""
    if len(data) < HEAD + 1 + CRC:
        raise FormatError(f"the .sws file is truncated: {len(data)} bytes of a file of differences")
    if zlib.crc32(data[:-CRC]).to_bytes(CRC, "little") != data[-CRC:]:
        raise FormatError("the .sws file is altered or truncated: its checksum does not match")
    if data[HEAD] not in INNER:
        raise FormatError(f"a file of differences holds one of format {data[HEAD]}, not of 2 to 4")
    inner = MAGIC + data[HEAD:-CRC]
    return inner + zlib.crc32(inner).to_bytes(CRC, "little"), data[HEAD - BASE : HEAD]
