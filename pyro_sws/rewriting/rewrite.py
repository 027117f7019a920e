"""Free structure: a shorter network that computes the same, without idle units and in a new order.

A hidden unit that no later layer sees needs no weights. One that is constant can be a part of the
next layer's bias. And the order of the rest is arbitrary, so a coder may have the one it likes.
Torch and numpy.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pyro_sws.codec.container import encode
from pyro_sws.codec.loops import expecting
from pyro_sws.codec.symbols import Quantized
from pyro_sws.rewriting import units
from pyro_sws.rewriting.axes import Axis
from pyro_sws.rewriting.links import WHOLE, Link, Links, find_links
from pyro_sws.rewriting.ranges import Read, reads
from pyro_sws.rewriting.restored import restored
from pyro_sws.rewriting.unit_orders import ORDERS, candidate_orders
from pyro_sws.rewriting.units import Draft
from pyro_sws.weights.load import fill
from pyro_sws.weights.network import copied, plain
from pyro_sws.weights.structures import fed, mapped, tensors_in

SWEEPS = 2  # over the layers, in search of an order
SEARCHED = 1_000_000  # weights: in a larger network a link's orders are compared on a part of it,
COMPARED = 1 << 15  # of so many weights
ROUNDS = 8  # of dropping what dropped units alone had seen
SAME = 1e-3  # of the largest output: float32 sums in another order stay far below, mistakes do not

Length = Callable[[Quantized], int]


@dataclass(frozen=True, eq=False)
class Rewritten:
    """A network and its Quantized that compute what the given ones do, and what was done."""

    network: nn.Module  # a copy in eval mode, with the weights of ``quantized``
    quantized: Quantized  # of the same names and shapes
    hidden: int = 0  # units that could be rewritten
    silent: int = 0  # of them, those without weights and bias now
    dropped: int = 0  # of them, those made so because nothing saw them, or they were 0
    folded: int = 0  # of them, those made so because their constant is in the next bias
    orders: Mapping[str, str] = field(default_factory=dict)  # a layer's weight -> its units' order
    largest_difference: float | None = None  # of the outputs on the example, if there was one
    left_alone: Mapping[str, str] = field(default_factory=dict)  # a tensor, or "the network" -> why
    unit_counts: tuple[int, ...] = ()  # of each set of units whose order is free

    def summary(self) -> dict[str, Any]:
        """What was done, as a report has it."""
        done = {f.name: getattr(self, f.name) for f in fields(self)}
        del done["network"], done["quantized"]
        return {
            **done,
            "orders": dict(self.orders),
            "left_alone": dict(self.left_alone),
            "unit_counts": list(self.unit_counts),
        }


def rewrite(
    net: nn.Module,
    quantized: Quantized,
    *,
    length: Length | None = None,
    example: Any = None,
    nonnegative_inputs: bool = False,
) -> Rewritten:
    """The shortest of the networks tried that compute what ``quantized`` does in ``net``.

    What is not understood of the network's structure stays as it is, and ``left_alone`` says why.
    The search for an order encodes each layer some thirty times: install the extra ``fast`` for it.
    In a network of more than SEARCHED weights it compares parts, and does not encode the whole.

    Args:
        net: only its structure matters; it is not written to.
        quantized: what ``quantize`` returned, of this network.
        length: what to make short, a function of a Quantized, or of one that has some of its
            tensors; by default the bytes of the file.
        example: an input, with its batch dimension; a tuple holds positional arguments, a dict
            those by keyword, and a Structure may say more. The structure is read on its shapes, and
            the outputs on it, and on random inputs between its extremes, are compared as a last
            check. Without it one is guessed where the first layer is a linear one or a convolution.
        nonnegative_inputs: a promise, such as pixels can keep. The function then stays the same
            for these inputs alone: a rectified unit whose weights are all negative is always 0.

    Raises:
        ValueError: where names or shapes are not the network's.
    """
    if not isinstance(quantized, Quantized):
        kind = type(quantized).__name__
        raise TypeError(f"rewrite takes what quantize returned, such as run.quantized, got {kind}")
    own = copied(plain(net)).eval()  # the only copy: it becomes the network that is given back
    fill(own, quantized.tensors())
    found = find_links(own, example, stored={*quantized.symbols, *quantized.raw})
    given = Draft.of(quantized)
    best = _Shortened(given)
    if found.traces:
        sums = _reads(own, given, found, nonnegative_inputs)
        with expecting(len(ORDERS) * quantized.size):
            best = _shorten(given, quantized, found, sums, _Remembered(length or _file_length))
    best, difference, left = _checked(own, quantized, best, found)
    shorter = quantized if best.draft is given else best.draft.quantized()
    fill(own, shorter.tensors())  # anew: the network's own code has run
    return _reported(
        own, shorter, given, best, found, left, difference if example is not None else None
    )


class _Shortened(NamedTuple):
    draft: Draft
    folds: int = 0
    orders: Mapping[str, str] = {}


def _shorten(
    given: Draft, quantized: Quantized, found: Links, sums: Sequence[Read], length: Length
) -> _Shortened:
    """The shortest found, how many constants are folded in it, and its layers' orders."""
    draft = _without_idle(given, found.links, sums)
    if draft is not given:
        draft = _shorter_of(given, draft, length)
    draft, folds = _fold(draft, found.links, sums, length)
    ordered, orders = _order(draft, found, length)
    if quantized.size > SEARCHED:  # to encode all of it once more would take longer than all else
        return _Shortened(units.without_unused_values(ordered), folds, orders)
    best, least = _Shortened(given), length(quantized)
    for tried in (_Shortened(draft, folds), _Shortened(ordered, folds, orders)):
        size = least if tried.draft is given else length(tried.draft.quantized())
        if size < least:
            best, least = tried, size
    tidied = units.without_unused_values(best.draft)
    shorter = tidied is not best.draft and length(tidied.quantized()) < least
    return best._replace(draft=tidied) if shorter else best


def _shorter_of(one: Draft, other: Draft, length: Length) -> Draft:
    """The other where what it changes is shorter; else this very object.

    In a large network by an estimate: a weight less saves a byte, and a value more costs four.
    """
    names = other.changed(one)
    if sum(array.size for array in one.arrays.values()) > SEARCHED:
        gone = sum(np.count_nonzero(one.nonzero(n) & ~other.nonzero(n)) for n in names)
        values = [sum(map(len, draft.codebooks.values())) for draft in (one, other)]
        return other if gone > 4 * (values[1] - values[0]) else one
    return other if length(other.quantized(names)) < length(one.quantized(names)) else one


def _reads(own: nn.Module, draft: Draft, found: Links, nonnegative: bool) -> list[Read]:
    """What the network's weights read, with the values of a draft as the network computes them."""
    tensors = {**dict(own.named_buffers()), **dict(own.named_parameters())}

    def value(name: str) -> Tensor:
        dtype = tensors[name].dtype
        if name not in draft.arrays:
            return tensors[name].detach().cpu()
        stored = torch.from_numpy(np.array(draft.values(name))).to(dtype)
        return stored.to(torch.promote_types(dtype, torch.float32))

    with torch.no_grad():
        return reads(found.traces, value, nonnegative=nonnegative)


def _without_idle(draft: Draft, links: Sequence[Link], sums: Sequence[Read]) -> Draft:
    """Without weights that see only 0, and units that nothing sees, backwards: it cascades."""
    for read in sums:
        zero = (read.constants == 0).numpy()
        if read.weight in draft.arrays:
            draft = units.zeroed(draft, read.weight, read.axis, zero)
    for _ in range(ROUNDS):
        before = draft
        for link in reversed(links):
            draft = units.without_dead(draft, link)
        if draft is before:
            break
    return draft


def _fold(
    draft: Draft, links: Sequence[Link], sums: Sequence[Read], length: Length
) -> tuple[Draft, int]:
    """With constants in the next bias, layer by layer, where that is shorter; and how many."""
    count = 0
    for read in sums:
        if read.bordered or read.bias not in draft.arrays or read.weight not in draft.arrays:
            continue
        constants = read.constants.double().numpy()
        tried, seen = units.folded(draft, read.weight, read.axis, read.bias, constants)
        if tried is draft:
            continue
        fewer = _shorter_of(draft, _without_idle(tried, links, ()), length)
        if fewer is not draft:
            count += _folds(links, read, seen)
            draft = fewer
    return draft, count


def _folds(links: Sequence[Link], read: Read, seen: np.ndarray) -> int:
    """The number of units that were folded: one may be several columns."""
    for link in links:
        for place in link.places:
            if (place.name, place.axis) == (read.weight, read.axis):
                return len(set(place.unit[seen].tolist()))
    return int(seen.sum())


def _order(draft: Draft, found: Links, length: Length) -> tuple[Draft, dict[str, str]]:
    """In the orders that are shortest, link after link, and the name of each one's last."""
    orders: dict[Axis, np.ndarray] = {}
    chosen: dict[str, str] = {}
    large = sum(array.size for array in draft.arrays.values()) > SEARCHED
    for _ in range(1 if large else SWEEPS):
        better = False
        for link in found.links:
            own = units.arranged(units.part(draft, link), found.axes, orders)
            part = units.part(own, link, COMPARED if large else math.inf)
            name, order = _best_order(part, link, found, length)
            if order is not None:
                better, orders[link.leaf] = (
                    True,
                    orders.get(link.leaf, np.arange(link.units))[order],
                )
                chosen[_key(link, found.links)] = name
        if not better:
            break
    return (units.arranged(draft, found.axes, orders), chosen) if orders else (draft, {})


def _best_order(
    part: Draft, link: Link, found: Links, length: Length
) -> tuple[str, np.ndarray | None]:
    """The order of a link's units in which its tensors are shortest; None where they are."""
    names = set(part.arrays)
    least, best, chosen = length(part.quantized(names)), "", None
    for name, order in candidate_orders(*units.masks(part, link)).items():
        size = length(units.arranged(part, found.axes, {link.leaf: order}).quantized(names))
        if size < least:
            least, best, chosen = size, name, order
    return best, chosen


def _key(link: Link, links: Sequence[Link]) -> str:
    """A name of a link: its first weight, and the number of units where that has others too."""
    alike = [other for other in links if other.name == link.name]
    return link.name if alike[0] is link else f"{link.name} ({link.units} units)"


def _checked(
    net: nn.Module, quantized: Quantized, best: _Shortened, found: Links
) -> tuple[_Shortened, float | None, dict[str, str]]:
    """The shortened network, unless its outputs are others: then the given one, and why."""
    left = dict(found.left_alone)
    if not found.traces:
        return best, None, left
    shorter, differences = best.draft.quantized(), []
    floats = [example for example in found.examples if any(map(_is_float, tensors_in(example)))]
    for k, inputs in enumerate([*found.examples, *map(_random, floats)]):
        try:
            difference, scale = _difference(net, quantized, shorter, inputs)
        except Exception:  # random inputs need not be any that a network takes
            if k < len(found.examples):
                raise
            continue
        if k >= len(found.examples) and not math.isfinite(scale + difference):
            continue
        if not difference <= SAME * scale:
            left[WHOLE] = f"outputs differed by {difference:g}, where the largest is {scale:g}"
            return _Shortened(Draft.of(quantized)), None, left
        differences.append(difference)
    return best, differences[0], left


def _random(example: Any) -> Any:
    """Inputs of the same shapes, with floats between the smallest and the largest there."""
    generator = torch.Generator().manual_seed(0)

    def drawn(value: Any) -> Any:
        if not _is_float(value):
            return value
        uniform = torch.rand(value.shape, generator=generator).to(value)
        return value.min() + (value.max() - value.min()) * uniform

    return mapped(example, drawn)


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() > 0


def _difference(
    net: nn.Module, one: Quantized, other: Quantized, inputs: Any
) -> tuple[float, float]:
    """The largest difference between the outputs, of any structure, and ``one``'s largest."""
    first, second = _outputs(net, one, inputs), _outputs(net, other, inputs)
    pairs = [(a.double(), b.double()) for a, b in zip(first, second, strict=True) if a.numel()]
    found = [apart(a, b) for a, b in pairs]
    return max((d for d, _ in found), default=0.0), max((size for _, size in found), default=0.0)


def apart(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The largest difference between outputs, and the largest finite one of the first.

    Equal ones differ by 0, infinite or not, as where a class is ruled out by a logit of -inf.
    """
    difference = (other - one).masked_fill(one == other, 0).abs()
    return float(difference.max()), float(one.masked_fill(~one.isfinite(), 0).abs().max())


def _outputs(net: nn.Module, quantized: Quantized, inputs: Any) -> list[Tensor]:
    """All tensors in the output, with these weights; those who draw draw the same each time."""
    fill(net, quantized.tensors())
    with restored(net), torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = fed(net, inputs)
    # Clones: an output may be a view of the weights, which change.
    return [leaf.clone() for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]


class _Remembered:
    """A length that is asked once for what is the same."""

    def __init__(self, length: Length):
        self._length = length
        self._known: dict[bytes, int] = {}

    def __call__(self, quantized: Quantized) -> int:
        key = quantized.digest
        if key not in self._known:
            self._known[key] = self._length(quantized)
        return self._known[key]


def _file_length(quantized: Quantized) -> int:
    return len(encode(quantized))


def _reported(
    network: nn.Module,
    quantized: Quantized,
    given: Draft,
    best: _Shortened,
    found: Links,
    left: Mapping[str, str],
    difference: float | None,
) -> Rewritten:
    before, after = (
        sum(int(units.silent(draft, link).sum()) for link in found.links)
        for draft in (given, best.draft)
    )
    return Rewritten(
        network=network,
        quantized=quantized,
        hidden=sum(link.units for link in found.links),
        silent=after,
        dropped=max(0, after - before - best.folds),
        folded=best.folds,
        orders=best.orders,
        largest_difference=difference,
        left_alone=left,
        unit_counts=tuple(link.units for link in found.links),
    )
