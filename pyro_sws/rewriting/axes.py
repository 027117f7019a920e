"""Axes of tensors: which index along each belongs to which unit, and what must keep its order.

An axis is a leaf, whose indices are units in any order; or it consists of others: laid end to end
(queries, keys and values in one matrix), or as their product, the first the slowest (heads times
their width). Axes whose units must move together become one. Numpy only.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np


class Axis:
    """One axis of a tensor. What it consists of is found out as the network is read."""

    def __init__(
        self, size: int, pinned: str = "", parts: Sequence["Axis"] = (), joined: bool = False
    ) -> None:
        self.size = size
        self.pinned = pinned  # why its order is fixed; "": it is free
        self.mixed = False  # some operation sees all of its units at once, so that none may go
        self.parts = tuple(parts)
        self.joined = joined  # its parts are laid end to end, rather than a product
        self._same: Axis | None = None

    def root(self) -> "Axis":
        """The axis that stands for all that this one was made one with."""
        axis = self
        while axis._same is not None:
            axis = axis._same
        return axis

    def leaves(self) -> list["Axis"]:
        """The roots of which it consists, as often as it has them."""
        root = self.root()
        return [leaf for part in root.parts for leaf in part.leaves()] if root.parts else [root]

    def pin(self, why: str) -> None:
        """Fix the order of every unit in it."""
        for leaf in self.leaves():
            leaf.pinned = leaf.pinned or why

    def mix(self) -> None:
        """No unit in it may go: something sees them all at once."""
        for leaf in self.leaves():
            leaf.mixed = True

    def consist(self, parts: Sequence["Axis"], joined: bool) -> None:
        """A leaf turns out to consist of parts, which inherit what it was."""
        root = self.root()
        root.parts, root.joined = tuple(parts), joined
        for part in parts if root.pinned else ():
            part.pin(root.pinned)
        for part in parts if root.mixed else ():
            part.mix()

    def be(self, other: "Axis") -> None:
        """A leaf becomes one with another axis of its size."""
        root = self.root()
        root._same = other
        if root.pinned:
            other.pin(root.pinned)
        if root.mixed:
            other.mix()


def product(parts: Iterable[Axis]) -> Axis:
    """The axis of all combinations of the parts' indices, the last part's the fastest."""
    parts = [part for part in parts if part.size != 1]
    return parts[0] if len(parts) == 1 else Axis(math.prod(p.size for p in parts), parts=parts)


def joined(parts: Iterable[Axis]) -> Axis:
    """The parts end to end."""
    parts = [part for part in parts if part.size]
    return parts[0] if len(parts) == 1 else Axis(sum(p.size for p in parts), "", parts, True)


def tie(one: Axis, other: Axis) -> None:
    """Units of the two axes at the same index are the same, from now on."""
    one, other = one.root(), other.root()
    if one is other:
        return
    if one.size != other.size:
        _pin([one, other], "sizes that differ")
    elif not one.parts:
        one.be(other)
    elif not other.parts:
        other.be(one)
    elif one.joined or other.joined:
        _tie_joined(one, other)
    else:
        _tie_products(one, other)


def split(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Its stretches of these sizes, which sum to its own."""
    root, left = axis.root(), [size for size in sizes if size]
    if len(left) == 1:
        return [axis if size else Axis(0) for size in sizes]
    if not root.parts:
        found = [Axis(size) for size in left]
        root.consist(found, joined=True)
    elif root.joined:
        found = _split_joined(root, left)
    else:
        found = _split_product(root, left)
    stretches = iter(found)
    return [next(stretches) if size else Axis(0) for size in sizes]


def regroup(axes: Sequence[Axis], sizes: Sequence[int]) -> list[Axis]:
    """The axes of a reshape: of the same elements in the same order."""
    queue = [axis for axis in axes if axis.size != 1]
    if 0 not in sizes:
        found = [_take(queue, size) for size in sizes]
        kept = [axis for axis in found if axis is not None]
        if len(kept) == len(sizes):
            return kept
    why = "a reshape that cuts through units"
    _pin(axes, why)
    return [Axis(size, why) for size in sizes]


def order_of(axis: Axis, orders: Mapping[Axis, np.ndarray]) -> np.ndarray:
    """(size,): the index that each index had, when leaves are put in these orders."""
    root = axis.root()
    if not root.parts:
        return np.asarray(orders.get(root, np.arange(root.size)))
    if root.joined:
        starts = np.cumsum([0, *(part.size for part in root.parts)])
        pairs = zip(starts, root.parts, strict=False)
        return np.concatenate([start + order_of(part, orders) for start, part in pairs])
    order = np.zeros(1, np.int64)
    for part in root.parts:
        order = np.add.outer(order * part.size, order_of(part, orders)).reshape(-1)
    return order


def unit_of(axis: Axis, leaf: Axis) -> np.ndarray:
    """(size,): which of the leaf's units each index belongs to, -1 for none.

    -2 where it belongs to two, as in the product of a leaf with itself.
    """
    root = axis.root()
    if root is leaf:
        return np.arange(root.size)
    if not root.parts:
        return np.full(root.size, -1)
    units = [unit_of(part, leaf) for part in root.parts]
    if root.joined:
        return np.concatenate(units)
    found = np.full(1, -1)
    for more in units:
        one, other = (grid.reshape(-1) for grid in np.meshgrid(found, more, indexing="ij"))
        both = (one != -1) & (other != -1)
        found = np.where(both, -2, np.maximum(one, other))
    return found


def _pin(axes: Iterable[Axis], why: str) -> None:
    for axis in axes:
        axis.pin(why)


def _tie_joined(one: Axis, other: Axis) -> None:
    """Cut both where either is cut; a product that cannot be cut so is fixed by ``split``."""
    ends = sorted({end for axis in (one, other) if axis.joined for end in _ends(axis)})
    sizes = np.diff([0, *ends]).tolist()
    for first, second in zip(split(one, sizes), split(other, sizes), strict=True):
        tie(first, second)


def _ends(axis: Axis) -> list[int]:
    return np.cumsum([part.size for part in axis.parts]).tolist()


def _split_joined(root: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Stretches of parts, which are cut themselves where a stretch ends within them."""
    queue, found = list(root.parts), []
    for size in sizes:
        taken: list[Axis] = []
        while size:
            part = queue.pop(0)
            if part.size > size:
                part, rest = split(part, [size, part.size - size])
                queue.insert(0, rest)
            taken.append(part)
            size -= part.size
        found.append(joined(taken))
    return found


def _split_product(root: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Stretches of whole slowest indices; other stretches fix the order of all."""
    first, *rest = root.parts
    inner = root.size // first.size
    if any(size % inner for size in sizes):
        root.pin("a part of a product")
        return [Axis(size, "a part of a product") for size in sizes]
    outer = split(first, [size // inner for size in sizes])
    return [product([axis, *rest]) for axis in outer]


def _tie_products(one: Axis, other: Axis) -> None:
    xs, ys = _factors(one), _factors(other)
    while xs and ys:
        x, y = xs.pop(0), ys.pop(0)
        if x.size > y.size and x.size % y.size == 0:
            x, rest = _divided(x, y.size)
            xs.insert(0, rest)
        elif y.size > x.size and y.size % x.size == 0:
            y, rest = _divided(y, x.size)
            ys.insert(0, rest)
        elif x.size != y.size:
            return _pin([x, y, *xs, *ys], "two ways to divide the units")
        tie(x, y)


def _factors(axis: Axis) -> list[Axis]:
    root = axis.root()
    if not root.parts or root.joined:
        return [axis]
    return [factor for part in root.parts for factor in _factors(part)]


def _divided(axis: Axis, outer: int) -> tuple[Axis, Axis]:
    """A factor as a product of ``outer`` and the rest."""
    root, inner = axis.root(), axis.size // outer
    if not root.parts:
        pair = Axis(outer), Axis(inner)
        root.consist(pair, joined=False)
        return pair
    if root.joined:  # equal stretches are a product, if they have one order
        first, *others = split(root, [inner] * outer)
        for stretch in others:
            tie(first, stretch)
        return Axis(outer, "stretches of one kind"), first
    taken = _take(queue := _factors(root), outer)
    if taken is None:
        root.pin("two ways to divide the units")
        return Axis(outer, root.leaves()[0].pinned), Axis(inner, root.leaves()[0].pinned)
    return taken, product(queue)


def _take(queue: list[Axis], size: int) -> Axis | None:
    """The axis of a size that the queue's first elements make, which leave it; None for none."""
    taken = []
    while size > 1:
        if not queue:
            return None
        axis = queue.pop(0)
        if len(factors := _factors(axis)) > 1:
            queue[:0] = factors
            continue
        if size % axis.size == 0:
            size //= axis.size
        elif axis.size % size == 0:
            axis, rest = _divided(axis, size)
            queue.insert(0, rest)
            size = 1
        else:
            return None
        taken.append(axis)
    return product(taken)
