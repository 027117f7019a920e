"""Files of format 5 by hand: parts, the dtypes that tensors had, and further names."""

import zlib

import numpy as np
from coded_networks import folded_norms, two_layers

from pyro_sws.codec.container import encode
from pyro_sws.codec.envelope import NewPart, write_table
from pyro_sws.codec.symbols import Quantized


def envelope(parts, aliases=()):
    """The file of pairs (quantized, dtypes), dtypes of their tensors in order."""
    files = [(encode(quantized), dtypes) for quantized, dtypes in parts]
    return of_files(files, dict(aliases))


def of_files(files, aliases):
    """The same of parts that are bytes."""
    table = write_table([NewPart.of(data, dtypes) for data, dtypes in files], aliases)
    return table + b"".join(data for data, _ in files)


def with_table(table, *files):
    """A file whose table is these bytes."""
    head = b"SWS\x05" + bytes([len(table)]) + bytes(table)
    return head + zlib.crc32(head).to_bytes(4, "little") + b"".join(files)


def with_raw():
    """A part that every dtype of the table is in."""
    symbols = {"embedding": (np.arange(35) ** 2 % 5).astype(np.uint8).reshape(7, 5)}
    book = np.array([-2, -1, 0, 1, 2], np.float16)
    raw = {
        "norm": np.array([1, 0.5, 0.25], np.float16),
        "wide": np.array([1e300, -2.0]),
        "steps": np.array([3, 5, 9], np.int32),
    }
    scales = {"embedding": np.array(0.125, np.float32)}
    return Quantized(symbols, {"all": book}, {"embedding": "all"}, raw, scales)


def parts():
    """Two codebooks are called "all"; norms' statistics are among the tensors."""
    first, norms = two_layers(), _prefixed(folded_norms())
    return [
        (first, ["float16", "bfloat16", "float64", None]),
        (with_raw(), ["bfloat16", "float32", None, None]),
        (norms, [None] * (len(norms.symbols) + len(norms.raw))),
    ]


def _prefixed(quantized):
    """The same under names of its own."""
    names = ("symbols", "codebook_of", "raw", "scales")
    by_tensor = {part: getattr(quantized, part).items() for part in names}
    own = {part: {f"n.{n}": value for n, value in items} for part, items in by_tensor.items()}
    return Quantized(codebooks=quantized.codebooks, **own)


def whole():
    """The golden file of format 5: the head is tied to the embedding, which is tensor 4."""
    return envelope(parts(), {"head": 4, "other norm": 5})
