"""Canonical Huffman codes in a string of bits: the code, its table in the stream, and its text.

A text is coded and decoded by the array, not by the symbol. Numpy only.
"""

import heapq

import numpy as np

from pyro_sws.codec.errors import FormatError

WIDTH_BITS = 3  # of the table's field that says how many bits a length takes
LONGEST = 62  # bits of a codeword: Huffman codes get there beyond 10^12 symbols of text


class BitWriter:
    """Appends numbers, the highest bit first; the last byte is filled up with zeros."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def number(self, value: int, width: int) -> None:
        self.numbers(np.array([value]), width)

    def numbers(self, values: np.ndarray, width: int) -> None:
        self.words(values, np.full(len(values), width))

    def words(self, values: np.ndarray, widths: np.ndarray) -> None:
        """Numbers of up to 62 bits, each of its own width."""
        widths = np.asarray(widths, dtype=np.int64)
        owner = np.repeat(np.arange(len(widths)), widths)
        below = np.cumsum(widths)[owner] - 1 - np.arange(len(owner))  # bits after this one
        bits = np.asarray(values, dtype=np.int64)[owner] >> below & 1
        self._parts.append(bits.astype(np.uint8))

    def finish(self) -> bytes:
        return np.packbits(np.concatenate([*self._parts, np.zeros(0, np.uint8)])).tobytes()


class BitReader:
    """Takes from a payload what a writer appended; anything amiss is a FormatError."""

    def __init__(self, payload: bytes) -> None:
        self.bits = np.unpackbits(np.frombuffer(payload, dtype=np.uint8))
        self.position = 0

    @property
    def left(self) -> int:
        return len(self.bits) - self.position

    def take(self, count: int) -> np.ndarray:
        if count > self.left:
            raise FormatError(f"the payload ends early: {count} bits needed, {self.left} left")
        start, self.position = self.position, self.position + count
        return self.bits[start : self.position]

    def number(self, width: int) -> int:
        return int(self.numbers(1, width)[0])

    def numbers(self, count: int, width: int) -> np.ndarray:
        if width > LONGEST:
            raise FormatError(f"the payload is damaged: a number of {width} bits")
        bits = self.take(count * width).reshape(count, width).astype(np.int64)
        return bits @ (1 << np.arange(width, dtype=np.int64)[::-1])

    def finish(self) -> None:
        if self.left > 7 or self.bits[self.position :].any():
            raise FormatError(f"{self.left} bits of the payload are left over")


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """The length of each symbol's codeword in bits, 0 where its count is; one alone gets 1 bit."""
    lengths = np.zeros(len(counts), dtype=np.int64)
    used = np.flatnonzero(counts)
    if len(used) == 1:
        lengths[used] = 1
    heap = [(int(counts[symbol]), i, [symbol]) for i, symbol in enumerate(used)]
    heapq.heapify(heap)
    for made in range(len(used), 2 * len(used) - 1):
        few, many = heapq.heappop(heap), heapq.heappop(heap)
        below = few[2] + many[2]
        lengths[below] += 1  # every symbol below the node of the two gets one bit longer
        heapq.heappush(heap, (few[0] + many[0], made, below))
    return lengths


def write_table(out: BitWriter, lengths: np.ndarray) -> None:
    """The code as its lengths: how many, in how many bits each, and whether with gaps.

    Up to the last symbol in use. Without gaps each length is stored; with them a bit says whether
    the symbol is in use, and only then its length follows: whichever is shorter.
    """
    alphabet, lengths = len(lengths), np.trim_zeros(lengths, "b")
    width = int(lengths.max(initial=0)).bit_length()
    out.number(len(lengths), alphabet.bit_length())
    out.number(width, WIDTH_BITS)
    gaps = _with_gaps(lengths, width)
    out.number(gaps, 1)
    if gaps:
        used = lengths > 0
        out.words(np.where(used, 1 << width | lengths, 0), np.where(used, width + 1, 1))
    else:
        out.numbers(lengths, width)


def table_bits(lengths: np.ndarray) -> int:
    """What ``write_table`` writes, in bits."""
    alphabet, lengths = len(lengths), np.trim_zeros(lengths, "b")
    width = int(lengths.max(initial=0)).bit_length()
    dense, gappy = len(lengths) * width, len(lengths) + int(np.count_nonzero(lengths)) * width
    return alphabet.bit_length() + WIDTH_BITS + 1 + min(dense, gappy)


def read_table(reader: BitReader, alphabet: int) -> np.ndarray:
    """The lengths. Raises FormatError where they are no code."""
    count, width = reader.number(alphabet.bit_length()), reader.number(WIDTH_BITS)
    if count > alphabet or width > LONGEST.bit_length():
        raise FormatError(f"the payload is damaged: {count} codewords of {alphabet}, {width} bits")
    lengths = np.zeros(alphabet, dtype=np.int64)
    if reader.number(1):
        for symbol in range(count):
            if reader.number(1):
                lengths[symbol] = reader.number(width)
    else:
        lengths[:count] = reader.numbers(count, width)
    _check_code(lengths)
    return lengths


def write_text(out: BitWriter, lengths: np.ndarray, text: np.ndarray) -> None:
    """Each symbol's codeword; the code is the canonical one of these lengths."""
    words = np.zeros(len(lengths), dtype=np.int64)
    order, firsts = _canonical(lengths)
    words[order] = firsts >> LONGEST - lengths[order]
    out.words(words[text], lengths[text])


def read_text(reader: BitReader, lengths: np.ndarray, count: int) -> np.ndarray:
    """The next ``count`` symbols. Raises FormatError where bits are no codeword."""
    if count > reader.left:
        raise FormatError(f"the payload ends early: {count} codewords in {reader.left} bits")
    order, firsts = _canonical(lengths)
    if not count or not len(order):
        if count:
            raise FormatError("the payload is damaged: a text without a code")
        return np.zeros(0, dtype=np.int64)
    most = int(lengths.max())
    bits = reader.bits[reader.position : reader.position + count * most]
    found = _codeword_at(bits, most, firsts >> LONGEST - most)
    step = lengths[order][found].tolist()  # from each bit, were a codeword to begin there
    places, place = [], 0
    for _ in range(count):
        places.append(place)
        if place >= len(step):
            raise FormatError("the payload ends early, within a text")
        place += step[place]
    if place > len(bits) or (len(order) == 1 and bits[:place].any()):
        raise FormatError("the payload is damaged: a text ends in no codeword")
    reader.position += place
    return order[found[places]]


def _codeword_at(bits: np.ndarray, most: int, firsts: np.ndarray) -> np.ndarray:
    """For every bit, the rank of the codeword that begins there; zeros follow the last bit."""
    window = np.zeros(len(bits), dtype=np.int64)
    padded = np.append(bits, np.zeros(most, dtype=np.uint8))
    for i in range(most):
        window = window << 1 | padded[i : i + len(bits)]
    return np.searchsorted(firsts, window, side="right") - 1


def _canonical(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symbols by length, then number, and their codewords, shifted up to 62 bits."""
    order = np.flatnonzero(lengths)
    order = order[np.argsort(lengths[order], kind="stable")]
    spans = 1 << LONGEST - lengths[order]  # 2^-length of all that there is
    return order, np.cumsum(spans) - spans


def _with_gaps(lengths: np.ndarray, width: int) -> bool:
    return len(lengths) + int(np.count_nonzero(lengths)) * width < len(lengths) * width


def _check_code(lengths: np.ndarray) -> None:
    """A code is complete, or has one word, of one bit."""
    used = [int(n) for n in lengths if n]
    whole = max(used, default=0) <= LONGEST
    whole = whole and sum(1 << LONGEST - n for n in used) == 1 << LONGEST
    if used and used != [1] and not whole:
        raise FormatError("the payload is damaged: its code lengths are no Huffman code's")
