"""Links: units that run through several tensors, found by reading the network's trace. Torch only.

A link's units may have any order, as long as it is the same in all their places.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from pyro_sws.rewriting.axes import Axis, unit_of
from pyro_sws.rewriting.trace import Trace, guessed, in_place, traced
from pyro_sws.rewriting.traced_ops import (
    INPUT,
    NATURAL,
    OUTPUT,
    VIEWS,
    Call,
    Reads,
    Seen,
    apply,
    fixed,
    flat,
    is_uniform,
    keeps_origin,
)

WHOLE = "the network"  # what was left alone, where nothing is understood


@dataclass(frozen=True, eq=False)
class Place:
    """Where a link's units are: along an axis of a stored tensor."""

    name: str
    axis: int
    layout: Axis
    unit: np.ndarray  # (size of the axis,): which unit each index belongs to; -1: none
    reads: bool  # the units are summed over here: 0 does not see them
    parameter: bool  # buffers move along, but keep their values


@dataclass(frozen=True, eq=False)
class Link:
    """Units that have one order, all their places, and whether those that nothing reads may go."""

    leaf: Axis
    places: tuple[Place, ...]
    droppable: bool

    @property
    def units(self) -> int:
        return self.leaf.size

    @property
    def name(self) -> str:
        """The first weight that makes the units."""
        making = [place.name for place in self.places if not place.reads]
        return (making or [self.places[0].name])[0]


@dataclass(frozen=True, eq=False)
class Links:
    """What is known of a network's structure."""

    links: tuple[Link, ...] = ()
    axes: Mapping[str, tuple[Axis, ...]] = field(default_factory=dict)  # of the stored tensors
    left_alone: Mapping[str, str] = field(default_factory=dict)  # a tensor -> why
    traces: tuple[Trace, ...] = ()
    examples: tuple[Any, ...] = ()  # that they are of


def find_links(
    net: nn.Module, example: Any = None, *, stored: Collection[str] | None = None
) -> Links:
    """The links of a network in eval mode, and why what has none was left alone.

    Args:
        net: its own code runs; see ``traced``.
        example: an input; a tuple is positional arguments, a dict keywords. By default one is
            guessed, where the first layer says what it may be.
        stored: the tensors that may move; by default all parameters and buffers.
    """
    examples = guessed(net) if example is None else [example]
    if not examples:
        return Links(left_alone={WHOLE: "its inputs are not known; give an example"})
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    axes = {name: tuple(map(Axis, tensor.shape)) for name, tensor in tensors.items()}
    reads = Reads(axes)
    failed = "its forward cannot be traced"
    try:
        traces = tuple(traced(net, inputs) for inputs in examples)
        failed = "what was traced of its forward is not understood"
        for trace in traces:
            _read(trace, axes, reads)
        reads.settle()
    except Exception as error:  # a network's own code may fail without values in any way
        reason = str(error).strip().partition("\n")[0]
        if isinstance(error, DataDependentOutputException):
            reason = "it looks at what tensors hold"
        return Links(left_alone={WHOLE: f"{failed}: {reason}"[:300]})
    for name in axes.keys() - set(axes if stored is None else stored):
        for axis in axes[name]:
            axis.pin("a tensor that no file holds")
    parameters = {name for name, _ in net.named_parameters()}
    links = _collected(axes, reads, parameters)
    return Links(links, axes, _left_alone(axes, parameters), traces, tuple(examples))


def _read(trace: Trace, axes: Mapping[str, tuple[Axis, ...]], reads: Reads) -> None:
    """Tie, mix and pin axes as the operations of a trace do."""
    seen: dict[fx.Node, Any] = {}
    for node in trace.graph.nodes:
        if node.op == "placeholder":
            seen[node] = _placeholder(node, trace.stored.get(node), axes)
        elif node.op == "get_attr":
            shape = getattr(trace.target(node), "shape", ())
            seen[node] = Seen(fixed(shape, "a constant"), live=False)
        elif node.op == "output":
            for leaf in flat(_replaced(node.args, seen)):
                for axis in leaf.axes if isinstance(leaf, Seen) else ():
                    axis.pin(OUTPUT)
        elif not _is_operation(node):  # result[i] of an operation with several
            seen[node] = seen[node.args[0]][node.args[1]]
        else:
            seen[node] = _result(node, seen, reads)


def _placeholder(
    node: fx.Node, name: str | None, axes: Mapping[str, tuple[Axis, ...]]
) -> Seen | None:
    if name is None:
        value = node.meta.get("val")
        return Seen(fixed(value.shape, INPUT)) if isinstance(value, Tensor) else None
    if not node.users:
        for axis in axes[name]:
            axis.pin("nothing uses it on the example")
    return Seen(axes[name], live=False, origin=name)


def _is_operation(node: fx.Node) -> bool:
    return hasattr(node.target, "overloadpacket")


def _result(node: Any, seen: Mapping[fx.Node, Any], reads: Reads) -> Any:
    values = node.meta["val"]
    several = isinstance(values, tuple | list)
    values = values if several else (values,)
    call = Call(
        name=node.target.overloadpacket.__name__,
        args=_replaced(node.args, seen),
        kwargs=_replaced(node.kwargs, seen),
        shapes=[tuple(v.shape) if isinstance(v, Tensor) else () for v in values],
        used=frozenset(u.args[1] for u in node.users if u.users) if several else frozenset({0}),
        reads=reads,
    )
    live = any(tensor.live for tensor in call.tensors)
    origin = call.tensors[0].origin if call.tensors and keeps_origin(call) else None
    uniform = is_uniform(call) and not _written(node)
    results = [Seen(axes, live, origin, uniform) for axes in apply(call)]
    reads.reached.extend(axis for tensor in results if live for axis in tensor.axes)
    return results if several else results[0]


def _written(node: fx.Node) -> bool:
    """Whether anything writes into a tensor, or into a view of it."""
    return any(in_place(user) or (_is_view(user) and _written(user)) for user in node.users)


def _is_view(node: Any) -> bool:
    return not _is_operation(node) or node.target.overloadpacket.__name__ in VIEWS


def _replaced(value: Any, seen: Mapping[fx.Node, Any]) -> Any:
    """The arguments with what is known in place of nodes; numbers that are computed stay nodes."""
    if isinstance(value, fx.Node):
        known = seen.get(value, value)
        return known.anew() if isinstance(known, Seen) else known
    if isinstance(value, dict):
        return {key: _replaced(each, seen) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_replaced(each, seen) for each in value)
    return value


def _collected(
    axes: Mapping[str, tuple[Axis, ...]], reads: Reads, parameters: Collection[str]
) -> tuple[Link, ...]:
    """The free leaves with their places.

    What no tensor that depends on inputs has, such as the places beyond a short example's in a
    table of which it takes the first, is no unit.
    """
    reached = {leaf for axis in reads.reached for leaf in axis.leaves()}
    places: dict[Axis, list[Place]] = {}
    for name, own in axes.items():
        for k, axis in enumerate(own):
            for leaf in dict.fromkeys(axis.leaves()):
                if leaf in reached and not leaf.pinned and leaf.size > 1:
                    read = (name, k) in reads.warm
                    found = Place(name, k, axis, unit_of(axis, leaf), read, name in parameters)
                    places.setdefault(leaf, []).append(found)
    return tuple(
        Link(leaf, tuple(found), not leaf.mixed and any(place.reads for place in found))
        for leaf, found in places.items()
        if not any((place.unit == -2).any() for place in found)
    )


def _left_alone(
    axes: Mapping[str, tuple[Axis, ...]], parameters: Collection[str]
) -> dict[str, str]:
    """The tensors whose units could move but for an operation, and which that was."""
    left: dict[str, str] = {}
    for name in (name for name in axes if name in parameters):
        for axis in axes[name]:
            reasons = [leaf.pinned for leaf in axis.leaves() if leaf.size > 1]
            unusual = [reason for reason in reasons if reason not in NATURAL]
            if unusual and all(reasons):
                left.setdefault(name, unusual[0])
    return left
