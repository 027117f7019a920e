"""Units in a Quantized: which are idle or constant, and the same without them, or in a new order.

Coded and raw tensors are treated alike. Every function gives a new Quantized. Torch in, numpy out.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import torch

from pyro_sws.codec.symbols import MAX_LEVELS, Quantized, working_dtype, zero_symbol
from pyro_sws.rewriting.links import Layer, Link


def incoming(quantized: Quantized, link: Link) -> np.ndarray:
    """Which of ``before``'s weights are not 0, unit by unit: (units, m)."""
    return _nonzero(quantized, link.before.weight).reshape(link.units, -1)


def outgoing(quantized: Quantized, link: Link) -> np.ndarray:
    """Which of ``after``'s weights are not 0, unit by unit: (units, k)."""
    return np.moveaxis(_nonzero(quantized, link.after.weight), 1, 0).reshape(link.units, -1)


def silent(quantized: Quantized, link: Link) -> np.ndarray:
    """The units (units,) whose weights are all 0, and their bias too."""
    some = incoming(quantized, link).any(1) | outgoing(quantized, link).any(1)
    if link.before.bias is not None:
        some |= _nonzero(quantized, link.before.bias)
    return np.logical_not(some)


def constants(quantized: Quantized, link: Link) -> np.ndarray:
    """What ``after`` sees of each unit (units,), NaN where that is not one constant.

    A unit is constant without incoming weights, or if a rectifier makes 0 of all that it can be.
    """
    bias = link.before.bias
    biases = np.zeros(link.units) if bias is None else _values(quantized, bias)
    constant = np.logical_not(incoming(quantized, link).any(1))
    if link.rectified:
        weights = _values(quantized, link.before.weight).reshape(link.units, -1)
        never = (weights <= 0).all(1) & (biases <= 0)
        constant, biases = constant | never, np.where(never, 0, biases)
    seen = link.constants(torch.from_numpy(np.array(biases))).numpy()
    return np.where(constant, seen, np.nan)


def without_dead(quantized: Quantized, link: Link) -> Quantized:
    """Units that ``after`` does not see have no weights and no bias."""
    dead = np.logical_not(outgoing(quantized, link).any(1))
    names = [link.before.weight, *([link.before.bias] if link.before.bias else [])]
    return _zeroed(quantized, names, 0, dead)


def without_zeros(quantized: Quantized, link: Link) -> Quantized:
    """Units that are always 0 have no outgoing weights."""
    return _without_outgoing(quantized, link, constants(quantized, link) == 0)


def foldable(quantized: Quantized, link: Link) -> np.ndarray:
    """The units (units,) that ``after`` sees as a constant other than 0."""
    constant = constants(quantized, link)
    return np.isfinite(constant) & (constant != 0) & outgoing(quantized, link).any(1)


def folded(quantized: Quantized, link: Link) -> Quantized:
    """Units that are constant have no outgoing weights: ``after``'s bias has their share.

    The bias keeps its codebook if that has the new values, else it gets one of its own.
    """
    bias, seen = link.after.bias, foldable(quantized, link)
    if bias is None or not seen.any() or not _has_zero(quantized, link.after.weight):
        return quantized
    weights = np.moveaxis(_values(quantized, link.after.weight).astype(np.float64), 1, 0)
    sums = weights.reshape(link.units, link.repeat, weights.shape[1], -1).sum((1, 3))
    shift = constants(quantized, link)[seen] @ sums[seen]
    changed = _with_values(quantized, bias, _values(quantized, bias).astype(np.float64) + shift)
    return quantized if changed is None else _without_outgoing(changed, link, seen)


def permuted(quantized: Quantized, link: Link, order: np.ndarray) -> Quantized:
    """Unit i is the one that was ``order[i]``; scales move with what they scale."""
    rows = np.asarray(order)
    columns = (rows[:, None] * link.repeat + np.arange(link.repeat)).reshape(-1)
    moves = [(link.before.weight, 0, rows), (link.after.weight, 1, columns)]
    if link.before.bias is not None:
        moves.append((link.before.bias, 0, rows))
    arrays, scales = {}, dict(quantized.scales)
    for name, axis, index in moves:
        arrays[name] = np.take(_stored(quantized, name), index, axis)
        if name in scales:
            scales[name] = _moved_scale(scales[name], arrays[name].ndim, axis, index)
    return _with(quantized, arrays, scales)


def without_unused_values(quantized: Quantized) -> Quantized:
    """Without what no weight takes in the codebooks; the quantized itself if there is nothing."""
    used = {name: np.zeros(len(book), bool) for name, book in quantized.codebooks.items()}
    for name, symbols in quantized.symbols.items():
        used[quantized.codebook_of[name]][symbols.reshape(-1)] = True
    if all(some.all() for some in used.values()):
        return quantized
    renumbered = {
        name: (np.cumsum(used[quantized.codebook_of[name]]) - 1)[array].astype(np.uint16)
        for name, array in quantized.symbols.items()
    }
    taken = set(quantized.codebook_of.values())
    books = {n: book[used[n]] for n, book in quantized.codebooks.items() if n in taken}
    return Quantized(renumbered, books, quantized.codebook_of, quantized.raw, quantized.scales)


def holds(quantized: Quantized, link: Link) -> bool:
    """Whether the link's tensors are here."""
    return all(_is_here(quantized, layer) for layer in (link.before, link.after))


def _is_here(quantized: Quantized, layer: Layer) -> bool:
    names = [layer.weight, *([layer.bias] if layer.bias else [])]
    return all(name in quantized.symbols or name in quantized.raw for name in names)


def _stored(quantized: Quantized, name: str) -> np.ndarray:
    return quantized.symbols[name] if name in quantized.symbols else quantized.raw[name]


def _book(quantized: Quantized, name: str) -> np.ndarray:
    return quantized.codebooks[quantized.codebook_of[name]]


def _nonzero(quantized: Quantized, name: str) -> np.ndarray:
    if name in quantized.raw:
        return quantized.raw[name] != 0
    return (_book(quantized, name) != 0)[quantized.symbols[name]]


def _has_zero(quantized: Quantized, name: str) -> bool:
    return name in quantized.raw or zero_symbol(_book(quantized, name)) is not None


def _values(quantized: Quantized, name: str) -> np.ndarray:
    """The tensor as the network has it."""
    if name in quantized.raw:
        return quantized.raw[name]
    book = _book(quantized, name)
    dtype = working_dtype(book)
    values = book.astype(dtype)[quantized.symbols[name]]
    if name in quantized.scales:
        values = values * quantized.scales[name].astype(dtype)
    return values


def _with(quantized: Quantized, arrays: Mapping[str, np.ndarray], scales: Mapping) -> Quantized:
    symbols = {name: arrays.get(name, array) for name, array in quantized.symbols.items()}
    raw = {name: arrays.get(name, array) for name, array in quantized.raw.items()}
    return Quantized(symbols, quantized.codebooks, quantized.codebook_of, raw, scales)


def _zeroed(quantized: Quantized, names: Iterable[str], axis: int, where: np.ndarray) -> Quantized:
    """Zeros along an axis of the tensors; the quantized itself if there is nothing to do."""
    arrays = {}
    for name in names:
        array = _stored(quantized, name)
        here = np.moveaxis(_nonzero(quantized, name), axis, -1) & where
        zero = 0 if name in quantized.raw else zero_symbol(_book(quantized, name))
        if zero is not None and here.any():
            arrays[name] = np.where(np.moveaxis(here, -1, axis), array.dtype.type(zero), array)
    return _with(quantized, arrays, quantized.scales) if arrays else quantized


def _without_outgoing(quantized: Quantized, link: Link, units: np.ndarray) -> Quantized:
    return _zeroed(quantized, [link.after.weight], 1, np.repeat(units, link.repeat))


def _moved_scale(scale: np.ndarray, ndim: int, axis: int, index: np.ndarray) -> np.ndarray:
    """A scale that broadcasts from the right, along an axis of the tensor that it scales."""
    own = axis - (ndim - scale.ndim)
    return np.take(scale, index, own) if own >= 0 and scale.shape[own] > 1 else scale


def _with_values(quantized: Quantized, name: str, values: np.ndarray) -> Quantized | None:
    """The tensor with values from outside its codebook, rounded to what it computes in.

    None where they cannot be: not finite, a half-precision raw tensor, too many of them.
    """
    if name in quantized.raw:
        if quantized.raw[name].dtype.name not in ("float32", "float64"):
            return None
        rounded = values.astype(quantized.raw[name].dtype)
        fits = np.isfinite(rounded).all()
        return _with(quantized, {name: rounded}, quantized.scales) if fits else None
    rounded = values.astype(working_dtype(_book(quantized, name))) + 0.0  # no -0.0
    if not np.isfinite(rounded).all():
        return None
    scales = {other: scale for other, scale in quantized.scales.items() if other != name}
    book = _book(quantized, name)
    if name not in quantized.scales and np.isin(rounded, book.astype(rounded.dtype)).all():
        order = np.argsort(book, kind="stable")
        taken = order[np.searchsorted(book.astype(rounded.dtype), rounded, sorter=order)]
        return _with(quantized, {name: taken.astype(np.uint16)}, scales)
    # With 0: its unit may turn out to be idle.
    values = np.unique(np.append(rounded, rounded.dtype.type(0)))
    if len(values) > MAX_LEVELS:
        return None
    return _with_own_codebook(quantized, name, values, np.searchsorted(values, rounded), scales)


def _with_own_codebook(
    quantized: Quantized, name: str, book: np.ndarray, symbols: np.ndarray, scales: Mapping
) -> Quantized:
    """Under the name of the codebook that it had for itself, or one that is not taken."""
    books, of = dict(quantized.codebooks), dict(quantized.codebook_of)
    old = of.pop(name)
    if old in of.values():
        old = name
        while old in books:
            old += ".folded"
    books[old] = book
    arrays = dict(quantized.symbols) | {name: symbols.astype(np.uint16)}
    return Quantized(arrays, books, {**of, name: old}, quantized.raw, scales)
