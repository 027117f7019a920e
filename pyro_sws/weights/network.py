"""A network as it is given: taken out of its wrapper, refused where no file can hold it, copied.

``torch.compile``, ``AveragedModel``, ``DataParallel`` and ``DistributedDataParallel`` wrap a module
whose tensors have names of their own: that module is compressed, and the file's names have no
prefix. Torch only.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from pyro_sws.weights.held import held_tensors

WRAPPERS = (AveragedModel, DataParallel, DistributedDataParallel)  # all have it as ``module``
SHOWN = 8  # names in a message


def plain(net: nn.Module, what: str = "net") -> nn.Module:
    """The module itself, out of wrappers around the whole of it or around parts; it is no copy.

    Raises TypeError for what is no module, with the remedy for a class and a state dict.
    """
    if isinstance(net, type):
        raise TypeError(f"{what} is the class {net.__name__}; give an object of it")
    if isinstance(net, Mapping):
        raise TypeError(
            f"{what} is a dict ({type(net).__name__}), as a state dict is; build the module, call "
            "module.load_state_dict(...) and give the module"
        )
    if not isinstance(net, nn.Module):
        raise TypeError(f"{what} must be a torch.nn.Module, got {type(net).__name__}")
    return _rebuilt(net, {})


def _rebuilt(net: nn.Module, done: dict[int, nn.Module]) -> nn.Module:
    """The module without wrappers around it and its parts: itself, or a shell of the same parts."""
    net = _inside(net)
    if id(net) not in done:
        done[id(net)] = net  # a module may hold itself
        own = dict(net._modules.items())
        parts = {name: None if m is None else _rebuilt(m, done) for name, m in own.items()}
        if any(parts[name] is not m for name, m in own.items()):
            done[id(net)] = shell = copy.copy(net)
            shell.__dict__["_modules"] = parts
    return done[id(net)]


def _inside(net: nn.Module) -> nn.Module:
    """The module in a wrapper, and in one inside that.

    A class derived from a wrapper that has a forward of its own is a module like any other. Raises
    ValueError for a wrapper with hooks: the module inside would compute something else.
    """
    inner = _wrapped(net)
    if inner is None:
        return net
    if net._forward_hooks or net._forward_pre_hooks:
        raise ValueError(
            f"{type(net).__name__} around {type(inner).__name__} has a forward hook of its own, "
            "which the module inside would lack; register the hook on that module"
        )
    return _inside(inner)


def _wrapped(net: nn.Module) -> nn.Module | None:
    if type(net).__module__.startswith("torch._dynamo."):  # imported by name, it takes seconds
        return net._modules.get("_orig_mod")
    if not isinstance(net, WRAPPERS) or "forward" in vars(net):
        return None
    return net.module if type(net).forward in [w.forward for w in WRAPPERS] else None


def check_network(net: nn.Module) -> None:
    """Raise ValueError for a network that a fit or a file would silently get wrong; one line."""
    _check_scripts(net)
    _check_values(net)
    if "__metadata__" in dict(net.named_parameters()) | dict(net.named_buffers()):
        raise ValueError(
            "a tensor is named '__metadata__', which safetensors keeps for itself; rename it"
        )
    if prune.is_pruned(net):
        pruned = next(name for name, m in net.named_modules() if _masks(m))
        raise ValueError(
            f"module {pruned or type(net).__name__!r} is pruned by a mask; call "
            "torch.nn.utils.prune.remove(module, name) first, which makes the zeros weights"
        )
    _check_norms(net)
    _check_sharing(net)
    _check_extra_state(net)
    _check_state(net)


def check_values(net: nn.Module) -> None:
    """Raise ValueError for tensors that have no values, or none of their own."""
    _check_values(net)


def copied(net: nn.Module) -> nn.Module:
    """A deep copy; what a module keeps of an earlier pass is copied without its graph.

    Raises ValueError for a network that holds what cannot be copied.
    """
    kept = [t for t in held_tensors(net) if not t.is_leaf]
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in kept}
    try:
        return copy.deepcopy(net, memo)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{type(net).__name__} cannot be copied ({reason}); keep out of the module what "
            "copy.deepcopy cannot copy, such as locks, files and generators"
        ) from error


def make_gradients_dense(net: nn.Module) -> None:
    """Embeddings look up the same numbers, and no optimiser here takes sparse gradients."""
    for module in net.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False


def float_parameter(net: nn.Module) -> Tensor:
    """The first float parameter, in whose dtype a network computes; the first, if none is float."""
    parameters = list(net.parameters())
    return next((p for p in parameters if p.is_floating_point()), parameters[0])


def listed(names: Sequence[str]) -> str:
    """The first few of the names, for a message, and how many more there are."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _tensors(net: nn.Module) -> dict[str, tuple[str, Tensor]]:
    """Name -> what it is, and the tensor: parameters and buffers."""
    parameters = {name: ("parameter", p) for name, p in net.named_parameters()}
    return {**{name: ("buffer", b) for name, b in net.named_buffers()}, **parameters}


def _check_scripts(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"{f'module {name!r}' if name else 'the network'} is a ScriptModule, whose weights "
                "cannot be exchanged; give the Python module that it was made from"
            )


def _check_values(net: nn.Module) -> None:
    for name, (kind, tensor) in _tensors(net).items():
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
            raise ValueError(
                f"{kind} {name!r} has no shape yet, as lazy layers have not; run the network on a "
                "batch first"
            )
        if tensor.is_meta:
            raise ValueError(
                f"{kind} {name!r} is on the meta device and has no values; call "
                "net.to_empty(device='cpu') and net.load_state_dict(...) first"
            )
        if tensor.layout != torch.strided:
            layout = str(tensor.layout).removeprefix("torch.")
            raise ValueError(f"{kind} {name!r} is {layout}; make it dense with .to_dense()")
        if hasattr(tensor, "full_tensor"):
            raise ValueError(
                f"{kind} {name!r} is spread over processes; gather the whole network first"
            )


def _masks(module: nn.Module) -> bool:
    return any(isinstance(h, prune.BasePruningMethod) for h in module._forward_pre_hooks.values())


def _check_norms(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
            raise ValueError(
                f"{type(module).__name__} {name or 'the network'!r} has max_norm = "
                f"{module.max_norm:g}: it writes into its weights as it is used; renormalise them "
                "once and set max_norm = None"
            )


def _check_sharing(net: nn.Module) -> None:
    """Parameters that share memory would be fitted apart; a buffer that does would stay behind.

    By address, not by storage: each of two tensors made of one NumPy array has a storage.
    """
    tensors = [(name, *rest) for name, rest in _tensors(net).items() if rest[1].numel()]
    for name, kind, tensor in tensors:
        if kind == "parameter" and _own_overlap(tensor):
            raise ValueError(
                f"parameter {name!r} is expanded: its weights share their memory; give it its "
                "own with .clone()"
            )
    ahead: list[tuple[str, str, Tensor]] = []  # whose end may be behind the next one's start
    for name, kind, tensor in sorted(tensors, key=lambda each: _where(each[2])):
        ahead = [each for each in ahead if _where(each[2], end=True) > _where(tensor)]
        for other, other_kind, second in ahead:
            if "parameter" in (kind, other_kind) and _overlap(tensor, second):
                _refuse_sharing((name, kind), (other, other_kind))
        ahead.append((name, kind, tensor))


def _refuse_sharing(one: tuple[str, str], other: tuple[str, str]) -> None:
    (buffer, kind), (weight, _) = (one, other) if one[1] == "buffer" else (other, one)
    if kind == "buffer":
        raise ValueError(
            f"buffer {buffer!r} shares its memory with parameter {weight!r} and would keep the old "
            "weights; compute it in forward, or give it its own memory with .clone()"
        )
    raise ValueError(
        f"parameters {buffer!r} and {weight!r} share their memory but are two parameters, which a "
        "fit would move apart; tie them as one parameter (a.weight = b.weight), or clone one"
    )


def _where(tensor: Tensor, end: bool = False) -> tuple[str, int]:
    """Its device, and the address of its first byte or of that behind its last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    elements = 1 + sum(int((n - 1) * stride) for n, stride in steps)
    return str(tensor.device), tensor.data_ptr() + end * elements * tensor.element_size()


def _overlap(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors whose spans meet have an element in common."""
    if one.element_size() != other.element_size():
        return True
    return bool(torch.isin(_places(one), _places(other)).any())


def _places(tensor: Tensor) -> Tensor:
    """Each element's address."""
    places = torch.tensor(tensor.data_ptr())
    for n, stride in zip(tensor.shape, tensor.stride(), strict=True):
        places = places.unsqueeze(-1) + stride * tensor.element_size() * torch.arange(n)
    return places.reshape(-1)


def _own_overlap(tensor: Tensor) -> bool:
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return any(n > 1 and stride == 0 for n, stride in pairs)


def _check_extra_state(net: nn.Module) -> None:
    for name, module in net.named_modules():
        if type(module).get_extra_state is nn.Module.get_extra_state:
            continue
        state = module.get_extra_state()
        if state is None or (hasattr(state, "__len__") and not _size(state)):
            continue
        raise ValueError(
            f"{f'module {name!r}' if name else type(net).__name__} has extra state "
            f"({type(state).__name__}, of get_extra_state), which a file cannot hold; register its "
            "tensors as buffers, or give a network without it"
        )


def _check_state(net: nn.Module) -> None:
    parameters = net.named_parameters(remove_duplicate=False)
    known = {name for name, _ in (*parameters, *net.named_buffers(remove_duplicate=False))}
    state = [name for name in net.state_dict() if name.rpartition(".")[2] != "_extra_state"]
    if more := [name for name in state if name not in known]:
        raise ValueError(
            f"state_dict() of {type(net).__name__} has {listed(more)}, no parameter and no buffer "
            "of that name, as quantized layers have: a file cannot hold it; register it as a "
            "buffer, or give the network as it was before it was converted"
        )


def _size(state: Any) -> int:
    return state.numel() if isinstance(state, Tensor) else len(state)
