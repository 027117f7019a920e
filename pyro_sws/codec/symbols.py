"""Quantized: a network as symbols, codebooks and raw tensors; what a file holds. Numpy only."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import NoReturn

import numpy as np

BASE = 8  # bytes of a base's fingerprint
MAX_LEVELS = 1 << 16  # symbols are stored in two bytes at most
FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
RAW_DTYPES = (*FLOATS, *INTEGERS, "bool")


@dataclass(frozen=True, eq=False)
class Quantized:
    """Each weight is ``codebooks[codebook_of[tensor]][symbol]``, times its scale if it has one.

    The arrays are copied, symbols into uint8 or uint16, whichever their codebook needs, and are
    read-only. Two are equal when names, order, dtypes, shapes and bits are. Raises ValueError for
    parts that do not fit together.
    """

    symbols: Mapping[str, np.ndarray]  # tensor -> codebook indices, unsigned, in the tensor's shape
    codebooks: Mapping[str, np.ndarray]  # codebook -> its distinct values (K,), in stored precision
    codebook_of: Mapping[str, str]  # tensor -> codebook
    raw: Mapping[str, np.ndarray] = field(default_factory=dict)  # uncovered tensors and buffers
    scales: Mapping[str, np.ndarray] = field(default_factory=dict)  # tensor -> positive multipliers
    base: bytes = b""  # the fingerprint of what the weights are differences to; b"": they are none

    def __post_init__(self) -> None:
        _check_names(self)
        if len(self.base) not in (0, BASE):
            raise ValueError(f"base must be {BASE} bytes, or none; got {len(self.base)}")
        books = {name: _codebook(name, values) for name, values in self.codebooks.items()}
        of = {name: self.codebook_of[name] for name in self.symbols}
        symbols = {name: _symbols(name, s, books[of[name]]) for name, s in self.symbols.items()}
        raw = {name: _raw(name, values) for name, values in self.raw.items()}
        scales = {
            name: _scale(name, self.scales[name], symbols[name].shape, books[of[name]])
            for name in self.symbols
            if name in self.scales
        }
        for part, value in (("symbols", symbols), ("codebooks", books), ("raw", raw)):
            object.__setattr__(self, part, MappingProxyType(value))
        object.__setattr__(self, "codebook_of", MappingProxyType(of))
        object.__setattr__(self, "scales", MappingProxyType(scales))

    def dequantize(self) -> dict[str, np.ndarray]:
        """The coded tensors' values: float32, or float64 where the codebook is. No raw tensors."""
        return {name: self._values(name) for name in self.symbols}

    def tensors(self) -> dict[str, np.ndarray]:
        """All tensors: the coded ones' values, and the raw ones."""
        return self.dequantize() | dict(self.raw)

    @cached_property
    def digest(self) -> bytes:
        """The same for two that have the same names, in the same order, of the same arrays."""
        seen = hashlib.blake2b(repr((list(self.codebook_of.items()), self.base)).encode())
        parts = (self.symbols, self.codebooks, self.raw, self.scales)
        for number, arrays in enumerate(parts):
            for name, array in arrays.items():
                seen.update(repr((number, name, array.dtype.str, array.shape)).encode())
                seen.update(np.ascontiguousarray(array).data)
        return seen.digest()

    @property
    def size(self) -> int:
        """The number of coded weights."""
        return sum(symbols.size for symbols in self.symbols.values())

    @property
    def nonzero(self) -> int:
        """The number of coded weights whose value is not 0."""
        return sum(
            int(np.count_nonzero(self.codebooks[self.codebook_of[name]][symbols]))
            for name, symbols in self.symbols.items()
        )

    def _values(self, name: str) -> np.ndarray:
        book = self.codebooks[self.codebook_of[name]]
        dtype = working_dtype(book)
        values = book.astype(dtype)[self.symbols[name]]
        if name in self.scales:
            values = values * self.scales[name].astype(dtype)
        return np.asarray(values, dtype=dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quantized):
            return NotImplemented
        return _exactly(self) == _exactly(other)

    __hash__ = None  # type: ignore[assignment]  # it holds arrays

    def __reduce__(self):  # a mapping proxy cannot be pickled or copied
        parts = (self.symbols, self.codebooks, self.codebook_of, self.raw, self.scales)
        return Quantized, (*map(dict, parts), self.base)


def working_dtype(codebook: np.ndarray) -> np.dtype:
    """The dtype of the weights that a codebook gives."""
    return np.dtype("float64" if codebook.dtype == np.float64 else "float32")


def zero_symbol(codebook: np.ndarray) -> int | None:
    """The index of the value 0, if the codebook holds it."""
    zeros = np.flatnonzero(codebook == 0)
    return int(zeros[0]) if zeros.size else None


def _check_names(quantized: Quantized) -> None:
    symbols, of = quantized.symbols, quantized.codebook_of
    for name in symbols:
        if name not in of:
            _refuse(name, "its symbols have no codebook; name one in codebook_of")
        if of[name] not in quantized.codebooks:
            known = ", ".join(quantized.codebooks) or "none"
            _refuse(name, f"there is no codebook {of[name]!r}; there are: {known}")
        if name in quantized.raw:
            _refuse(name, "it is both in symbols and in raw; give it once")
    for part, names in (("codebook_of", of), ("scales", quantized.scales)):
        for name in names:
            if name not in symbols:
                _refuse(name, f"it is in {part} but has no symbols")


def _codebook(name: str, values: np.ndarray) -> np.ndarray:
    where = f"codebook {name!r}"
    values = _frozen(values)
    if values.dtype.name not in FLOATS or values.ndim != 1:
        got = f"{values.dtype} of shape {values.shape}"
        raise ValueError(f"{where} must be a vector of {', '.join(FLOATS)}, got {got}")
    if len(values) > MAX_LEVELS:
        raise ValueError(f"{where} has {len(values)} values; at most {MAX_LEVELS} are possible")
    if not np.isfinite(values).all():
        worst = values[~np.isfinite(values)][0]
        raise ValueError(f"{where} holds {worst}; every value must be finite")
    if len(np.unique(values)) < len(values):
        distinct, counts = np.unique(values, return_counts=True)
        raise ValueError(f"{where} holds {distinct[counts > 1][0]} twice; merge equal values")
    return values


def _symbols(name: str, symbols: np.ndarray, book: np.ndarray) -> np.ndarray:
    symbols = np.asarray(symbols)
    if symbols.dtype.kind != "u":
        _refuse(name, f"symbols must be unsigned integers, got {symbols.dtype}")
    if symbols.size and symbols.max() >= len(book):
        _refuse(name, f"symbol {symbols.max()} is beyond its codebook of {len(book)} values")
    return _frozen(symbols, np.dtype("uint8" if len(book) <= 256 else "uint16"))


def _raw(name: str, values: np.ndarray) -> np.ndarray:
    values = _frozen(values)
    if values.dtype.name not in RAW_DTYPES:
        remedy = ""
        if values.dtype.kind == "c":
            remedy = "; keep torch.view_as_real(w) and make view_as_complex of it in forward"
        _refuse(name, f"raw tensors may be {', '.join(RAW_DTYPES)}, got {values.dtype}{remedy}")
    return values


def _scale(name: str, scale: np.ndarray, shape: tuple[int, ...], book: np.ndarray) -> np.ndarray:
    scale = _frozen(scale)
    if scale.dtype.name not in FLOATS:
        _refuse(name, f"scales must be {', '.join(FLOATS)}, got {scale.dtype}")
    if not _broadcasts(scale.shape, shape):
        _refuse(name, f"a scale of shape {scale.shape} does not broadcast to {shape}")
    if not (np.isfinite(scale) & (scale > 0)).all():
        _refuse(name, "a scale is not positive and finite")
    if scale.size and book.size:
        largest = float(np.abs(book).max()) * float(scale.max())
        if max(largest, float(scale.max())) > float(np.finfo(working_dtype(book)).max):
            _refuse(name, f"a scale of {scale.max():g} overflows {working_dtype(book)}")
    return scale


def _broadcasts(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    """Whether ``small`` broadcasts to ``large`` without growing it."""
    if len(small) > len(large):
        return False
    pairs = zip(reversed(small), reversed(large), strict=False)
    return all(s == 1 or s == n for s, n in pairs)


def _frozen(values: np.ndarray, dtype: np.dtype | None = None) -> np.ndarray:
    """A C-contiguous, native, read-only copy."""
    values = np.asarray(values)
    dtype = dtype or values.dtype.newbyteorder("=")
    copy = np.array(values, dtype=dtype, order="C", copy=True)
    copy.flags.writeable = False
    return copy


def _exactly(quantized: Quantized) -> list:
    """A comparison of these compares names, order, dtypes, shapes and bits."""
    arrays = (quantized.symbols, quantized.codebooks, quantized.raw, quantized.scales)
    flat = [
        [(name, a.dtype.name, a.shape, a.tobytes()) for name, a in part.items()] for part in arrays
    ]
    return [flat, list(quantized.codebook_of.items()), quantized.base]


def _refuse(name: str, why: str) -> NoReturn:
    raise ValueError(f"{name!r}: {why}")
