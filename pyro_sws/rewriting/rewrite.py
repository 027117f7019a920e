"""Free structure: a shorter network that computes the same, without idle units and in a new order.

A hidden unit that no later layer sees needs no weights. One that is constant can be a part of the
next layer's bias. And the order of the rest is arbitrary, so a coder may have the one it likes.
Torch and numpy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pyro_sws.codec.container import encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.rewriting import units
from pyro_sws.rewriting.links import Link, find_links
from pyro_sws.rewriting.restored import restored
from pyro_sws.rewriting.unit_orders import candidate_orders
from pyro_sws.weights.load import fill
from pyro_sws.weights.network import copied, plain

SWEEPS = 2  # over the layers, in search of an order
SEARCHED = 1_000_000  # weights: larger networks are coded once a layer, with the first candidate
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

    def summary(self) -> dict[str, int | float | dict[str, str] | None]:
        """What was done, as a report has it."""
        done = {f.name: getattr(self, f.name) for f in fields(self)}
        del done["network"], done["quantized"]
        return {**done, "orders": dict(self.orders)}


def rewrite(
    net: nn.Module,
    quantized: Quantized,
    *,
    length: Length | None = None,
    example: Tensor | None = None,
    nonnegative_inputs: bool = False,
) -> Rewritten:
    """The shortest of the networks tried that compute what ``quantized`` does in ``net``.

    Where the network's structure is not understood (branches, shared weights, normalization, ...)
    nothing changes; see ``find_links``. The search for an order encodes some fifty times: install
    the extra ``fast`` for it.

    Args:
        net: only its structure matters; it is not written to.
        quantized: what ``quantize`` returned, of this network.
        length: what to make short, a function of a Quantized; by default the bytes of its file.
        example: an input, with its batch dimension. With it more structure is understood, and the
            outputs on it are compared as a last check.
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
    links = find_links(own, example, nonnegative_inputs=nonnegative_inputs)
    links = tuple(link for link in links if units.holds(quantized, link))
    best, folds, orders = _shorten(quantized, links, _file_length if length is None else length)
    difference = None
    if links and example is not None:
        difference, scale = _difference(own, quantized, best, example)
        if not difference <= SAME * scale:
            best, folds, orders, difference = quantized, 0, {}, None
    fill(own, best.tensors())  # anew: the network's own code has run
    return _reported(own, quantized, best, links, folds, orders, difference)


class _State(NamedTuple):
    quantized: Quantized
    bytes: int

    def or_shorter(self, other: Quantized, length: Length) -> "_State":
        """The other one where it is shorter; else this very object."""
        size = length(other)
        return _State(other, size) if size < self.bytes else self


def _shorten(
    quantized: Quantized, links: Sequence[Link], length: Length
) -> tuple[Quantized, int, dict[str, str]]:
    """The shortest found, how many constants are folded in it, and its layers' orders."""
    if not links:
        return quantized, 0, {}
    judge = _Remembered(length)
    state = _State(quantized, judge(quantized))
    state = _prune(state, links, judge)
    state, folds = _fold(state, links, judge)
    state, orders = _order(state, links, judge)
    return _tidy(state, judge).quantized, folds, orders


def _difference(
    net: nn.Module, one: Quantized, other: Quantized, inputs: Tensor
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


def _outputs(net: nn.Module, quantized: Quantized, inputs: Tensor) -> list[Tensor]:
    """All tensors in the output, with these weights; those who draw draw the same each time."""
    fill(net, quantized.tensors())
    with restored(net), torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = net(inputs)
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


def _prune(state: _State, links: Sequence[Link], length: Length) -> _State:
    fewer = _without_idle(state.quantized, links)
    return state if fewer is state.quantized else state.or_shorter(fewer, length)


def _without_idle(quantized: Quantized, links: Sequence[Link]) -> Quantized:
    """Without units that nothing sees, backwards, so that it cascades, and without constant 0s."""
    while True:
        before = quantized
        for link in reversed(links):
            quantized = units.without_dead(quantized, link)
        for link in links:
            quantized = units.without_zeros(quantized, link)
        if quantized is before:
            return quantized


def _fold(state: _State, links: Sequence[Link], length: Length) -> tuple[_State, int]:
    """With constants in the next bias, layer by layer, where that is shorter; and how many."""
    count = 0
    for link in links:  # forwards: what is folded can make units of the next layer constant
        quantized = units.folded(state.quantized, link)
        if quantized is state.quantized:
            continue
        folds = int(units.foldable(state.quantized, link).sum())
        tried = state.or_shorter(_without_idle(quantized, links), length)
        count += folds if tried is not state else 0
        state = tried
    return state, count


def _order(state: _State, links: Sequence[Link], length: Length) -> tuple[_State, dict[str, str]]:
    """In the orders that are shortest, layer after layer, and the name of each layer's last one."""
    orders = {}
    large = state.quantized.size > SEARCHED
    for _ in range(1 if large else SWEEPS):
        before = state
        for link in links:
            start = state.quantized
            seen = units.incoming(start, link), units.outgoing(start, link)
            candidates = candidate_orders(*seen)
            for name, order in list(candidates.items())[: 1 if large else None]:
                tried = state.or_shorter(units.permuted(start, link, order), length)
                if tried is not state:
                    orders[link.before.weight] = name
                state = tried
        if state is before:
            break
    return state, orders


def _tidy(state: _State, length: Length) -> _State:
    fewer = units.without_unused_values(state.quantized)
    return state if fewer is state.quantized else state.or_shorter(fewer, length)


def _reported(
    network: nn.Module,
    given: Quantized,
    quantized: Quantized,
    links: Sequence[Link],
    folds: int,
    orders: Mapping[str, str],
    difference: float | None,
) -> Rewritten:
    before, after = (
        sum(int(units.silent(q, link).sum()) for link in links) for q in (given, quantized)
    )
    return Rewritten(
        network=network,
        quantized=quantized,
        hidden=sum(link.units for link in links),
        silent=after,
        dropped=max(0, after - before - folds),
        folded=folds,
        orders=orders,
        largest_difference=difference,
    )
