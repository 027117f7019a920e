"""A network's computation as a graph of ATen operations, without computing. Torch only.

PyTorch's own tracer runs the network on tensors without values, which follows any Python code that
does not depend on what inputs hold.
"""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_map

from pyro_sws.rewriting.restored import restored
from pyro_sws.weights.structures import run_with, taken_apart

SIDES = (*range(1, 33), 48, 64, 96, 128, 224, 256)  # pixels of images that are guessed
GUESSES = 2  # inputs that a network must be understood on, where none is given


@dataclass(frozen=True, eq=False)
class Trace:
    """A graph, and what its placeholders are."""

    graph: fx.Graph
    stored: Mapping[fx.Node, str]  # the placeholder of a parameter or buffer -> its name

    def target(self, node: fx.Node) -> Any:
        """The constant tensor that a node has, which was none of the network's."""
        return getattr(self.graph.owning_module, str(node.target))


def traced(net: nn.Module, example: Any) -> Trace:
    """The trace of a network in eval mode on inputs of the example's shapes.

    The network's own code runs, and what that leaves behind is taken away; but if it may write into
    its parameters, give a copy. Raises whatever that code does, and where it looks at values.
    """
    state = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    value, forward = taken_apart(example)

    def computed(tensors: dict[str, Tensor], given: Any) -> Any:
        return run_with(net, tensors, given, forward)

    with restored(net), torch.no_grad(), torch.random.fork_rng(devices=[]), mode:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = make_fx(functionalize(computed), _allow_non_fake_inputs=True)(
                *tree_map(_without_values, (state, value))
            )
    for node in reversed(module.graph.nodes):  # what no output depends on ties nothing
        if node.op in ("call_function", "get_attr") and not node.users and not in_place(node):
            module.graph.erase_node(node)
    places = [node for node in module.graph.nodes if node.op == "placeholder"]
    return Trace(module.graph, dict(zip(places, state, strict=False)))


def in_place(node: fx.Node) -> bool:
    """Whether an operation writes into a tensor that it takes."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)


def _without_values(value: Any) -> Any:
    """A tensor's shape, dtype and device: under the tracer's mode it has no more."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)


def guessed(net: nn.Module) -> list[Tensor]:
    """Inputs of the shapes that the first layer may be made for, on which the network runs.

    Two at most, so that what happens to hold for one shape is seen on another.
    """
    found = []
    for example in _possible(net):
        try:
            with restored(net), torch.no_grad(), torch.random.fork_rng(devices=[]):
                net(example)
        except Exception:  # a network's own code may fail in any way
            continue
        found.append(example)
        if len(found) == GUESSES:
            break
    return found


def _possible(net: nn.Module) -> Iterator[Tensor]:
    for layer in net.modules():
        own = next(layer.parameters(recurse=False), None)
        if own is None:
            continue
        if isinstance(layer, nn.Linear):
            sizes = [(2, layer.in_features), (2, 3, layer.in_features)]
        elif isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            axes = own.dim() - 2
            sizes = [(2, layer.in_channels, *[side] * axes) for side in SIDES]
        else:
            return
        yield from (torch.zeros(size, dtype=own.dtype, device=own.device) for size in sizes)
        return
