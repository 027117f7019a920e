"""A second reader of formats 2 to 4, written from docs/format.md alone: slow, trusting, an oracle.

Where the library keeps arrays up to date, this sums over what is known, term by term as written.
"""

import functools
import hashlib
import itertools
import math
import struct
import zlib

from format1_reader import DTYPES, SIZES, array, dims, take, varint

FRACTION = {"float16": 10, "float32": 23, "float64": 52}
UNPACK = {"float16": "<%de", "float32": "<%df", "float64": "<%dd"}
ENDINGS = ["", ".weight", ".bias", ".running_mean", ".running_var", ".num_batches_tracked"]
STATISTICS = ["running_mean", "running_var", "num_batches_tracked"]
LONGEST_ROW = 65536
EDGES = [1, 2, 3, 4, 6, 9, 13, 20, 32, 64]


def read(data, architecture=None):
    """Symbols by name as flat lists; codebooks, scales and raw tensors as (dtype, shape, bytes)."""
    file = iter(data)
    assert take(file, 3) == b"SWS"
    assert (version := next(file)) in (2, 3, 4)
    flags = next(file)
    if flags & 1:
        coded, raw, norms = of_architecture(file, flags, architecture)
    else:
        coded, raw = named_tensors(file, flags)
        norms = folded_norms(file, [*coded, *raw]) if flags & 32 else []
    books = varint(file)
    places = [0] * len(coded) if books == 1 else list(range(len(coded)))
    if flags & 8:
        places = [varint(file) for _ in coded]
    names = list(coded)
    heads = [codebook_head(file, names, places, i) for i in range(books)]
    scales = {name: scale(file) for name in coded if flags & 2}
    shapes = {**coded, **raw}
    raw = {name: raw_tensor(file, version, shape) for name, shape in raw.items()}
    for prefix, dtype, variance in norms:
        raw |= statistics(prefix, dtype, variance, shapes[prefix + "weight"])
    decisions = Decisions(take(file, varint(file)))
    assert take(file, 4) == zlib.crc32(data[:-4]).to_bytes(4, "little") and not list(file)
    codebooks = {own: (dtype, (k,), floats(decisions, dtype, k)) for own, dtype, k in heads}
    symbols, earlier, weights = {}, [], Weights(version == 4 and decisions.coin())
    for (name, shape), place in zip(coded.items(), places, strict=True):
        tensor = Tensor(shape, codebooks[heads[place][0]], earlier)
        ranks = tensor.read(decisions, weights)
        symbols[name] = [tensor.symbols[rank] for rank in ranks]
        earlier += units(shape, [rank != tensor.zero for rank in ranks])
    decisions.close()
    return symbols, codebooks, {n: s for n, s in scales.items() if s}, raw


# The header


def text(file):
    return take(file, varint(file)).decode()


def named_tensors(file, flags):
    coded, raw = varint(file), varint(file) if flags & 4 else 0
    shapes, stem = {}, None
    for _ in range(coded + raw):
        e, d = divmod(next(file), 16)
        stem = stem if e >= 8 else text(file)
        units = [shape[0] for shape in shapes.values() if len(shape) > 1]
        shapes[stem + ENDINGS[e % 8]] = (units[-1],) if d == 15 else dims(file, d)
    assert len(shapes) == coded + raw
    return split(shapes, coded)


def of_architecture(file, flags, architecture):
    assert take(file, 4) == fingerprint(architecture)
    norms = folded_norms(file, list(architecture)) if flags & 32 else []
    gone = [prefix + name for prefix, *_ in norms for name in STATISTICS]
    names = [name for name in architecture if name not in gone]
    count = len(names)
    coded = varint(file) if flags & 20 else count
    raw = varint(file) if flags & 4 else 0
    places = [varint(file) for _ in range(coded + raw)] if flags & 16 else range(count)
    assert len(places) == coded + raw
    return *split({names[p]: architecture[names[p]] for p in places}, coded), norms


def folded_norms(file, tensors):
    """(what the names of its tensors begin with, dtype, variance's bytes) of each norm."""
    norms = []
    for _ in range(varint(file)):
        dtype = DTYPES[next(file)]
        variance = take(file, SIZES[dtype])
        for _ in range(varint(file)):
            norms.append((tensors[varint(file)].removesuffix("weight"), dtype, variance))
    return norms


def statistics(prefix, dtype, variance, shape):
    values = bytes(len(variance)) * shape[0], variance * shape[0]
    vectors = {prefix + n: (dtype, shape, v) for n, v in zip(STATISTICS[:2], values, strict=True)}
    return vectors | {prefix + STATISTICS[2]: ("int64", (), bytes(8))}


def split(shapes, coded):
    items = list(shapes.items())
    return dict(items[:coded]), dict(items[coded:])


def fingerprint(architecture):
    hashed = hashlib.sha256()
    for name, shape in architecture.items():
        hashed.update(leb(len(name.encode())) + name.encode())
        hashed.update(b"".join(map(leb, (len(shape), *shape))))
    return hashed.digest()[:4]


def leb(number):
    return bytes([number]) if number < 128 else bytes([number % 128 + 128]) + leb(number // 128)


def codebook_head(file, tensors, places, i):
    k, code = divmod(next(file), 4)
    own = text(file) if k == 0 else tensors[places.index(i)] if k == 1 else "all"
    return own, DTYPES[code], varint(file)


def scale(file):
    kind = next(file)
    return array(file, (kind - 1) % 4, dims(file, (kind - 1) // 4)) if kind else None


def signed(file):
    v = varint(file)
    return -(v // 2) - 1 if v % 2 else v // 2


def raw_tensor(file, version, shape):
    c, code = divmod(next(file), 16)
    if c == 0:
        return array(file, code, shape)
    assert version == 4
    dtype, count = DTYPES[code], math.prod(shape)
    if c <= 2:
        if c == 1:
            a, b = signed(file), signed(file)
            numbers = [a + b * k for k in range(count)]
        else:
            numbers = list(itertools.accumulate(signed(file) for _ in range(count)))
        size = SIZES[dtype]
        data = [n.to_bytes(size, "little", signed=not dtype.startswith("u")) for n in numbers]
        return dtype, shape, b"".join(data)
    if c == 3:
        s, a = next(file), varint(file)
        data = [((a + next(file)) << s).to_bytes(SIZES[dtype], "little") for _ in range(count)]
        return dtype, shape, b"".join(data)
    s, a = signed(file), signed(file)
    numbers = [(a + next(file)) * 2.0**s for _ in range(count)]
    return dtype, shape, struct.pack(UNPACK[dtype] % count, *numbers)


# The stream of decisions


class Decisions:
    def __init__(self, payload):
        self.bytes = iter(payload + bytes(4))
        self.left = len(payload)
        self.range = 2**32
        self.code = 0
        for _ in range(4):
            self.renew()

    def renew(self):
        self.code = 256 * self.code + next(self.bytes)
        self.left -= 1

    def close(self):
        assert self.left <= 0

    def decide(self, bound):
        assert 0 < bound < self.range
        bit = int(self.code >= bound)
        self.code -= bound * bit
        self.range = self.range - bound if bit else bound
        while self.range < 2**24:
            self.renew()
            self.range *= 256
        return bit

    def sequence(self, count, zeros=1, total=2):
        bits = []
        for _ in range(count):
            share = self.range // 2**18
            even = self.range * zeros // total
            bits.append(self.decide(min(max(even, share), self.range - share)))
            zeros, total = zeros + 2 * (1 - bits[-1]), total + 2
        return bits

    def coin(self):
        return self.sequence(1)[0]

    def uniform(self, count):
        assert count >= 1
        a, b = 0, count
        while b - a > 1:
            m, s = (a + b) // 2, max(0, (b - a).bit_length() - 30)
            if self.sequence(1, (m - a) >> s, (b - a) >> s)[0]:
                a = m
            else:
                b = m
        return a

    def mixed(self, p):
        return self.decide(self.range * (65536 - p) >> 16)


# Codebooks


def floats(decisions, dtype, levels):
    if not levels:
        return b""
    bits, fraction = 8 * SIZES[dtype], FRACTION[dtype]
    t = decisions.uniform(fraction + 1)
    infinity = (2 ** (bits - 1 - fraction) - 1) * 2**fraction
    beyond = infinity // 2**t
    if decisions.coin():
        signs, sizes = ascending(decisions, levels, beyond)
    else:
        signs = [decisions.coin() for _ in range(levels)]
        sizes = [decisions.uniform(beyond) for _ in range(levels)]
    numbers = [(s << bits - 1) + (size << t) for s, size in zip(signs, sizes, strict=True)]
    return b"".join(number.to_bytes(bits // 8, "little") for number in numbers)


def ascending(decisions, levels, beyond):
    below = decisions.uniform(levels + 1)
    zero = decisions.coin() if below < levels else 0
    negative = a_set(decisions, below, 0, beyond)[::-1]
    positive = a_set(decisions, levels - below - zero, 1, beyond)
    return [1] * below + [0] * (levels - below), negative + [0] * zero + positive


def a_set(decisions, count, least, beyond):
    if count == 0:
        return []
    top = least + count - 1
    last = top + decisions.uniform(beyond - top)
    if count == 1:
        return [last]
    first = least + decisions.uniform(last - (count - 1) - least + 1)
    return [first, *between(decisions, first, last, count - 2), last]


def between(decisions, first, last, count):
    """As many members as ``count`` between two that are known."""
    if count == 0:
        return []
    before = (count + 1) // 2 - 1  # members between the first and the middle one
    after = count - before - 1
    low, high = first + before + 1, last - after - 1
    middle = low + decisions.uniform(high - low + 1)
    lower = between(decisions, first, middle, before)
    return [*lower, middle, *between(decisions, middle, last, after)]


# A tensor


def units(shape, nonzero):
    """A list of the nonzeros of each unit, if the tensor has units: none, or one list of them."""
    if len(shape) < 2 or not nonzero:
        return []
    each = len(nonzero) // shape[0]
    return [[sum(nonzero[u * each : (u + 1) * each]) for u in range(shape[0])]]


class Tensor:
    """Ranks of one tensor; ``symbols`` are the codebook's indices by rank."""

    def __init__(self, shape, book, earlier):
        dtype, (self.levels,), data = book
        values = struct.unpack(UNPACK[dtype] % self.levels, data)
        self.symbols = sorted(range(self.levels), key=lambda i: values[i])
        zero = [rank for rank, symbol in enumerate(self.symbols) if values[symbol] == 0]
        self.zero = zero[0] if zero else None
        self.shape, self.earlier, self.size = shape, earlier, math.prod(shape)

    def read(self, decisions, weights):
        if self.size == 0 or self.levels < 2:
            assert self.size == 0 or self.levels == 1
            return [0] * self.size
        if decisions.coin():
            return Contexts(self, decisions, weights).read()
        return self.order0(decisions, spread=decisions.coin())

    def order0(self, decisions, spread):
        if self.zero is None:
            return tree(decisions, self.size, 0, self.levels, spread)
        others = decisions.sequence(self.size)
        ranks = iter(tree(decisions, sum(others), 0, self.levels - 1, spread))
        found = [next(ranks) if other else None for other in others]
        return [self.zero if i is None else i + (i >= self.zero) for i in found]


def tree(decisions, size, a, b, spread):
    if b - a < 2 or size == 0:
        return [a] * size
    m = (a + b + 1) // 2
    bits = decisions.sequence(size, *((m - a, b - a) if spread else (1, 2)))
    lower = iter(tree(decisions, size - sum(bits), a, m, spread))
    upper = iter(tree(decisions, sum(bits), m, b, spread))
    return [next(upper) if bit else next(lower) for bit in bits]


# Mixing


@functools.cache
def squash(x):
    return min(65535, max(1, round(65536 / (1 + math.exp(-x / 256)))))


@functools.cache
def stretch(p):
    return round(256 * math.log(p / (65536 - p))) if p else -3017


def bucket(seen):
    return sum(seen >= edge for edge in (1, 2, 4, 8, 16, 48))


class Weights:
    """By group, input and bucket; what lives on from tensor to tensor."""

    def __init__(self, expects):
        start = {"nonzero": 8520, "sign": 13107, "node": 13107}
        self.of = {g: [[w] * 7 for _ in range(12)] for g, w in start.items()}
        self.expects = expects


class Chances:
    """Of one tensor; keys are kind, input, context."""

    def __init__(self, decisions, weights):
        self.decisions, self.weights, self.pairs = decisions, weights, {}

    def decide(self, group, kind, contexts, direct=(), rate=32):
        keys = [(kind, i, context) for i, context in enumerate(contexts)]
        start = self.pairs.get(keys[0], (2**21, 0))[0]
        pairs = [self.pairs.get(key, (start, 0)) for key in keys]
        inputs = [stretch(chance >> 6) for chance, _ in pairs] + [stretch(p) for p in direct]
        buckets = [bucket(seen) for _, seen in pairs] + [0 for _ in direct]
        weights = self.weights.of[group]
        total = sum(weights[i][b] * inputs[i] for i, b in enumerate(buckets))
        p = squash(max(-3071, min(3071, total >> 16)))
        bit = self.decisions.mixed(p)
        error = (65536 * bit - p) * rate
        for i, b in enumerate(buckets):
            weights[i][b] += inputs[i] * error >> 20
        for key, (chance, seen) in zip(keys, pairs, strict=True):
            chance += (2**22 * bit - chance) * (65536 // (seen + 2)) >> 16
            self.pairs[key] = chance, min(seen + 1, 400)
        return bit


# The context model


def grade(n):
    """class(n)"""
    return sum(edge <= n for edge in EDGES)


def sign(x):
    return 0 if x == 0 else 1 if x < 0 else 2


def strength(x, step):
    j = 0 if x == 0 else 1 if abs(x) <= step else 2 if abs(x) <= 3 * step else 3
    return 3 + j if x > 0 else 3 - j


class Contexts:
    def __init__(self, tensor, decisions, weights):
        self.tensor, self.zero = tensor, tensor.zero
        self.choose_matrix(tensor.shape, tensor.earlier)
        has_zero = self.zero is not None
        self.values = tensor.levels - has_zero  # V
        self.g = self.zero if has_zero else tensor.levels // 2
        self.v = [[0] * self.columns for _ in range(self.rows)]
        self.counts = [0] * self.columns  # N
        self.chances = Chances(decisions, weights)
        taps = math.prod(tensor.shape[2:]) if self.columns == self.usual_columns else 1
        self.taps = taps if 2 <= taps <= 64 else 1
        self.expected = Expected(self, self.taps) if weights.expects else None

    def choose_matrix(self, shape, earlier):
        size = math.prod(shape)
        self.rows = shape[0] if len(shape) > 1 else 1
        self.columns, self.w = size // self.rows, 0
        self.usual_columns = self.columns
        self.tied = [0] * self.columns
        if self.columns > LONGEST_ROW and self.rows < 16:
            self.rows, self.columns, self.tied = size, 1, [0]
            return
        feeder = None
        for fed in earlier:
            divides = len(shape) > 1 and shape[1] % len(fed) == 0
            if len(fed) > 1 and (divides or shape == (len(fed),)):
                feeder = fed
        if feeder:
            each = self.columns // len(feeder)
            self.tied = [grade(feeder[c // each]) for c in range(self.columns)]
        if len(shape) >= 4:
            self.w = shape[-1]
        elif len(shape) == 2:
            for images in [len(feeder)] if feeder else [1, 3]:
                side = math.isqrt(self.columns // images)
                if images * side**2 == self.columns:
                    self.w = side
        self.w = 0 if self.w < 3 else self.w

    def read(self):
        for r in range(self.rows):
            self.run, self.decay = 0, [0] * self.w
            self.r = r
            if self.expected:
                self.expected.start_row()
            for c in range(self.columns):
                self.c = c
                v = self.value() if self.zero is None or self.is_nonzero() else 0
                if self.expected:
                    self.expected.notice(v)
                self.v[r][c] = v
                self.counts[c] += v != 0
                self.pass_by(int(v != 0))
        return [self.rank(v) for row in self.v for v in row]

    def rank(self, v):
        if v == 0:
            return self.zero
        i = v + self.g - (v > 0)
        return i + (self.zero is not None and i >= self.zero)

    def pass_by(self, n):
        if self.w:
            x = self.c % self.w
            self.decay[x] = (3 * self.decay[x] >> 2) + 64 * n
        self.run = (3 * self.run >> 2) + 64 * n
        if self.w and (self.c + 1) % self.w == 0:
            self.run = 0

    def at(self, up, left):
        """v of a neighbour"""
        r, c = self.r - up, self.c - left
        return self.v[r][c] if r >= 0 and 0 <= c < self.columns else 0

    def n(self, up, left):
        return int(self.at(up, left) != 0)

    def N(self, right):
        c = self.c + right
        return self.counts[c] if 0 <= c < self.columns else 0

    def is_nonzero(self):
        r, c, w, n, N = self.r, self.c, self.w, self.n, self.N
        found = sum(v != 0 for v in self.v[r][:c])
        rows1, rows2 = (sum(v != 0 for v in self.v[r - k]) if r >= k else 0 for k in (1, 2))
        recent = n(0, 1) + 2 * n(0, 2) + 4 * n(0, 3) + 8 * n(0, 4)
        history = n(1, 0) + 2 * n(2, 0) + 4 * n(3, 0)
        near = 4 * n(0, 1) + 2 * n(0, 2) + 2 * n(1, 0) + n(1, 1) + n(1, -1) + n(2, 0)
        smooth = 4 * N(0) + 2 * N(-1) + 2 * N(1)
        shape, window = 0, self.run
        if w:
            shape = n(0, w) + 2 * n(0, w + 1) + 4 * n(0, w - 1) + 8 * n(0, 2 * w)
            near += 4 * n(0, w) + 2 * n(0, w + 1) + 2 * n(0, w - 1) + 2 * n(0, 2 * w)
            near += n(1, w) + n(1, -w)
            smooth += 2 * N(-w) + 2 * N(w) + N(-w - 1) + N(1 - w) + N(w - 1) + N(w + 1)
            x, decay = c % w, [0, *self.decay, 0]
            window += decay[x + 1] + (decay[x] >> 1) + (decay[x + 2] >> 1)
        near = min(15, near)
        spread, many, tied = (window // 6).bit_length(), grade(found), self.tied[c]
        if r == 0:
            density = 14
        elif N(0) == 0:
            density = 0 if r >= 64 else 1 if r >= 16 else 2
        else:
            density = 2 + (N(0) * 256 * (2**32 // (r + 1)) >> 32).bit_length()
        part = 256 * found + rows1 * 8192 // self.columns
        by_column = 2**32 // (c + 32)
        across = 2 + (part * by_column >> 32).bit_length() if part else 0
        o = self.chances.pairs.get(("nonzero", 0, ()), (32768 << 6, 0))[0] >> 6
        share = (rows1 + rows2) * 65536 // self.columns * 12
        direct = [
            (smooth * 65536 + 24 * o) * (2**32 // (16 * r + 24)) >> 32,
            (found * 65536 + share + 8 * o) * by_column >> 32,
        ]
        contexts = [
            (),
            (history, recent % 4, shape % 8),
            (tied, across),
            (spread, many),
            (near, density),
            (many,),
            (spread, density, tied),
            (shape, recent),
            *self.further("nonzero"),
        ]
        direct = [min(65535, p) for p in direct]
        return self.chances.decide("nonzero", "nonzero", contexts, direct, rate=10)

    def value(self):
        """v, down the tree of values"""
        a, b, by_sign = 0, self.values, 0 < self.g < self.values
        m = self.g if by_sign else (self.values + 1) // 2
        while b - a > 1:
            if by_sign:
                bit = self.chances.decide("sign", "sign", self.sign_contexts())
            else:
                bit = self.chances.decide("node", m, self.node_contexts())
            a, b = (m, b) if bit else (a, m)
            m, by_sign = (a + b + 1) // 2, False
        return a - self.g + (a >= self.g)

    def around(self):
        """left, left2, up, upleft, upright; pull; size, count, last"""
        left, left2 = self.at(0, 1), self.at(0, 2)
        up, upleft, upright, up2 = self.above(0), self.above(1), self.above(-1), self.above(0, 2)
        pull = 2 * left + 2 * up + upleft + upright + left2 + up2
        four = [abs(v) for v in (left, up, upleft, upright)]
        count = sum(v != 0 for v in four)
        size = 1 + min(6, 2 * sum(four) // count * 8 // self.values) if count else 0
        last = [0, *(v for v in self.v[self.r][: self.c] if v)][-1]
        return (left, left2, up, upleft, upright), pull, size, count, last

    def above(self, left, images_rows=1):
        return self.at(0, images_rows * self.w + left) if self.w else 0

    def sign_contexts(self):
        (left, left2, up, upleft, upright), pull, _, _, last = self.around()
        signs = sum((v > 0) - (v < 0) for v in self.column())
        quarter = self.values // 4
        far = sign(self.above(2)), sign(self.above(-2)), sign(self.above(0, 2)), sign(left2)
        return [
            (),
            (sign(left), sign(up), sign(upleft), sign(upright)),
            (strength(pull, 2), strength(last, self.values)),
            (strength(left, quarter), strength(up, quarter), sign(upright)),
            far,
            (strength(signs, 1), strength(pull, 2)),
            *self.further("sign"),
        ]

    def node_contexts(self):
        _, pull, size, count, last = self.around()
        sizes, busy, V = sum(map(abs, self.column())), self.N(0), self.values
        usual = 1 + min(6, sizes * 16 // busy // max(1, V // 2)) if busy else 0
        return [
            (),
            (strength(pull, V // 3 + 1), size),
            (min(15, abs(last) * 16 // V),),
            (self.tied[self.c],),
            (usual, size),
            (count,),
            *self.further("node"),
        ]

    def further(self, kind):
        return self.expected.contexts(kind) if self.expected else []

    def column(self):
        """What is above in the column."""
        return [row[self.c] for row in self.v[: self.r]]


# What is expected


def size(x):
    return round(4 * math.log2(min(x, 4095) + 1))


def within(x, n):
    return max(-n, min(n, x))


class Expected:
    """What the further inputs of a file that expects are made from."""

    def __init__(self, around, taps):
        self.around, self.taps, self.since = around, taps, 0
        self.G = [[[0] * 8 for _ in range(8)] for _ in range(taps)]
        self.seen = [0] * taps
        self.b = [[0] * 7 for _ in range(taps)]

    def start_row(self):
        if self.around.r and self.since >= 64:
            self.since = 0
            for t in range(self.taps):
                self.solve(t)

    def neighbours(self):
        at, s = self.around.at, self.around.w or 3
        lefts = [at(0, left) for left in (1, s - 1, s, s + 1, 2 * s - 1, 2 * s)]
        return [*lefts, at(1, 0)]

    def notice(self, v):
        t, x = self.around.c % self.taps, [*self.neighbours(), v]
        for i in range(8):
            for j in range(i + 1):
                self.G[t][i][j] += x[i] * x[j]
        self.seen[t] += 1
        self.since += 1

    def solve(self, t):
        G, h = self.G[t], 0
        while max(G[i][i] for i in range(8)) >> h >= 2**24:
            h += 1
        G = self.G[t] = [[g >> h for g in row] for row in G]
        A, f, b = [[g * 2**12 for g in row] for row in G], {}, [0] * 7
        ridge = 2**12 * (16 * G[7][7] // (1 + self.seen[t]) + 16)
        for p in range(7):
            d = max(2**12, A[p][p] + ridge)
            for i in range(p + 1, 8):
                f[p, i] = within(2**16 * A[i][p] // d, 2**20)
                for j in range(p + 1, i + 1):
                    A[i][j] = within(A[i][j] - (f[p, i] * A[j][p] >> 16), 2**40)
        for p in reversed(range(7)):
            b[p] = within(f[p, 7] - sum(b[j] * f[p, j] >> 16 for j in range(p + 1, 7)), 2**20)
        self.b[t] = b

    def contexts(self, kind):
        r, c, T, v, C = self.around.r, self.around.c, self.taps, self.around.v, self.around.columns
        above = [[abs(x) for x in row] for row in v[:r]]
        mean = 64 * sum(map(sum, above)) // (r * C) if r else 64
        row = size((64 * sum(map(abs, v[r][:c])) + 32 * mean) * (2**32 // (c + 32)) >> 32)
        sizes = sum(line[c] for line in above)
        column = size((64 * sizes + 3 * mean) * (2**32 // (r + 3)) >> 32)
        other = column
        if T > 1:
            start = c // T * T
            s1 = sum(sum(line[start : start + T]) for line in above)
            s2 = sum(sum(line[c % T :: T]) for line in above)
            other = size((64 * s1 + 8 * mean) * (2**32 // (r * T + 8)) >> 32) - size(mean)
            other += size((64 * s2 + 8 * mean) * (2**32 // (r * (C // T) + 8)) >> 32)
        scale = max(0, min(47, row + other - size(mean)))
        e = sum(b * x for b, x in zip(self.b[c % T], self.neighbours(), strict=True)) >> 10
        fine = max(0, size(abs(e)) - 12)
        half, way = min(15, fine // 2), 1 if e > 0 else -1
        if kind == "nonzero":
            return [(half, scale), (row // 2, column // 2)]
        second = (way * min(31, fine),) if kind == "sign" else (row // 3, column // 3)
        return [(way * half, scale // 2), second]
