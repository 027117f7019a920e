"""Files whose checksum is right whatever else is not."""

import zlib


def with_checksum(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


def repaired(data: bytes) -> bytes:
    return with_checksum(data[:-4])
