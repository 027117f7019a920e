"""Folded batch norms in a file: running statistics that are constants, in few bytes. Numpy only.

A folded norm has a running mean of 0, one running variance for all channels and a count of 0, see
``weights/batch_norm.py``. A file says which vectors are the weights of such norms, by their places,
and the variance; the three tensors follow from that.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from pyro_sws.codec.wire import DTYPES, Reader, Writer, dtype_code

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # after a norm's prefix
WEIGHT = "weight"
Shapes = Mapping[str, tuple[int, ...]]


class FoldedNorm(NamedTuple):
    """One norm: what its tensors' names begin with, and the constant of its running variance."""

    prefix: str  # "" for a network that is a norm itself, else it ends in a dot
    variance: np.floating

    def names(self) -> list[str]:
        """Of its three tensors."""
        return [self.prefix + name for name in STATISTICS]

    def tensors(self, channels: int) -> dict[str, np.ndarray]:
        """The three, read-only; they take no memory."""
        constants = (self.variance.dtype.type(0), self.variance)
        vectors = [np.broadcast_to(constant, (channels,)) for constant in constants]
        return dict(zip(self.names(), (*vectors, np.array(0, np.int64)), strict=True))


def statistics_last(raw: Mapping[str, np.ndarray], shapes: Shapes) -> dict[str, np.ndarray]:
    """The raw tensors in the order in which a file has them: folded norms' statistics at the end.

    ``shapes`` are those of the coded tensors.
    """
    shapes = {**shapes, **{name: values.shape for name, values in raw.items()}}
    norms = [_norm_at(raw, shapes, name) for name in raw if name.endswith(STATISTICS[0])]
    last = [name for norm in norms if norm is not None for name in norm.names()]
    return {name: raw[name] for name in (*(n for n in raw if n not in set(last)), *last)}


def split_raw(
    raw: Mapping[str, np.ndarray], shapes: Shapes
) -> tuple[dict[str, np.ndarray], list[FoldedNorm]]:
    """Raw tensors whose values a file has, and the folded norms whose statistics end ``raw``."""
    rest, norms = dict(raw), list[FoldedNorm]()
    shapes = {**shapes, **{name: values.shape for name, values in raw.items()}}
    while len(rest) >= len(STATISTICS):
        last = list(rest)[-len(STATISTICS) :]
        norm = _norm_at(rest, shapes, last[0])
        if norm is None or norm.names() != last:
            break
        norms.append(norm)
        for name in last:
            del rest[name]
    return rest, norms[::-1]


def _norm_at(raw: Mapping[str, np.ndarray], shapes: Shapes, mean: str) -> FoldedNorm | None:
    """The norm with this running mean, if its three tensors are bit for bit a folded norm's."""
    prefix = mean.removesuffix(STATISTICS[0])
    names = [prefix + name for name in STATISTICS]
    if prefix == mean or not _is_prefix(prefix) or not all(name in raw for name in names):
        return None
    shape, variance = shapes.get(prefix + WEIGHT), raw[names[1]]
    if shape is None or len(shape) != 1 or variance.shape != shape or not variance.size:
        return None
    if variance.dtype.name not in DTYPES[:3] or not _is_variance(variance[0]):
        return None
    norm = FoldedNorm(prefix, variance[0])
    return norm if all(_same(raw[n], t) for n, t in norm.tensors(*shape).items()) else None


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


def _is_prefix(prefix: str) -> bool:
    return prefix == "" or prefix.endswith(".")


def _is_variance(value: np.floating) -> bool:
    return bool(np.isfinite(value) and value >= 0 and not np.signbit(value))


def write_norms(out: Writer, norms: Sequence[FoldedNorm], tensors: Iterable[str]) -> None:
    """Groups of one variance: its dtype code and value, the places of the norms' weights."""
    places = {name: place for place, name in enumerate(tensors)}
    groups = [(key, list(each)) for key, each in groupby(norms, lambda norm: _bits(norm.variance))]
    out.varint(len(groups))
    for _, group in groups:
        variance = group[0].variance
        out.byte(dtype_code(variance.dtype))
        out.values(np.array(variance))
        out.varint(len(group))
        for norm in group:
            out.varint(places[norm.prefix + WEIGHT])


def _bits(value: np.floating) -> tuple[str, bytes]:
    return value.dtype.name, value.tobytes()


def read_norms(reader: Reader, tensors: Sequence[str]) -> list[FoldedNorm]:
    """What ``write_norms`` wrote, of a file or an architecture with these tensors."""
    norms = []
    for _ in range(_at_least_one(reader, "groups of folded norms")):
        code = reader.byte()
        if code > 2:
            reader.fail(f"a running variance of unknown dtype {code}")
        dtype = np.dtype(DTYPES[code])
        variance = dtype.type(reader.values(dtype.newbyteorder("<"), ())[()])
        if not _is_variance(variance):
            reader.fail(f"a running variance is {variance}; it must be finite and at least 0")
        for _ in range(_at_least_one(reader, "folded norms")):
            norms.append(FoldedNorm(_prefix(reader, tensors), variance))
    return norms


def _at_least_one(reader: Reader, what: str) -> int:
    count = reader.count(what)
    if not count:
        reader.fail(f"no {what} where some are announced")
    return count


def _prefix(reader: Reader, tensors: Sequence[str]) -> str:
    place = reader.varint()
    if place >= len(tensors):
        reader.fail(f"a folded norm's weight has the place {place} of {len(tensors)} tensors")
    prefix = tensors[place].removesuffix(WEIGHT)
    if prefix == tensors[place] or not _is_prefix(prefix):
        reader.fail(f"{tensors[place]!r} is not the weight of a folded norm")
    return prefix


def with_statistics(reader: Reader, norms: Sequence[FoldedNorm], shapes: Shapes) -> dict:
    """The norms' statistics by name, for vectors in ``shapes``, which are all other tensors."""
    found: dict[str, np.ndarray] = {}
    for norm in norms:
        shape = shapes.get(norm.prefix + WEIGHT)
        if shape is None or len(shape) != 1 or not shape[0]:
            reader.fail(f"{norm.prefix + WEIGHT!r} of a folded norm is no vector in the file")
        for name, values in norm.tensors(*shape).items():
            if name in shapes or name in found:
                reader.fail(f"the tensor {name!r} is there twice")
            found[name] = values
    return found
