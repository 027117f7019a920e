"""The prior of a walk whose user gave none: values around zero, in units of each tensor's size."""

from torch import nn

from pyro_sws.inference.hyperpriors import Beta, Gamma
from pyro_sws.inference.priors import Scaled, SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.weights.network import plain

VALUES = 30  # beside 0: after a few passes the network computes with 31 as well as with its own

# In root mean squares of each tensor. Weak hyperpriors: precisions around those that widths of a
# twentieth to a half have, of the weight of two weights; any proportion is as probable.
SHAPE = SpikeAndSlabs(
    slabs=VALUES,
    zero_proportion=Beta(1.0, 1.0),
    spike_precision=Gamma(2.0, 0.02),
    slab_precision=Gamma(2.0, 0.02),
    initialization="multiples",
    start_deviation=0.1,
)


def default_rules(net: nn.Module) -> tuple[Rule, ...]:
    """Matrices and kernels share values, and so do biases and normalisation's scales and shifts."""
    prior = Scaled(SHAPE, deviation=1.0)
    tensors = [p for p in plain(net).parameters() if p.is_floating_point() and p.numel()]
    rules = [Rule(prior, group="weights", where=is_weight), Rule(prior, group="vectors")]
    wanted = [any(p.dim() > 1 for p in tensors), any(p.dim() <= 1 for p in tensors)]
    return tuple(rule for rule, there in zip(rules, wanted, strict=True) if there) or (rules[1],)


def is_weight(name: str, parameter: nn.Parameter) -> bool:
    """Whether a tensor is a matrix or a kernel, as opposed to a vector."""
    return parameter.dim() > 1
