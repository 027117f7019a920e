"""Traced operations: what each does to the units of a layer, if it is known. Torch only.

The lists are explicit: an operation that is in none of them is not understood, and nobody guesses.
"""

import operator
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

# Without parameters, each output from the one input at its place.
ACTIVATIONS: frozenset[type] = frozenset(
    {
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
        *(nn.Tanh, nn.Sigmoid, nn.LogSigmoid, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish),
        *(nn.Hardsigmoid, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Threshold, nn.Identity),
    }
)
DROPOUTS: frozenset[type] = frozenset(
    {nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout}
)
FUNCTIONS: frozenset[Callable] = frozenset(
    {
        *(F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, F.leaky_relu, F.elu, F.celu, F.selu),
        *(F.gelu, F.silu, F.mish, F.tanh, torch.tanh, F.sigmoid, torch.sigmoid, F.logsigmoid),
        *(F.softplus, F.softsign, F.hardtanh, F.hardswish, F.hardsigmoid, F.softshrink),
        *(F.hardshrink, F.tanhshrink, F.threshold, torch.clamp),
        *(operator.mul, operator.add, operator.sub, operator.truediv, operator.neg),
    }
)
METHODS = frozenset(
    {"relu", "relu_", "tanh", "tanh_", "sigmoid", "sigmoid_", "clamp", "clamp_", "contiguous"}
)
FUNCTION_DROPOUTS: frozenset[Callable] = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout}
)
RECTIFIERS: frozenset[object] = frozenset(
    {nn.ReLU, nn.ReLU6, F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, "relu", "relu_"}
)
ADAPTIVE_POOLS: frozenset[object] = frozenset(
    {
        *(nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
        *(F.adaptive_avg_pool2d, F.adaptive_max_pool2d),
    }
)
MAX_POOL_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
AVG_POOL_SETTINGS = (
    *("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
)


def elementwise(node: fx.Node, module: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
    """The element-wise function of one tensor and numbers that a node is, in eval mode."""
    if module is not None:
        if type(module) in DROPOUTS and not module.training:
            return _same
        return module if type(module) in ACTIVATIONS else None
    rest, settings = node.args[1:], dict(node.kwargs)
    if not _are_plain((*rest, *settings.values())):
        return None
    if node.op == "call_method" and node.target in METHODS:
        return lambda value: getattr(value, str(node.target))(*rest, **settings)
    if node.op != "call_function" or not callable(node.target):
        return None
    function: Callable = node.target
    if function in FUNCTION_DROPOUTS:
        trains = settings.get("training", rest[1] if len(rest) > 1 else True)
        return _same if trains is False else None
    return (lambda value: function(value, *rest, **settings)) if function in FUNCTIONS else None


def pooling(node: fx.Node, module: nn.Module | None) -> str | None:
    """How a node pools (B, C, H, W) channel by channel, into one tensor.

    "even" if a constant channel stays as it is, "bordered" if only 0 is sure to.
    """
    if type(module) in ADAPTIVE_POOLS:
        return "even" if not getattr(module, "return_indices", False) else None
    if type(module) is nn.MaxPool2d:
        return _max_pool(vars(module))
    if type(module) is nn.AvgPool2d:
        return _avg_pool(vars(module))
    if node.op != "call_function" or any(isinstance(a, fx.Node) for a in node.args[1:]):
        return None
    if node.target in ADAPTIVE_POOLS:
        given = _settings(node, ("output_size", "return_indices"))
        return "even" if not given.get("return_indices", False) else None
    if node.target in (F.max_pool2d, torch.max_pool2d):
        return _max_pool(_settings(node, MAX_POOL_SETTINGS))
    if node.target is F.avg_pool2d:
        return _avg_pool(_settings(node, AVG_POOL_SETTINGS))
    return None


def rectifies(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node makes 0 of what is negative, and never less."""
    if module is not None:
        return type(module) in RECTIFIERS
    return node.op in ("call_function", "call_method") and node.target in RECTIFIERS


def keeps_sign(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether a node's output is nowhere positive, or negative, if its input is not."""
    passes = type(module) in DROPOUTS or type(module) is nn.Identity
    return bool(passes or pooling(node, module) or flattening(node, module))


def spatial_mean(node: fx.Node) -> str | None:
    """Whether a node is the mean over the last two of (B, C, H, W): "kept" or "gone"."""
    is_mean = node.target == "mean" if node.op == "call_method" else node.target is torch.mean
    if not is_mean:
        return None
    given = _settings(node, ("dim", "keepdim"))
    dims = given.get("dim")
    if not isinstance(dims, tuple | list) or sorted(map(str, dims)) not in _LAST_TWO:
        return None
    if set(given) - {"dim", "keepdim"} or not isinstance(given.get("keepdim", False), bool):
        return None
    return "kept" if given.get("keepdim", False) else "gone"


_LAST_TWO = (["2", "3"], ["-1", "-2"], ["-1", "2"], ["-2", "3"])


def flattening(node: fx.Node, module: nn.Module | None) -> str | None:
    """ "flatten": to (B, all the rest). "view": a reshape that may or may not be that."""
    if type(module) is nn.Flatten:
        return "flatten" if (module.start_dim, module.end_dim) == (1, -1) else None
    is_flatten = node.op == "call_method" and node.target == "flatten"
    if is_flatten or node.target is torch.flatten:
        given = _settings(node, ("start_dim", "end_dim"))
        bounds = given.get("start_dim", 0), given.get("end_dim", -1)
        return "flatten" if bounds == (1, -1) and len(given) <= 2 else None
    is_view = node.op == "call_method" and node.target in ("view", "reshape")
    if (is_view or node.target is torch.reshape) and not node.kwargs:
        return "view"
    return None


def batch_of(view: fx.Node) -> fx.Node | None:
    """The tensor x of a reshape to (x.size(0), -1)."""
    sizes = view.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    if len(sizes) != 2 or sizes[1] != -1 or not isinstance(sizes[0], fx.Node):
        return None
    size = sizes[0]
    if size.op == "call_method" and size.target == "size" and _number(size) == 0:
        return _first(size)
    if size.target is operator.getitem and size.args[1] == 0:
        whole = size.args[0]
        if isinstance(whole, fx.Node) and asks_shape(whole) and len(whole.args) < 3:
            is_size = whole.target == "size" and len(whole.args) == 1 and not whole.kwargs
            return _first(whole) if is_size or whole.args[1:] == ("shape",) else None
    return None


def asks_shape(node: fx.Node) -> bool:
    """Whether a node asks for a tensor's shape alone, which no rewriting of weights changes."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel")
    return node.target is getattr and node.args[1] in ("shape", "ndim")


def _number(size: fx.Node) -> object:
    """The dimension that x.size(...) asks for, or None."""
    return size.kwargs.get("dim", size.args[1] if len(size.args) > 1 else None)


def _first(node: fx.Node) -> fx.Node | None:
    return node.args[0] if isinstance(node.args[0], fx.Node) else None


def _same(value: Tensor) -> Tensor:
    return value


def _are_plain(values: tuple) -> bool:
    return all(value is None or isinstance(value, bool | int | float | str) for value in values)


def _settings(node: fx.Node, names: tuple[str, ...]) -> dict[str, object]:
    """A call's arguments after the first, by name."""
    given: dict[str, object] = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
    if len(node.args) > 1 + len(names):  # x.flatten(0, 1, 2), x.mean(2, 3)
        given["more"] = node.args[1 + len(names) :]
    return given


def _max_pool(settings: Mapping[str, object]) -> str | None:
    if settings.get("return_indices", False):
        return None
    # A window that is dilated can lie in the padding alone, which is minus infinity.
    dilated = settings.get("dilation", 1) not in (1, (1, 1), [1, 1])
    return "bordered" if dilated and _is_padded(settings) else "even"


def _avg_pool(settings: Mapping[str, object]) -> str | None:
    divisor = settings.get("divisor_override")
    if divisor is not None and not (isinstance(divisor, int | float) and divisor > 0):
        return None
    counts_padding = settings.get("count_include_pad", True) and _is_padded(settings)
    return "bordered" if counts_padding or divisor is not None else "even"


def _is_padded(settings: Mapping[str, object]) -> bool:
    return settings.get("padding", 0) not in (0, (0, 0), [0, 0])
