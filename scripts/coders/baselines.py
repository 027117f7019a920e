"""Coders to compare with: CSR with Huffman codes as in 2017, and the general compressors xz, zlib.

They do what a coder of the format does, and no file names them. Numpy and the standard library.
"""

import lzma
import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyro_sws.codec.coders import Plane
from pyro_sws.codec.errors import FormatError
from scripts.coders.csr_stream import CsrHuffman

# Literal context, literal position and position bits. Neighbours in a row are independent of where
# they stand in a word, so few of either; the last is xz's own default.
LZMA_SETTINGS = ((0, 0, 0), (1, 0, 0), (4, 0, 0), (3, 0, 2))
LEAST_DICTIONARY = 4096
MEMORY_LEVEL = 9  # zlib's highest
ZLIB_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_RLE)


class Xz:
    """The bytes of all symbols as one LZMA stream without a container, after a byte of settings.

    Preset 9e under each of ``LZMA_SETTINGS``, and the shortest. LZMA2, which .xz files hold, adds
    a few bytes of chunk headers.
    """

    def encode(self, tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes:
        data = _to_bytes(tensors, planes)
        if not data:
            return b""
        packed = (self._packed(data, setting) for setting in LZMA_SETTINGS)
        return min(packed, key=len)

    def decode(self, payload: bytes, planes: Sequence[Plane]) -> list[np.ndarray]:
        size = _size(planes)
        if not size:
            return _from_bytes(_nothing_left(payload), planes)
        code = payload[0] if payload else 255
        literal, position = code % 45, code // 45
        if position > 4 or literal % 9 + literal // 9 > 4:
            raise FormatError(f"the payload is damaged: it starts with {payload[:1]!r}")
        filters = _lzma_filters((literal % 9, literal // 9, position), size)
        stream = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters)
        try:
            data = stream.decompress(payload[1:], size)
            # The end of the stream comes after the last symbol, and must be there.
            more = b"" if stream.eof else stream.decompress(b"", 1)
        except (lzma.LZMAError, EOFError) as error:
            raise FormatError(f"the payload is damaged: {error}") from None
        _check_end(data + more, size, stream.eof, stream.unused_data)
        return _from_bytes(data, planes)

    def _packed(self, data: bytes, setting: tuple[int, int, int]) -> bytes:
        context, literal, position = setting
        code = (position * 5 + literal) * 9 + context  # as in the header of an .lzma file
        filters = _lzma_filters(setting, len(data))
        return bytes([code]) + lzma.compress(data, lzma.FORMAT_RAW, filters=filters)


class Zlib:
    """The bytes of all symbols as one raw deflate stream: level 9, the shortest strategy."""

    def encode(self, tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes:
        data = _to_bytes(tensors, planes)
        if not data:
            return b""
        return min((self._packed(data, strategy) for strategy in ZLIB_STRATEGIES), key=len)

    def decode(self, payload: bytes, planes: Sequence[Plane]) -> list[np.ndarray]:
        size = _size(planes)
        if not size:
            return _from_bytes(_nothing_left(payload), planes)
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            data = stream.decompress(payload, size)
            if not stream.eof:
                data += stream.decompress(stream.unconsumed_tail, 1)
        except zlib.error as error:
            raise FormatError(f"the payload is damaged: {error}") from None
        _check_end(data, size, stream.eof, stream.unused_data)
        return _from_bytes(data, planes)

    def _packed(self, data: bytes, strategy: int) -> bytes:
        stream = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, MEMORY_LEVEL, strategy)
        return stream.compress(data) + stream.flush()


BASELINES = {
    "csr_huffman_2017": CsrHuffman(),
    "xz": Xz(),
    "zlib": Zlib(),
}


def _dtype(plane: Plane) -> np.dtype:
    return np.dtype("u1" if plane.levels <= 256 else "<u2")


def _size(planes: Sequence[Plane]) -> int:
    return sum(math.prod(plane.shape) * _dtype(plane).itemsize for plane in planes)


def _to_bytes(tensors: Sequence[np.ndarray], planes: Sequence[Plane]) -> bytes:
    """One byte a symbol, two beyond 256 levels; less the zero symbol, so that zeros are alike."""
    parts = []
    for symbols, plane in zip(tensors, planes, strict=True):
        centred = symbols.astype(np.int64) - (plane.zero or 0)
        parts.append(centred.astype(_dtype(plane)).tobytes())  # modulo 256 or 65536
    return b"".join(parts)


def _from_bytes(data: bytes, planes: Sequence[Plane]) -> list[np.ndarray]:
    tensors, start = [], 0
    for plane in planes:
        dtype, size = _dtype(plane), math.prod(plane.shape)
        centred = np.frombuffer(data, dtype, size, start).astype(np.int64)
        start += size * dtype.itemsize
        symbols = (centred + (plane.zero or 0)) % (1 << 8 * dtype.itemsize)
        if symbols.max(initial=0) >= max(plane.levels, 1):
            raise FormatError(f"the payload is damaged: a symbol is not below {plane.levels}")
        tensors.append(symbols.astype(np.uint16).reshape(plane.shape))
    return tensors


def _nothing_left(payload: bytes) -> bytes:
    if payload:
        raise FormatError(f"{len(payload)} bytes of the payload are left over")
    return payload


def _check_end(data: bytes, size: int, ended: bool, unused: bytes) -> None:
    if len(data) != size or not ended or unused:
        state = "ends" if ended else "does not end"
        raise FormatError(
            f"the payload is damaged: {len(data)} bytes for {size}, and its stream {state} "
            f"with {len(unused)} bytes left over"
        )


def _lzma_filters(setting: tuple[int, int, int], size: int) -> list[dict[str, Any]]:
    """Both sides know the size, so the dictionary is no larger than the data."""
    context, literal, position = setting
    return [
        {
            "id": lzma.FILTER_LZMA1,
            "preset": 9 | lzma.PRESET_EXTREME,
            "lc": context,
            "lp": literal,
            "pb": position,
            "dict_size": max(LEAST_DICTIONARY, size),
        }
    ]
