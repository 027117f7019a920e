"""Tensors that a network leads to besides its parameters and buffers: in attributes, in functions.

No file holds them, and a fit does not exchange them. Torch only.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import CellType, FunctionType, MethodType

from torch import Tensor, nn

REGISTERED = ("_parameters", "_buffers", "_modules")
TELLING = 4  # different values: where these are the same in two tensors, it is no chance


def is_telling(values: Tensor) -> bool:
    """Whether most of its values differ, so that the same ones elsewhere are a copy, no chance.

    Ones, zeros and identities are met in many places.
    """
    return len(values.unique()) >= max(TELLING, values.numel() / 2)


def held_tensors(net: nn.Module) -> Iterator[Tensor]:
    """Tensors in attributes, and lists and dicts in them, that are no parameter and no buffer."""
    for _, tensor in named_held(net):
        yield tensor


def named_held(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The same, each with the attribute that it is in: "0.prepared"."""
    known = {id(t) for t in (*net.parameters(), *net.buffers())}
    for name, module in net.named_modules():
        own = {k: v for k, v in vars(module).items() if k not in ("_parameters", "_buffers")}
        for attribute, value in own.items():
            for tensor in _tensors_in(value):
                if id(tensor) not in known:
                    yield f"{name}.{attribute}".removeprefix("."), tensor


def captured(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that functions in attributes and hooks have from where they were made.

    A deep copy has the same functions: these tensors may be those of another network.
    """
    known = {id(t) for t in (*net.parameters(), *net.buffers())}
    for name, module in net.named_modules():
        for attribute, value in vars(module).items():
            functions = value.values() if isinstance(value, Mapping) else [value]
            for tensor in (t for f in functions for t in _captured_by(f)):
                if id(tensor) not in known:
                    yield f"{name}.{attribute}".removeprefix("."), tensor


def unregistered(net: nn.Module) -> dict[str, list[Tensor]]:
    """Parameters that attributes lead to and no module registers, as of layers in a list.

    By attribute, as in ``named_held``. They are of this network alone: a deep copy has its own.
    """
    known = {id(p) for p in net.parameters()}
    found: dict[str, list[Tensor]] = {}
    for name, module in net.named_modules():
        own = {k: v for k, v in vars(module).items() if k not in REGISTERED}
        for attribute, value in own.items():
            if theirs := [p for p in _parameters_in(value) if id(p) not in known]:
                found[f"{name}.{attribute}".removeprefix(".")] = theirs
    return found


def _parameters_in(value: object, depth: int = 3) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if isinstance(value, nn.Parameter) or _is_trained(value) else []
    if isinstance(value, MethodType):
        value = value.__self__
    if isinstance(value, nn.Module):
        return list(value.parameters())
    if isinstance(value, Mapping):
        value = list(value.values())
    if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        value = list(vars(value).values())
    if not isinstance(value, list | tuple | set) or not depth:
        return []
    return [p for part in value for p in _parameters_in(part, depth - 1)]


def _is_trained(tensor: Tensor) -> bool:
    return tensor.is_leaf and tensor.requires_grad


def _captured_by(function: object) -> Iterable[Tensor]:
    if isinstance(function, partial):
        inside = [*function.args, *function.keywords.values()]
        return [*_tensors_in(inside), *_captured_by(function.func)]
    if not isinstance(function, FunctionType):
        return []
    cells = [cell for cell in function.__closure__ or () if cell != CellType()]
    inside = [cell.cell_contents for cell in cells] + list(function.__defaults__ or ())
    return [*_tensors_in(inside), *_parameters_in(inside)]


def _tensors_in(value: object, depth: int = 3) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, nn.Module | type) or callable(value):
        return []
    if not isinstance(value, list | tuple | set) and hasattr(value, "__dict__"):
        value = list(vars(value).values())  # an object of the user's, such as a cache
    if not isinstance(value, list | tuple | set) or not depth:
        return []
    return [tensor for part in value for tensor in _tensors_in(part, depth - 1)]
