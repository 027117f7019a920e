"""Batch norm folded: in eval mode it is a scale and a shift a channel, and two constants. Torch.

Running statistics that are constants need no room in a file, see ``codec/folded_norms.py``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pyro_sws.codec.folded_norms import STATISTICS
from pyro_sws.weights.network import check_network, copied

AFFINE = ("weight", "bias")
FORWARDS = (_BatchNorm.forward, nn.SyncBatchNorm.forward)
HALF = (torch.float16, torch.bfloat16)
FLOATS = (*HALF, torch.float32, torch.float64)
# The scales of a norm, and the shifts, are to share some 31 values: beside a channel of almost no
# variance, whose scale is hundreds of times the others', all of those would become 0.
MOST = 4.0  # a scale over the norm's median scale
FURTHEST = 4.0  # deviations of a running mean from 0: a shift is as many steps of the outputs


class Affine(NamedTuple):
    """What multiplies a norm's normalised inputs and what is added: (C,) each, float64."""

    weight: Tensor
    bias: Tensor


def folded(net: nn.Module) -> nn.Module:
    """A copy that computes the same in eval mode, its batch norms without statistics of their own.

    With s = weight / sqrt(running_var + eps) the weight becomes s, the bias bias - running_mean s,
    the running mean 0 and the running variance 1 - eps, so that the norm divides by 1; where eps is
    above 1, by sqrt(eps), with the weight in proportion. A norm in half precision is in float32
    then: its shift would be off by a thousandth. In train mode the copy computes something else.
    The network itself where none of its norms can be folded, see ``foldable``. Raises ValueError
    for a network that no file can hold, see ``check_network``.
    """
    if not any(isinstance(module, _BatchNorm) for module in net.modules()):
        return net
    check_network(net)
    names = [name for name, _ in foldable(net)]
    if not names:
        return net
    own = copied(net)
    for name, norm in own.named_modules():
        if name in names and isinstance(norm, _BatchNorm):
            _fold_in_place(norm)
    return own


def foldable(net: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """The batch norms that are folded, by the names of their modules.

    They have torch's forward, and running statistics, weights and biases of their own, in FLOATS;
    the scales that folding makes are finite, the largest at most MOST times the median; and the
    running means are at most FURTHEST deviations from 0. Others stay as they are, those
    without weights and biases, too: they have two numbers a channel.
    """
    norms = [(name, m) for name, m in net.named_modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    owners = Counter(id(tensor) for module in net.modules() for tensor in _own(module).values())
    for name, norm in norms:
        alone = all(owners[id(tensor)] == 1 for tensor in _own(norm).values())
        if alone and _is_plain(norm) and _has_even_scales(norm):
            yield name, norm


def folded_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the network, by tensor name, as those of ``folded(net)`` that compute the same.

    Of a norm of which one of weight and bias is given, the other one is taken to be the network's.
    """
    return _in_other_terms(net, net, weights, _fold)


def unfolded_weights(net: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``folded_weights``."""
    return _in_other_terms(net, folded(net), weights, _unfold)


def as_fitted(given: Mapping[str, Tensor], raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's tensors in the terms of a fit that left these raw: folded where that one is.

    Of tensors alone, without modules: a fit's running variance says what eps was.
    """
    tensors = dict(given)
    for name in raw:
        prefix = name.removesuffix(STATISTICS[0])
        names = [prefix + part for part in (*AFFINE, *STATISTICS[:2])]
        if prefix == name or not all(part in given for part in names) or names[3] not in raw:
            continue
        mean, variance = raw[name], raw[names[3]].double()
        if mean.any() or not variance.numel() or not 0 < variance.min() == variance.max() <= 1:
            continue
        weight, bias, mean, variances = (given[part].double() for part in names)
        scale = weight / (variances + 1 - variance).sqrt()
        for part, values in zip(names, (scale, bias - mean * scale), strict=False):
            tensors[part] = values.to(given[part].dtype)
    return tensors


def _in_other_terms(
    net: nn.Module,
    own: nn.Module,
    weights: Mapping[str, Tensor],
    change: Callable[[_BatchNorm, Affine], Affine],
) -> dict[str, Tensor]:
    """``own`` is the network in the terms of the weights."""
    changed = dict(weights)
    for prefix, norm in foldable(net):
        names = [f"{prefix}.{name}" if prefix else name for name in AFFINE]
        mean, _ = _statistics(norm)
        values = [weights.get(n, own.get_parameter(n)).detach().to(mean) for n in names]
        made = change(norm, Affine(*values))
        changed |= {n: value for n, value in zip(names, made, strict=True) if n in weights}
    return changed


@torch.no_grad()
def _fold_in_place(norm: _BatchNorm) -> None:
    if any(tensor.dtype in HALF for tensor in _own(norm).values()):
        norm.float()
    weight, bias = _fold(norm, Affine(norm.weight.double(), norm.bias.double()))
    constants = dict(zip(STATISTICS, (0.0, _variance(norm), 0), strict=True))
    own = _own(norm)
    own["weight"].copy_(weight)
    own["bias"].copy_(bias)
    for name, constant in constants.items():
        own[name].fill_(constant)


def _fold(norm: _BatchNorm, given: Affine) -> Affine:
    mean, deviations = _statistics(norm)
    scale = given.weight / deviations
    return Affine(scale * _divisor(norm), given.bias - mean * scale)


def _unfold(norm: _BatchNorm, made: Affine) -> Affine:
    mean, deviations = _statistics(norm)
    scale = made.weight / _divisor(norm)
    return Affine(scale * deviations, made.bias + mean * scale)


def _statistics(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Running means, and what a norm divides by, (C,) each, float64."""
    own = _own(norm)
    variances = own["running_var"].double()
    return own["running_mean"].double(), (variances + norm.eps).sqrt()


def _variance(norm: _BatchNorm) -> float:
    """The constant in the place of the running variance, at least 0 as a variance is."""
    return max(1.0 - norm.eps, 0.0)


def _divisor(norm: _BatchNorm) -> float:
    return (_variance(norm) + norm.eps) ** 0.5


def _own(module: nn.Module) -> dict[str, Tensor]:
    tensors = {**module._parameters, **module._buffers}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _is_plain(norm: _BatchNorm) -> bool:
    """Whether it computes as torch's batch norm does, with all of its tensors."""
    if type(norm).forward not in FORWARDS or "forward" in vars(norm):
        return False
    own = _own(norm)
    if own.keys() != {*AFFINE, *STATISTICS} or norm._non_persistent_buffers_set:
        return False
    floats = [own[name] for name in (*AFFINE, *STATISTICS[:2])]
    return all(t.dtype in FLOATS and not t.is_meta and t.numel() for t in floats)


@torch.no_grad()
def _has_even_scales(norm: _BatchNorm) -> bool:
    """Whether scales and shifts can be told apart by as few values as the weights and biases."""
    weight, bias = norm.weight.double(), norm.bias.double()
    made = _fold(norm, Affine(weight, bias))
    if not all(values.to(norm.weight.dtype).isfinite().all() for values in made):
        return False
    mean, deviations = _statistics(norm)
    if ((mean / deviations)[weight != 0].abs() > FURTHEST).any():
        return False
    return _unevenness(made.weight) <= max(MOST, _unevenness(weight))


def _unevenness(weights: Tensor) -> float:
    """The largest magnitude over the median of those that are not 0."""
    sizes = weights[weights != 0].abs()
    return float(sizes.max() / sizes.median()) if len(sizes) else 1.0
