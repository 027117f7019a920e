"""Links: which layer alone sees which layer's units, found by tracing the network. Torch only."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pyro_sws.rewriting.restored import restored
from pyro_sws.rewriting.traced_ops import (
    asks_shape,
    batch_of,
    elementwise,
    flattening,
    keeps_sign,
    pooling,
    rectifies,
    spatial_mean,
)

CHANNELS, FLAT, FEATURES = "channels", "flat", "features"  # where a tensor has its units


@dataclass(frozen=True)
class Layer:
    """The names of a Linear's or Conv2d's tensors."""

    weight: str
    bias: str | None


@dataclass(frozen=True, eq=False)
class Link:
    """The units of ``before``, which ``after`` alone sees, and what they pass on the way to it.

    Unit u is row u of ``before``'s weight and bias, and the ``repeat`` columns from ``repeat * u``
    on of ``after``'s weight.
    """

    before: Layer
    after: Layer
    units: int
    repeat: int
    steps: tuple[Callable[[Tensor], Tensor], ...]
    bordered: bool  # ``after`` pads with zeros, so that a constant is none at the border
    rectified: bool  # ``before`` sees nothing negative, and all it makes that is becomes 0
    stored: torch.dtype  # of the network's own weights, which its biases are rounded to,
    dtype: torch.dtype  # and that constants are computed in: thresholds are met as it meets them

    def constants(self, bias: Tensor) -> Tensor:
        """What ``after`` sees of units that are constant: (units,) -> (units,) in float64.

        NaN where it sees no constant.
        """
        value = bias.detach().cpu().to(self.stored).to(self.dtype)
        for step in (*self.steps, *((only_zero,) if self.bordered else ())):
            value = torch.where(value.isfinite(), step(value.clone()), math.nan)
        return value.double()


def find_links(
    net: nn.Module, example: Tensor | None = None, *, nonnegative_inputs: bool = False
) -> tuple[Link, ...]:
    """The links of a network in eval mode, in the order of its computation; () if none is sure.

    A link is there where a Linear or a Conv2d without groups reaches the next one through
    element-wise functions, pooling and flattening alone, each tensor is used once, and no parameter
    is shared. Inputs are taken to be batches. ``example``, an input, lets more reshapes be
    understood: its shapes say what they do. ``nonnegative_inputs`` is a promise about every input.

    The network's own code runs, and what that leaves behind is taken away; but if it may write into
    its parameters, give a copy.
    """
    if any(_is_tampered(module) for module in net.modules()):
        return ()
    try:
        with restored(net), torch.no_grad(), torch.random.fork_rng(devices=[]):
            with _NoArithmetic():
                graph = fx.Tracer().trace(net)
            shapes = _shapes(net, graph, example)
    except Exception:  # a network's own code may fail on a proxy in any way
        return ()
    walker = _Walker(net, graph, shapes, nonnegative_inputs)
    links = [walker.link(node) for node in graph.nodes if walker.layer(node) is not None]
    return tuple(link for link in links if link is not None)


def only_zero(value: Tensor) -> Tensor:
    """What passes zero padding unchanged: 0 alone."""
    return torch.where(value == 0, value, math.nan)


class _NoArithmetic(TorchDispatchMode):
    """Proxies alone may be computed with: what is made of a weight while tracing is a constant."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} of a tensor while tracing")


class _Shapes(fx.Interpreter):
    """Runs a graph, and keeps the shape of each tensor, by the name of its node."""

    def __init__(self, net: nn.Module, graph: fx.Graph):
        super().__init__(net, graph=graph)
        self.shapes: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node):
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n.name] = tuple(result.shape)
        return result


def _shapes(net: nn.Module, graph: fx.Graph, example: Tensor | None) -> dict[str, tuple[int, ...]]:
    if example is None:
        return {}
    interpreter = _Shapes(net, graph)
    interpreter.run(example)
    return interpreter.shapes


def _is_tampered(module: nn.Module) -> bool:
    """Whether a module computes more than its class says: hooks, or a forward of its own."""
    hooks = (module._forward_hooks, module._forward_pre_hooks)
    return any(hooks) or "forward" in module.__dict__


def _tensors(net: nn.Module) -> list[Tensor]:
    """Every parameter and buffer, as often as it has names."""
    parameters = [p for _, p in net.named_parameters(remove_duplicate=False)]
    return parameters + [b for _, b in net.named_buffers(remove_duplicate=False)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class _Walker:
    """A traced network, and the way from a layer to the next."""

    def __init__(self, net: nn.Module, graph: fx.Graph, shapes: dict, nonnegative_inputs: bool):
        self.modules = dict(net.named_modules())
        self.shapes: dict[str, tuple[int, ...]] = shapes
        self.nonnegative_inputs = nonnegative_inputs
        self.names = Counter(_storage(tensor) for tensor in _tensors(net))
        self.uses: Counter[int] = Counter()
        for node in graph.nodes:
            if node.op == "call_module":
                self.uses.update({_storage(t) for t in _tensors(self.modules[node.target])})
            elif node.op == "get_attr":
                path, _, leaf = node.target.rpartition(".")
                value = getattr(self.modules.get(path), leaf, None)
                if isinstance(value, Tensor):
                    self.uses[_storage(value)] += 1

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules.get(str(node.target)) if node.op == "call_module" else None

    def layer(self, node: fx.Node) -> nn.Linear | nn.Conv2d | None:
        """The layer that a node calls, if its tensors are its own and its units may move."""
        module = self.module(node)
        if type(module) is not nn.Linear and type(module) is not nn.Conv2d:
            return None
        assert isinstance(module, nn.Linear | nn.Conv2d)
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            return None
        storages = [_storage(p) for p in module.parameters()]
        alone = all(self.names[s] == 1 and self.uses[s] == 1 for s in storages)
        return module if alone and len(node.args) == 1 and not node.kwargs else None

    def link(self, start: fx.Node) -> Link | None:
        """The link from the layer at ``start``, if all on the way to the next is understood."""
        before = self.layer(start)
        assert before is not None
        layout = CHANNELS if isinstance(before, nn.Conv2d) else FEATURES
        node = start
        steps: list[Callable[[Tensor], Tensor]] = []
        while True:
            user = _only_user(node)
            if user is None:
                return None
            if self.layer(user) is not None:
                return self._link_between(start, user, layout, tuple(steps))
            passed = self._passed(user, layout, before.weight.shape[0])
            if passed is None:
                return None
            (layout, step), node = passed, user
            steps.append(step)

    def _passed(self, node: fx.Node, layout: str, units: int) -> tuple[str, Callable] | None:
        """Where the units are after a node, and what it makes of a constant."""
        module = self.module(node)
        function = elementwise(node, module)
        if function is not None:
            return layout, function
        if layout == CHANNELS and (mean := spatial_mean(node)) is not None:
            return (CHANNELS if mean == "kept" else FLAT), _same
        if layout == CHANNELS and (pool := pooling(node, module)) is not None:
            return layout, (only_zero if pool == "bordered" else _same)
        if self._flattens(node, module, layout, units):
            return (FEATURES if layout == FEATURES else FLAT), _same
        return None

    def _flattens(self, node: fx.Node, module: nn.Module | None, layout: str, units: int) -> bool:
        """Whether a node makes (B, ...) to (B, all the rest) and is known to."""
        kind = flattening(node, module)
        if kind == "flatten":
            return True
        if kind == "view":
            source, given = node.args[0], batch_of(node)
            assert isinstance(source, fx.Node)
            if given is not None and self._root(given) is self._root(source):
                return True
            if layout == FEATURES and node.args[1:] in ((-1, units), ((-1, units),)):
                return True
            before, after = self.shapes.get(source.name), self.shapes.get(node.name)
            return bool(before and after == (before[0], math.prod(before[1:])))
        return False

    def _is_rectified(self, layer: fx.Node) -> bool:
        """Whether a layer sees nothing negative, and the next one nothing of its negative sums."""
        source, after = layer.args[0], _only_user(layer)
        while isinstance(source, fx.Node) and keeps_sign(source, self.module(source)):
            source = source.args[0] if _only_user(source) else None
        while after is not None and keeps_sign(after, self.module(after)):
            after = _only_user(after)
        # A tensor of two users might be changed in place by the other.
        if not isinstance(source, fx.Node) or _only_user(source) is None or after is None:
            return False
        known = rectifies(source, self.module(source))
        known = known or (source.op == "placeholder" and self.nonnegative_inputs)
        return known and rectifies(after, self.module(after))

    def _root(self, node: fx.Node) -> fx.Node:
        """The first tensor on the way back whose examples are this one's, one for one."""
        while node.args and isinstance(node.args[0], fx.Node):
            module = self.module(node)
            keeps = (
                type(module) in (nn.Linear, nn.Conv2d)
                or elementwise(node, module) is not None
                or pooling(node, module) is not None
                or flattening(node, module) == "flatten"
            )
            if not keeps:
                return node
            node = node.args[0]
        return node

    def _link_between(self, start: fx.Node, end: fx.Node, layout: str, steps: tuple) -> Link | None:
        before, after = self.layer(start), self.layer(end)
        assert before is not None and after is not None
        units, columns = before.weight.shape[0], after.weight.shape[1]
        if isinstance(after, nn.Conv2d):
            fits = layout == CHANNELS and columns == units
        else:
            fits = columns == units if layout == FEATURES else layout == FLAT
        batched = isinstance(before, nn.Linear) or len(self.shapes.get(start.name, "BCHW")) == 4
        if not fits or not batched or not units or columns % units:
            return None
        return Link(
            before=_named(start, before),
            after=_named(end, after),
            units=units,
            repeat=columns // units,
            steps=steps,
            bordered=isinstance(after, nn.Conv2d) and _pads_zeros(after),
            rectified=self._is_rectified(start),
            stored=before.weight.dtype,
            dtype=torch.promote_types(before.weight.dtype, torch.float32),
        )


def _only_user(node: fx.Node) -> fx.Node | None:
    """The one that takes a tensor first of all, if no other does more than ask for its shape."""
    users = [user for user in node.users if not asks_shape(user)]
    return users[0] if len(users) == 1 and users[0].args[:1] == (node,) else None


def _same(value: Tensor) -> Tensor:
    return value


def _named(node: fx.Node, layer: nn.Linear | nn.Conv2d) -> Layer:
    prefix = f"{node.target}."
    return Layer(f"{prefix}weight", None if layer.bias is None else f"{prefix}bias")


def _pads_zeros(layer: nn.Conv2d) -> bool:
    padding = layer.padding
    unpadded = padding == "valid" or (not isinstance(padding, str) and not any(padding))
    return layer.padding_mode == "zeros" and not unpadded
