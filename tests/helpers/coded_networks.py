"""Small Quantized values for the codec's tests: by formula, and drawn by hypothesis."""

import math

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyro_sws.codec.symbols import Quantized


def draw_symbols(shape, levels, skew=1.0, seed=0):
    """Symbols whose probabilities fall as a power of the index: skew 0 is uniform."""
    odds = (1.0 + np.arange(levels)) ** -skew
    return np.random.default_rng(seed).choice(levels, shape, p=odds / odds.sum()).astype(np.uint16)


def sparse(size, every, levels):
    """Symbol 0 but for one position in ``every``; integers only, the same everywhere."""
    i = np.arange(size)
    return np.where(i * i % 1009 % every == 1, 1 + i % (levels - 1), 0).astype(np.uint16)


def two_layers() -> Quantized:
    """What a compressed network looks like: one codebook with a zero, nothing raw."""
    shapes = {"0.weight": (12, 30), "0.bias": (12,), "2.weight": (3, 12), "2.bias": (3,)}
    symbols = {n: sparse(int(np.prod(s)), 7, 5).reshape(s) for n, s in shapes.items()}
    book = np.array([0, -0.5, -0.125, 0.25, 0.75], dtype=np.float16)
    return Quantized(symbols, {"all": book}, dict.fromkeys(symbols, "all"))


def everything() -> Quantized:
    """A bit of all that the format can hold."""
    levels = {"conv": 300, "plain": 3, "one": 1, "unused": 2}
    books: dict[str, np.ndarray] = {
        "conv": np.arange(-150, 150, dtype=np.float32) / 8,
        "plain": np.array([0.1, 1e-300, -7], dtype=np.float64),
        "one": np.array([0.5], dtype=np.float16),
        "unused": np.array([1, 2], dtype=np.float16),
        "empty": np.zeros(0, dtype=np.float32),
    }
    shapes = {
        "features.0.wêight": ("conv", (4, 3, 3, 3)),
        "scalar": ("plain", ()),
        "vector": ("plain", (5,)),
        "": ("one", (2, 0, 3)),
        "ones": ("one", (6, 2)),
        "deep": ("plain", (2, 1, 2, 1, 2, 1, 2, 1)),
        "nothing": ("empty", (0, 4)),
    }
    symbols = {
        n: (np.arange(np.prod(s)) ** 2 * 7 % levels.get(b, 1)).astype(np.uint16).reshape(s)
        for n, (b, s) in shapes.items()
    }
    scales: dict[str, np.ndarray] = {
        "features.0.wêight": np.array([1, 2, 0.5, 4], dtype=np.float32).reshape(4, 1, 1, 1),
        "vector": np.array(3, dtype=np.float16),
        "ones": np.array([2, 4], dtype=np.float64),
    }
    floats = np.array([[np.nan, -0.0], [np.inf, 1.5]])
    raw = {f"raw {d}": floats.astype(d) for d in ("float16", "float32", "float64")}
    for i, dtype in enumerate("int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()):
        raw[f"raw {dtype}"] = np.array([np.iinfo(dtype).max - i], dtype=dtype)
    raw["raw bool"] = np.array([True, False, True])
    raw["num_batches_tracked"] = np.array(1234, dtype=np.int64)
    return Quantized(symbols, books, {n: b for n, (b, _) in shapes.items()}, raw, scales)


def on_grids() -> Quantized:
    """Raw tensors that format 4 has in fewer bytes, each coding of it, and others that it has not.

    Whole numbers and powers of two alone: the same everywhere.
    """
    held, places = two_layers(), np.arange(40) * 37 % 251
    patterns = ((places + 8100) << 17).astype(np.uint32).view(np.float32)
    raw: dict[str, np.ndarray] = {
        "positions": np.arange(77).reshape(1, 77),
        "falling": np.arange(250, -1, -10, dtype=np.uint8),
        "same": np.full((3, 5), -7, np.int16),
        "index": (np.arange(60) ** 2 % 41).astype(np.int32),
        "count": np.array(1234),
        "variances": patterns.reshape(8, 5),
        "negative": -patterns,
        "half": (places[:20] + 60 << 6).astype(np.uint16).view(np.float16),
        "means": np.ldexp(places - 99.0, -6).astype(np.float32),
        "mask": np.tril(np.ones((6, 6), np.float32)),
        "zeros": np.zeros(9, np.float32),
        "plain": np.array([1, -0.0, 3, 4, 5], np.float32),
        "double": np.arange(9.0),
        "largest": np.array([2**63, 2**64 - 1], np.uint64),
        "empty": np.zeros((0, 4), np.int64),
    }
    return Quantized(held.symbols, held.codebooks, held.codebook_of, raw)


def lenet_like() -> Quantized:
    """Kernels, an image of 28 x 28 in a row, units that are dead, and layers that feed others."""
    shapes = {
        "conv.weight": (6, 1, 5, 5),
        "conv.bias": (6,),
        "image.weight": (10, 784),
        "image.bias": (10,),
        "wide.weight": (8, 6 * 16),
        "wide.bias": (8,),
        "last.weight": (4, 10),
    }
    symbols = {name: _blobs(shape) for name, shape in shapes.items()}
    symbols["last.weight"][:, 1::3] = 2  # what the dead units of "image" feed
    book = np.array([-0.375, -0.125, 0, 0.125, 0.5, 0.75], dtype=np.float32)
    return Quantized(symbols, {"all": book}, dict.fromkeys(symbols, "all"))


def _blobs(shape, dead=3, zero=2, levels=6):
    """Discs of values around a centre of each unit's own; every third unit is dead."""
    units = shape[0]
    side = math.isqrt(math.prod(shape[1:]) // (6 if shape[1:] == (96,) else 1))
    y, x = np.divmod(np.arange(math.prod(shape[1:])), max(1, side))
    unit = np.arange(units)[:, None]
    distance = (x - unit * 7 % max(1, side)) ** 2 + (y - unit * 5 % max(1, side)) ** 2
    value = (distance // 3 + unit) % levels
    alive = (distance < max(1, side)) & (unit % dead != 1)
    return np.where(alive, value, zero).astype(np.uint8).reshape(shape)


def fingerprinted() -> tuple[Quantized, dict]:
    """Two layers and a raw tensor, and an architecture in another order that has more."""
    held = two_layers()
    raw = {"1.num_batches_tracked": np.array(77, dtype=np.int64)}
    held = Quantized(held.symbols, held.codebooks, held.codebook_of, raw)
    shapes = {"3.weight": (2, 2)} | {n: a.shape for n, a in reversed(held.tensors().items())}
    return held, shapes


shapes = hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)
small = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
# What modules call their tensors, and anything else.
tensor_names = st.one_of(
    st.builds(
        str.__add__,
        st.sampled_from(["0", "features.3", "", "all"]),
        st.sampled_from([".weight", ".bias", ".running_mean", ".num_batches_tracked", ""]),
    ),
    st.text(max_size=6).filter(lambda s: s.isprintable()),
)


@st.composite
def codebooks(draw):
    """Values in any order, with or without a zero."""
    levels = draw(st.sampled_from([0, 1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 300]))
    dtype = draw(st.sampled_from(["float16", "float32", "float64"]))
    first = draw(st.integers(-levels, 1))  # whether, and where, there is a zero
    values = (first + np.arange(levels)).astype(dtype)
    values *= dtype_step(dtype) if draw(st.booleans()) else 1
    return np.random.default_rng(levels).permutation(values) if draw(st.booleans()) else values


def dtype_step(dtype):
    """A factor that fills the fraction's bits."""
    return np.dtype(dtype).type(0.7)


@st.composite
def coded_tensors(draw, levels, shapes=shapes):
    skew = draw(st.sampled_from([0.0, 1.0, 4.0, 50.0]))
    return draw_symbols(draw(shapes), levels, skew, draw(st.integers(0, 2**32 - 1)))


@st.composite
def networks(draw) -> Quantized:
    books = draw(st.dictionaries(tensor_names, codebooks(), min_size=1, max_size=3))
    usable = [book for book, values in books.items() if len(values)]
    of = draw(st.dictionaries(tensor_names, st.sampled_from(usable), max_size=4)) if usable else {}
    symbols = {name: draw(coded_tensors(len(books[book]), small)) for name, book in of.items()}
    raw_dtypes = st.sampled_from(["float16", "float32", "float64", "int64", "uint8", "bool"])
    arrays = hnp.arrays(raw_dtypes, small)
    raw = draw(st.dictionaries(tensor_names.filter(lambda n: n not in of), arrays, max_size=2))
    scales = {}
    for name, values in symbols.items():
        kept = draw(st.integers(0, values.ndim))
        shape = tuple(draw(st.sampled_from([1, n])) for n in values.shape[values.ndim - kept :])
        if draw(st.booleans()):
            scales[name] = np.full(shape, draw(st.floats(0.125, 8, width=16)), dtype=np.float32)
    return Quantized(symbols, books, of, raw, scales)


@st.composite
def architectures(draw, quantized) -> dict:
    """Names and shapes that the network fits: its own in its order, or others among them."""
    own = {name: values.shape for name, values in {**quantized.symbols, **quantized.raw}.items()}
    if draw(st.booleans()):
        return own
    items = draw(st.permutations([*own.items(), ("one more", (2, 3))]))
    return dict(items)


def folded_norms(eps=(1e-5, 1e-5, 1e-3)):
    """Batch norms that are folded, one of which has its weights raw, and one that is not."""
    coded = two_layers()
    books = {**coded.codebooks, "n": np.array([0.5, 2], np.float16)}
    vector = np.array([0, 1, 1, 0], np.uint8)
    names = [f"{i}.norm" for i in range(3)]
    symbols = {**coded.symbols, "0.norm.weight": vector, "2.norm.weight": vector}
    of = {**coded.codebook_of, "0.norm.weight": "n", "2.norm.weight": "n"}
    other = {"other.weight": np.ones(4, np.float32), **_statistics("other", np.arange(4.0), 1.0)}
    raw = {"1.norm.weight": np.linspace(1, 2, 4, dtype=np.float32), **other}
    for name, each in zip(names, eps, strict=True):
        raw |= _statistics(name, np.zeros(4), 1 - each)
    return Quantized(symbols, books, of, raw)


def _statistics(name, mean, variance):
    return {
        f"{name}.running_mean": np.asarray(mean, np.float32),
        f"{name}.running_var": np.full(len(mean), variance, np.float32),
        f"{name}.num_batches_tracked": np.array(0, np.int64),
    }
