"""Second moments of what a layer's weights multiply, from unlabelled inputs.

Of linear layers, convolutions in one and two dimensions, GRUs and attention's input projection.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PART = 100  # inputs at once
ENOUGH = 20_000  # of what a layer's weights multiply: patches, say


class _Seen(Exception):
    """The layer was reached: what follows need not be computed."""


def layers(net: nn.Module, example: Tensor) -> list[str]:
    """The modules whose moments are known, by name, in the order in which they are computed."""
    found: list[str] = []

    def note(name: str) -> Callable:
        return lambda module, args: found.append(name) if name not in found else None

    known = [(name, m) for name, m in net.named_modules() if _kind(m) is not None]
    hooks = [module.register_forward_pre_hook(note(name)) for name, module in known]
    with torch.no_grad():
        net.eval()(example)
    for hook in hooks:
        hook.remove()
    return found


def moments(net: nn.Module, layer: str, inputs: Tensor) -> dict[str, Tensor]:
    """Mean x x' of each weight of a layer: its tensor's name -> (columns, columns), float64."""
    module = net.get_submodule(layer)
    read = READERS[_kind(module)]  # type: ignore[index]
    sums: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def add(module: nn.Module, args: tuple, kwargs: Mapping, output: Any) -> None:
        for name, rows in read(module, args, kwargs, output).items():
            product = (rows.T @ rows).double()
            sums[name] = sums[name] + product if name in sums else product
            counts[name] = counts.get(name, 0) + len(rows)
        raise _Seen

    hook = module.register_forward_hook(add, with_kwargs=True)
    with torch.no_grad():
        for part in inputs.split(PART):
            if counts and min(counts.values()) >= ENOUGH:
                break
            try:
                net.eval()(part)
            except _Seen:
                pass
    hook.remove()
    prefix = f"{layer}." if layer else ""
    return {prefix + name: total / counts[name] for name, total in sums.items()}


def _kind(module: nn.Module) -> type | None:
    if getattr(module, "groups", 1) != 1:
        return None
    if isinstance(module, nn.GRU) and (module.num_layers > 1 or module.bidirectional):
        return None
    return next((kind for kind in READERS if isinstance(module, kind)), None)


def _linear(module: nn.Linear, args: tuple, kwargs: Mapping, output: Any) -> dict[str, Tensor]:
    return {"weight": args[0].flatten(0, -2)}


def _convolution(module: Any, args: tuple, kwargs: Mapping, output: Any) -> dict[str, Tensor]:
    """Rows are patches, in the order of a kernel's weights."""
    inputs = args[0] if args[0].dim() == 4 else args[0].unsqueeze(2)
    flat = inputs is not args[0]
    kernel, stride, dilation = (
        (1, *value) if flat else tuple(value)
        for value in (module.kernel_size, module.stride, module.dilation)
    )
    padded = functional.pad(args[0], module._reversed_padding_repeated_twice)
    padded = padded.unsqueeze(2) if flat else padded
    patches = functional.unfold(padded, kernel, dilation, 0, stride)
    return {"weight": patches.transpose(1, 2).flatten(0, 1)}


def _gru(module: nn.GRU, args: tuple, kwargs: Mapping, output: Any) -> dict[str, Tensor]:
    """States before a step are those after the one before, 0 at the first."""
    inputs, states = args[0], output[0]
    if not module.batch_first:
        inputs, states = inputs.transpose(0, 1), states.transpose(0, 1)
    before = functional.pad(states[:, :-1], (0, 0, 1, 0))
    return {"weight_ih_l0": inputs.flatten(0, 1), "weight_hh_l0": before.flatten(0, 1)}


def _attention(module: Any, args: tuple, kwargs: Mapping, output: Any) -> dict[str, Tensor]:
    if module.in_proj_weight is None:
        return {}
    return {"in_proj_weight": args[0].flatten(0, -2)}


READERS: dict[type, Callable[..., dict[str, Tensor]]] = {
    nn.modules.linear.NonDynamicallyQuantizableLinear: lambda *_: {},
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.GRU: _gru,
    nn.MultiheadAttention: _attention,
}
