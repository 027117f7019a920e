"""Stream: one arithmetic-coded stream of decisions, written or read."""

import math

import numpy as np

from pyro_sws.codec.arithmetic import (
    ENDLESS,
    FULL,
    LAST,
    LEAST,
    LOW,
    POSITION,
    RANGE,
    READING,
    SPARE,
    carry,
    write_byte,
)
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.loops import PLAIN, Integers, Loops, Octets

WIDEST = 30  # bits of the numbers of cases that odds are made of


class Stream:
    """One stream of decisions: written if made from nothing, read if made from a payload."""

    def __init__(self, payload: bytes | None = None, loops: Loops = PLAIN) -> None:
        reading = payload is not None
        head = (payload or b"")[:4].ljust(4, b"\0")
        self.loops = loops
        self.state = loops.integers([0, FULL, 0, int(reading), -1 if loops.compiled else ENDLESS])
        self.data: Octets = loops.octets(payload or b"")
        if reading:
            self.state[LOW], self.state[POSITION] = int.from_bytes(head, "big"), len(head)
            self.state[LAST] = len(self.data) + SPARE

    @property
    def reading(self) -> bool:
        return bool(self.state[READING])

    @property
    def bits(self) -> float:
        """The length so far of what was written or read."""
        ahead = 4 if self.reading else 0
        return 8 * (int(self.state[POSITION]) - ahead) + 32 - math.log2(self.state[RANGE])

    def coin(self, bit: int = 0) -> int:
        """Code a bit that takes one bit."""
        return int(self.sequence(np.array([bit], np.uint8))[0])

    def uniform(self, count: int, value: int = 0) -> int:
        """Code an integer 0..count-1, all as likely. Raises FormatError for a count below 1."""
        if count < 1:
            raise FormatError("damaged .sws file: a codebook's values leave no room for the next")
        low, high = 0, count
        while high - low > 1:
            middle = (low + high) // 2
            shift = max(0, (high - low).bit_length() - WIDEST)  # products stay below 2**63
            odds = (middle - low) >> shift, (high - low) >> shift
            if self.sequence(np.array([value >= middle], np.uint8), *odds)[0]:
                low = middle
            else:
                high = middle
        return low

    def sequence(
        self, bits: np.ndarray, zeros: int = 1, total: int = 2, least: int = LEAST
    ) -> np.ndarray:
        """Code bits, uint8 (n,), under a fresh estimator (``code_sequence``) -> the same array."""
        buffer = bits if self.loops.compiled else memoryview(bits.data)
        self.data = self.loops.code_sequence(
            self.state, self.data, buffer, len(bits), zeros, total, least
        )
        self.check()
        return bits

    def check(self) -> None:
        """Raises FormatError when more than 4 bytes were read past the end."""
        if self.reading and self.state[POSITION] > self.state[LAST]:
            raise FormatError(
                f"the payload ends early: its {len(self.data)} bytes do not hold all symbols"
            )

    def mark(self) -> tuple[Integers, Octets]:
        """Where the stream stands, for ``reset``."""
        return self.loops.integers(list(self.state)), self.loops.octets(bytes(self.data))

    def reset(self, mark: tuple[Integers, Octets]) -> None:
        self.state, self.data = mark

    def finish(self) -> bytes:
        """Writing: the payload, the fewest bytes of a number in the interval, zeros to follow.

        Reading: raises FormatError when bytes are left over.
        """
        if self.reading:
            left = len(self.data) - int(self.state[POSITION])
            if left > 0:
                raise FormatError(f"{left} bytes of the payload are left over after the symbols")
            return bytes(self.data)
        state, low, span = [int(x) for x in self.state], int(self.state[LOW]), self.state[RANGE]
        data = bytearray(bytes(self.data)[: state[POSITION]])
        for count in range(SPARE + 1):
            unit = 1 << (32 - 8 * count)
            number = -(-low // unit) * unit
            if number < low + span:
                break
        state[LOW] = number
        for _ in range(count):
            write_byte(state, data)
        if state[LOW] >= FULL:  # no byte was left to write, and the carry is still due
            carry(data, state[POSITION])
        return bytes(data)
