"""Units in a draft of a Quantized: which are idle, and the same without them, or in a new order.

Coded and raw tensors are treated alike. Every function gives a new draft. Numpy only.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pyro_sws.codec.symbols import MAX_LEVELS, Quantized, working_dtype, zero_symbol
from pyro_sws.rewriting.axes import Axis, order_of
from pyro_sws.rewriting.links import Link, Place


@dataclass(frozen=True, eq=False)
class Draft:
    """The parts of a Quantized, which are neither copied nor checked; unchanged ones are shared."""

    arrays: Mapping[str, np.ndarray]  # symbols, and raw tensors
    raw: frozenset[str]
    codebooks: Mapping[str, np.ndarray]
    codebook_of: Mapping[str, str]
    scales: Mapping[str, np.ndarray]

    @staticmethod
    def of(quantized: Quantized) -> "Draft":
        """The draft of a Quantized."""
        arrays = {**quantized.symbols, **quantized.raw}
        q = quantized
        return Draft(arrays, frozenset(q.raw), q.codebooks, q.codebook_of, q.scales)

    def quantized(self, names: Collection[str] | None = None) -> Quantized:
        """The Quantized of these tensors, by default of all; one of a part has their codebooks."""
        names = self.arrays if names is None else names
        symbols = {n: self.arrays[n] for n in self.codebook_of if n in names}
        raw = {n: a for n, a in self.arrays.items() if n in self.raw and n in names}
        of = {name: self.codebook_of[name] for name in symbols}
        whole = names is self.arrays
        books = {n: b for n, b in self.codebooks.items() if whole or n in set(of.values())}
        scales = {name: scale for name, scale in self.scales.items() if name in symbols}
        return Quantized(symbols, books, of, raw, scales)

    def changed(self, other: "Draft") -> set[str]:
        """The tensors that are not the other's very own."""
        return {
            name
            for name, array in self.arrays.items()
            if array is not other.arrays[name] or self._values_of(name) != other._values_of(name)
        }

    def _values_of(self, name: str) -> tuple[int, int]:
        """Which codebook and scale a tensor has."""
        book = self.codebooks[self.codebook_of[name]] if name in self.codebook_of else None
        return id(book), id(self.scales.get(name))

    def book(self, name: str) -> np.ndarray:
        return self.codebooks[self.codebook_of[name]]

    def nonzero(self, name: str) -> np.ndarray:
        """Which weights of a tensor are not 0, in its shape."""
        if name in self.raw:
            return self.arrays[name] != 0
        return (self.book(name) != 0)[self.arrays[name]]

    def values(self, name: str) -> np.ndarray:
        """The tensor as the network has it."""
        if name in self.raw:
            return self.arrays[name]
        dtype = working_dtype(self.book(name))
        values = self.book(name).astype(dtype)[self.arrays[name]]
        scale = self.scales.get(name)
        return values if scale is None else values * scale.astype(dtype)


def masks(draft: Draft, link: Link) -> tuple[np.ndarray, np.ndarray]:
    """Which weights of each unit are not 0: those that make it (units, m), those that read it.

    Vectors are left out: they have one element a unit. A first column is of zeros.
    """
    found: dict[bool, list[np.ndarray]] = {False: [], True: []}
    for place in link.places:
        if draft.arrays[place.name].ndim > 1 and place.parameter:
            found[place.reads].append(_by_unit(draft.nonzero(place.name), place, link.units))
    empty = np.zeros((link.units, 1), bool)
    making, reading = (np.concatenate([empty, *parts], axis=1) for parts in found.values())
    return making, reading


def silent(draft: Draft, link: Link) -> np.ndarray:
    """The units (units,) of whose parameters all are 0."""
    found = np.ones(link.units, bool)
    for place in link.places:
        if place.parameter:
            found &= ~_any(draft.nonzero(place.name), place, link.units)
    return found


def without_dead(draft: Draft, link: Link) -> Draft:
    """Units that nothing reads have no weights."""
    if not link.droppable:
        return draft
    dead = ~_read(draft, link)
    for place in link.places:
        if place.parameter and not place.reads and dead.any():
            draft = zeroed(draft, place.name, place.axis, dead[place.unit] & (place.unit >= 0))
    return draft


def zeroed(draft: Draft, name: str, axis: int, where: np.ndarray) -> Draft:
    """Zeros along an axis of a tensor; the draft itself if there is nothing to do."""
    array = draft.arrays[name]
    zero = 0 if name in draft.raw else zero_symbol(draft.book(name))
    if zero is None or not where.any():
        return draft
    index = (slice(None),) * axis + (np.flatnonzero(where),)
    if (array[index] == zero).all():
        return draft
    changed = array.copy()
    changed[index] = zero
    return replace(draft, arrays={**draft.arrays, name: changed})


def folded(
    draft: Draft, weight: str, axis: int, bias: str | None, constants: np.ndarray
) -> tuple[Draft, np.ndarray]:
    """What ``weight`` reads that is constant, in ``bias``; and which of what it reads that was.

    ``constants`` (size of the axis,) is NaN elsewhere. The bias keeps its codebook if that has the
    new values, else it gets one of its own.
    """
    values = np.moveaxis(draft.values(weight), axis, 0)
    values = values.reshape(*values.shape[:2], -1)
    seen = np.isfinite(constants) & (constants != 0) & values.any((1, 2))
    none = np.zeros_like(seen)
    if bias is None or not seen.any():
        return draft, none
    shift = constants[seen] @ values[seen].astype(np.float64).sum(2)
    changed = _with_values(draft, bias, draft.values(bias).astype(np.float64) + shift)
    if changed is None:
        return draft, none
    gone = zeroed(changed, weight, axis, seen)
    return (draft, none) if gone is changed else (gone, seen)


def arranged(
    draft: Draft, axes: Mapping[str, tuple[Axis, ...]], orders: Mapping[Axis, np.ndarray]
) -> Draft:
    """The draft with the leaves of its axes in these orders; scales move with what they scale."""
    arrays, scales = dict(draft.arrays), dict(draft.scales)
    for name in draft.arrays:
        for axis, layout in enumerate(axes.get(name, ())):
            if not any(leaf in orders for leaf in layout.leaves()):
                continue
            index = order_of(layout, orders)
            arrays[name] = np.take(arrays[name], index, axis)
            if name in scales:
                scales[name] = _moved_scale(scales[name], arrays[name].ndim, axis, index)
    return replace(draft, arrays=arrays, scales=scales)


def part(draft: Draft, link: Link, most: float = math.inf) -> Draft:
    """The tensors that have a link's units, each with a fair share of ``most`` weights.

    A larger tensor is cut along the axes that the units are not on.
    """
    places: dict[str, set[int]] = {}
    for place in link.places:
        places.setdefault(place.name, set()).add(place.axis)
    share = most / len(places)
    cuts = {name: _cut(draft.arrays[name].shape, on, share) for name, on in places.items()}
    scales = {
        name: scale[tuple(cuts[name][draft.arrays[name].ndim - scale.ndim :])]
        for name, scale in draft.scales.items()
        if name in places
    }
    arrays = {n: array[cuts[n]] for n, array in draft.arrays.items() if n in places}
    return replace(
        draft,
        arrays=arrays,
        raw=draft.raw & places.keys(),
        codebook_of={name: of for name, of in draft.codebook_of.items() if name in places},
        scales=scales,
    )


def without_unused_values(draft: Draft) -> Draft:
    """Without what no weight takes in the codebooks; the draft itself if there is nothing."""
    used = {name: np.zeros(len(book), bool) for name, book in draft.codebooks.items()}
    for name, book in draft.codebook_of.items():
        counts = np.bincount(draft.arrays[name].reshape(-1), minlength=len(used[book]))
        used[book] |= counts > 0
    if all(some.all() for some in used.values()):
        return draft
    arrays = dict(draft.arrays)
    for name, book in draft.codebook_of.items():
        arrays[name] = (np.cumsum(used[book]) - 1).astype(np.uint16)[arrays[name]]
    taken = set(draft.codebook_of.values())
    books = {n: book[used[n]] for n, book in draft.codebooks.items() if n in taken}
    return replace(draft, arrays=arrays, codebooks=books)


def _by_unit(mask: np.ndarray, place: Place, units: int) -> np.ndarray:
    """(units, m), of what belongs to each unit."""
    order = np.argsort(place.unit, kind="stable")
    order = order[np.count_nonzero(place.unit < 0) :]
    return np.take(np.moveaxis(mask, place.axis, 0), order, 0).reshape(units, -1)


def _any(mask: np.ndarray, place: Place, units: int) -> np.ndarray:
    """(units,): whether anything of each unit is there."""
    along = mask.any(tuple(k for k in range(mask.ndim) if k != place.axis))
    found = np.zeros(units, bool)
    found[place.unit[along & (place.unit >= 0)]] = True
    return found


def _read(draft: Draft, link: Link) -> np.ndarray:
    """The units (units,) that anything but themselves reads."""
    read = np.zeros(link.units, bool)
    for place in link.places:
        if place.reads:
            mask = draft.nonzero(place.name)
            for other in link.places:
                if other.name == place.name and other.axis != place.axis:
                    mask = mask & ~_same_unit(mask.ndim, place, other)
            read |= _any(mask, place, link.units)
    return read


def _same_unit(ndim: int, one: Place, other: Place) -> np.ndarray:
    """Where a tensor's indices along two axes are of one unit; it broadcasts to the tensor."""
    first, second = (
        place.unit.reshape([-1 if k == place.axis else 1 for k in range(ndim)])
        for place in (one, other)
    )
    return (first == second) & (first >= 0)


def _cut(shape: tuple[int, ...], on: set[int], most: float) -> tuple[slice, ...]:
    cuts, size = [slice(None)] * len(shape), math.prod(shape)
    for axis, length in enumerate(shape):
        if axis not in on and size > most:
            kept = max(1, int(length * most / size))
            cuts[axis], size = slice(kept), size // length * kept
    return tuple(cuts)


def _moved_scale(scale: np.ndarray, ndim: int, axis: int, index: np.ndarray) -> np.ndarray:
    """A scale that broadcasts from the right, along an axis of the tensor that it scales."""
    own = axis - (ndim - scale.ndim)
    return np.take(scale, index, own) if own >= 0 and scale.shape[own] > 1 else scale


def _with_values(draft: Draft, name: str, values: np.ndarray) -> Draft | None:
    """The tensor with values from outside its codebook, rounded to what it computes in.

    None where they cannot be: not finite, a half-precision raw tensor, too many of them.
    """
    if name in draft.raw:
        if draft.arrays[name].dtype.name not in ("float32", "float64"):
            return None
        rounded = values.astype(draft.arrays[name].dtype)
        fits = np.isfinite(rounded).all()
        return replace(draft, arrays={**draft.arrays, name: rounded}) if fits else None
    book = draft.book(name)
    rounded = values.astype(working_dtype(book)) + 0.0  # no -0.0
    if not np.isfinite(rounded).all():
        return None
    scales = {other: scale for other, scale in draft.scales.items() if other != name}
    if name not in draft.scales and np.isin(rounded, book.astype(rounded.dtype)).all():
        order = np.argsort(book, kind="stable")
        taken = order[np.searchsorted(book.astype(rounded.dtype), rounded, sorter=order)]
        return replace(draft, arrays={**draft.arrays, name: taken.astype(np.uint16)})
    # With 0: its unit may turn out to be idle.
    own = np.unique(np.append(rounded, rounded.dtype.type(0)))
    if len(own) > MAX_LEVELS:
        return None
    symbols = np.searchsorted(own, rounded).astype(np.uint16)
    return _with_own_codebook(replace(draft, scales=scales), name, own, symbols)


def _with_own_codebook(draft: Draft, name: str, book: np.ndarray, symbols: np.ndarray) -> Draft:
    """Under the name of the codebook that it had for itself, or one that is not taken."""
    books, of = dict(draft.codebooks), dict(draft.codebook_of)
    old = of[name]
    if old in _others(of, name):
        old = name
        while old in books:
            old += ".folded"
    books[old], of[name] = book, old
    arrays = {**draft.arrays, name: symbols}
    return replace(draft, arrays=arrays, codebooks=books, codebook_of=of)


def _others(of: Mapping[str, str], name: str) -> Iterable[str]:
    return [book for other, book in of.items() if other != name]
