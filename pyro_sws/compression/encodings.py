"""Encodings: the networks tried during a compression are encoded once each."""

from pyro_sws.codec.container import encode
from pyro_sws.codec.header import Architecture
from pyro_sws.codec.symbols import Quantized


class Encodings:
    """A memory of ``encode``: every network's length, and the bytes of the shortest file."""

    def __init__(self) -> None:
        self._lengths: dict[bytes, int] = {}
        self._shortest: tuple[bytes, bytes] | None = None  # digest, file

    def length(self, quantized: Quantized) -> int:
        """Bytes of the file, with names and shapes in it."""
        if quantized.digest not in self._lengths:
            self._note(quantized, encode(quantized))
        return self._lengths[quantized.digest]

    def of(self, quantized: Quantized, architecture: Architecture | None = None) -> bytes:
        """The file; with an ``architecture``, the one that has a fingerprint instead of names."""
        if architecture is not None:
            return encode(quantized, architecture=architecture)
        if self._shortest is not None and self._shortest[0] == quantized.digest:
            return self._shortest[1]
        data = encode(quantized)
        self._note(quantized, data)
        return data

    def _note(self, quantized: Quantized, data: bytes) -> None:
        self._lengths[quantized.digest] = len(data)
        if self._shortest is None or len(data) <= len(self._shortest[1]):
            self._shortest = quantized.digest, data
