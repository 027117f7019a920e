"""Adaptive binary arithmetic coding in integers: sequences of bits to one stream of bytes and back.

A range coder after Martin (1979) with a 32-bit range that is renewed by the byte. Every sequence
of bits has a model of its own, the estimator of Krichevsky & Trofimov (1981): after n0 zeros and
n1 ones the next bit is 0 with probability (2 n0 + 1) / (2 (n0 + n1) + 2). The range is multiplied
by that fraction exactly, so there is no probability table, no rounding of probabilities and no
least probability. All products fit 64 unsigned bits for sequences shorter than 2**31 bits.
"""

import numpy as np

from pyro_sws.codec.errors import FormatError

FULL = 1 << 32  # the range at the start
RENEW = 1 << 24  # below this the range is renewed by a byte
SPARE = 4  # bytes that a decoder may read past the end, as zeros: the encoder drops up to so many


class Encoder:
    """Bits in, bytes out. ``low`` is the lower end of the interval, below the bytes already out."""

    def __init__(self) -> None:
        self._low = 0
        self._range = FULL
        self._out = bytearray()

    def encode_bits(self, bits: np.ndarray) -> None:
        """Append one sequence of bits, any shape, read in C order, under a fresh model."""
        low, span = self._low, self._range
        zeros, total = 1, 2  # 2 n0 + 1 and 2 n + 2
        for bit in np.asarray(bits, dtype=bool).tobytes():
            bound = span * zeros // total or 1
            if bit:
                low += bound
                span -= bound
            else:
                span = bound
                zeros += 2
            total += 2
            while span < RENEW:
                low = self._emit(low)
                span <<= 8
        self._low, self._range = low, span

    def finish(self) -> bytes:
        """The stream: the fewest bytes of a number in the interval, which zeros then follow."""
        for count in range(SPARE + 1):
            unit = 1 << (32 - 8 * count)
            number = -(-self._low // unit) * unit
            if number < self._low + self._range:
                break
        for _ in range(count):
            number = self._emit(number)
        if number >= FULL:  # no byte was left to emit, and the carry is still due
            self._carry()
        return bytes(self._out)

    def _emit(self, low: int) -> int:
        if low >= FULL:
            self._carry()
            low -= FULL
        self._out.append(low >> 24)
        return (low & 0xFFFFFF) << 8

    def _carry(self) -> None:
        last = len(self._out) - 1
        while self._out[last] == 0xFF:
            self._out[last] = 0
            last -= 1
        self._out[last] += 1


class Decoder:
    """Bytes in, bits out: asked for the same sequences in the same order as the encoder was given.

    Raises FormatError when it has to read more than 4 bytes past the end.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._position = 0
        self._range = FULL
        self._code = 0  # the payload's number, less the interval's lower end; always below range
        for _ in range(4):
            self._code = self._code << 8 | self._next()

    def decode_bits(self, count: int) -> np.ndarray:
        """The next sequence, of ``count`` bits -> bool (count,)."""
        bits = bytearray(count)
        code, span = self._code, self._range
        zeros, total = 1, 2
        for i in range(count):
            bound = span * zeros // total or 1
            if code < bound:
                span = bound
                zeros += 2
            else:
                code -= bound
                span -= bound
                bits[i] = 1
            total += 2
            while span < RENEW:
                code = code << 8 | self._next()
                span <<= 8
        self._code, self._range = code, span
        return np.frombuffer(bits, dtype=bool)

    def finish(self) -> None:
        """Raises FormatError when bytes are left over."""
        left = len(self._payload) - self._position
        if left > 0:
            raise FormatError(f"{left} bytes of the payload are left over after the last symbol")

    def _next(self) -> int:
        position, self._position = self._position, self._position + 1
        if position < len(self._payload):
            return self._payload[position]
        if position < len(self._payload) + SPARE:
            return 0
        raise FormatError(
            f"the payload ends early: its {len(self._payload)} bytes do not hold all symbols"
        )
