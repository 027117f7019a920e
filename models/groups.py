"""Which tensors a recipe's [[prior]] is for, where neither name nor module says it. Torch only."""

from torch import nn


def matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a tensor is a matrix or a kernel; biases, scales and shifts of norms are vectors."""
    return parameter.dim() > 1
