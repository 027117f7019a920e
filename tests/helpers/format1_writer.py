"""A writer of format 1 for the tests, from docs/format.md: what the first release wrote."""

import zlib

from pyro_sws.codec.format1 import LEAST
from pyro_sws.codec.order0 import code
from pyro_sws.codec.stream import Stream
from pyro_sws.codec.symbols import zero_symbol
from pyro_sws.codec.wire import Writer, dtype_code


def write(quantized) -> bytes:
    out, stream = Writer(b"SWS\x01\x00"), Stream()
    out.varint(len(quantized.codebooks))
    for name, values in quantized.codebooks.items():
        out.name(name)
        out.byte(dtype_code(values.dtype))
        out.varint(len(values))
        out.values(values)
    out.varint(len(quantized.symbols))
    for name, symbols in quantized.symbols.items():
        _coded_tensor(out, stream, quantized, name, symbols)
    out.varint(len(quantized.raw))
    for name, values in quantized.raw.items():
        out.name(name)
        out.byte(values.ndim + 16 * dtype_code(values.dtype))
        out.dims(values.shape)
        out.values(values)
    out.blob(stream.finish())
    return bytes(out.data) + zlib.crc32(out.data).to_bytes(4, "little")


def _coded_tensor(out, stream, quantized, name, symbols):
    book, scale = quantized.codebook_of[name], quantized.scales.get(name)
    out.name(name)
    out.byte(symbols.ndim + (0 if scale is None else 16 * (1 + dtype_code(scale.dtype))))
    out.dims(symbols.shape)
    if len(quantized.codebooks) != 1:
        out.varint(list(quantized.codebooks).index(book))
    if scale is not None:
        out.byte(scale.ndim)
        out.dims(scale.shape)
        out.values(scale)
    values = quantized.codebooks[book]
    if len(values) > 1:
        flat = symbols.ravel().copy()
        code(stream, flat, len(values), zero_symbol(values), spread=False, least=LEAST)
