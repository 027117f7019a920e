"""Encodings: the networks tried during a compression are encoded once each."""

from pyro_sws.codec.container import encode
from pyro_sws.codec.header import Architecture
from pyro_sws.codec.symbols import Quantized

KEPT = 2**26  # bytes of files that are remembered, besides the newest; lengths always are


class Encodings:
    """A memory of ``encode``: every network's length, and the newest files."""

    def __init__(self, kept: int = KEPT) -> None:
        self._lengths: dict[bytes, int] = {}
        self._files: dict[bytes, bytes] = {}  # by digest, the oldest first
        self._kept = kept

    def length(self, quantized: Quantized) -> int:
        """Bytes of the file, with names and shapes in it."""
        if quantized.digest not in self._lengths:
            self._encoded(quantized)
        return self._lengths[quantized.digest]

    def of(self, quantized: Quantized, architecture: Architecture | None = None) -> bytes:
        """The file; with an ``architecture``, the one that has a fingerprint instead of names."""
        if architecture is not None:
            return encode(quantized, architecture=architecture)
        return self._files.get(quantized.digest) or self._encoded(quantized)

    def _encoded(self, quantized: Quantized) -> bytes:
        data = encode(quantized)
        self._lengths[quantized.digest] = len(data)
        self._files[quantized.digest] = data
        while len(self._files) > 1 and sum(map(len, self._files.values())) > self._kept:
            del self._files[next(iter(self._files))]
        return data
