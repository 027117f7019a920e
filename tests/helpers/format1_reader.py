"""A second reader of format 1, written from docs/format.md alone: slow, trusting, an oracle."""

import math
import zlib

SIZES = {"float16": 2, "float32": 4, "float64": 8, "int8": 1, "int16": 2, "int32": 4, "int64": 8}
SIZES |= {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "bool": 1}
DTYPES = list(SIZES)
ZEROS = {n: (bytes(n), bytes(n - 1) + b"\x80") for n in (2, 4, 8)}  # 0 and -0


def read(data):
    """Symbols by name as flat lists; codebooks, scales and raw tensors as (dtype, shape, bytes)."""
    file = iter(data)
    assert take(file, 5) == b"SWS\x01\x00"
    codebooks = dict(codebook(file) for _ in range(varint(file)))
    coded = [coded_tensor(file, list(codebooks)) for _ in range(varint(file))]
    raw = dict(raw_tensor(file) for _ in range(varint(file)))
    payload = Payload(take(file, varint(file)))
    assert take(file, 4) == zlib.crc32(data[:-4]).to_bytes(4, "little") and not list(file)
    symbols = {
        name: payload.tensor(math.prod(shape), codebooks[book]) for name, shape, book, _ in coded
    }
    return symbols, codebooks, {name: s for name, _, _, s in coded if s}, raw


def take(file, count):
    return bytes(next(file) for _ in range(count))


def varint(file):
    byte = next(file)
    return byte if byte < 128 else byte - 128 + 128 * varint(file)


def name(file):
    return take(file, varint(file)).decode()


def dims(file, count):
    return tuple(varint(file) for _ in range(count))


def array(file, code, shape):
    dtype = DTYPES[code]
    return dtype, shape, take(file, math.prod(shape) * SIZES[dtype])


def codebook(file):
    own, code = name(file), next(file)
    return own, array(file, code, dims(file, 1))


def coded_tensor(file, books):
    own, kind = name(file), next(file)
    shape = dims(file, kind % 16)
    book = books[varint(file) if len(books) != 1 else 0]
    scale = array(file, kind // 16 - 1, dims(file, next(file))) if kind >= 16 else None
    return own, shape, book, scale


def raw_tensor(file):
    own, kind = name(file), next(file)
    return own, array(file, kind // 16, dims(file, kind % 16))


class Payload:
    def __init__(self, data):
        self.bytes = iter(data + bytes(4))
        self.range = 2**32
        self.code = int.from_bytes(take(self.bytes, 4), "big")

    def tensor(self, size, book):
        dtype, (levels,), values = book
        width = SIZES[dtype]
        items = [values[i : i + width] for i in range(0, len(values), width)]
        zero = [i for i, item in enumerate(items) if item in ZEROS[width]]
        if levels < 2:
            return [0] * size
        if not zero:
            return self.tree(size, 0, levels)
        others = self.sequence(size)
        rest = iter(self.tree(sum(others), 0, levels - 1))
        ranks = [next(rest) if other else -1 for other in others]
        return [zero[0] if r < 0 else r + (r >= zero[0]) for r in ranks]

    def tree(self, size, a, b):
        if b - a < 2 or size == 0:
            return [a] * size
        m = (a + b + 1) // 2
        bits = self.sequence(size)
        lower = iter(self.tree(size - sum(bits), a, m))
        upper = iter(self.tree(sum(bits), m, b))
        return [next(upper) if bit else next(lower) for bit in bits]

    def sequence(self, size):
        zeros, total, bits = 1, 2, []
        for _ in range(size):
            bound = max(1, self.range * zeros // total)
            bits.append(int(self.code >= bound))
            if bits[-1]:
                self.code, self.range = self.code - bound, self.range - bound
            else:
                self.range, zeros = bound, zeros + 2
            total += 2
            while self.range < 2**24:
                self.code = 256 * self.code + next(self.bytes)
                self.range *= 256
        return bits
