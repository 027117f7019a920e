"""What a network's own curvature says of its weights: a Gaussian likelihood, tensor by tensor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How a tensor's weights are rows, each of which multiplies the same inputs: (G, R, C).

    A tensor's dimensions are ``split`` into more where it has groups, then put in ``order``; of
    those the first ``groups`` are G, the next ``rows`` R, and the others C, the columns.
    """

    split: tuple[int, ...]
    order: tuple[int, ...]
    groups: int = 0
    rows: int = 1

    def matrix(self, tensor: Tensor) -> Tensor:
        """A tensor as (G, R, C)."""
        whole = tensor.reshape(self.split).permute(self.order)
        sizes = whole.shape
        at = self.groups + self.rows
        return whole.reshape(prod(sizes[: self.groups]), prod(sizes[self.groups : at]), -1)

    def tensor(self, matrix: Tensor, shape: tuple[int, ...]) -> Tensor:
        """What ``matrix`` of a tensor of this shape gave, as that tensor."""
        whole = matrix.reshape([self.split[dim] for dim in self.order])
        back = sorted(range(len(self.order)), key=lambda at: self.order[at])
        return whole.permute(back).reshape(shape)

    @staticmethod
    def plain(shape: tuple[int, ...]) -> "Layout":
        """That of a tensor whose first dimension is rows, and all else columns."""
        split = shape if len(shape) > 1 else (1, prod(shape))
        return Layout(tuple(split), tuple(range(len(split))))

    @staticmethod
    def grouped(shape: tuple[int, ...], groups: int) -> "Layout":
        """That of a convolution's kernels (out, in / groups, ...)."""
        split = (groups, shape[0] // groups, *shape[1:])
        return Layout(split, tuple(range(len(split))), groups=1)

    @staticmethod
    def transposed(shape: tuple[int, ...], groups: int = 1) -> "Layout":
        """That of inputs (in, out / groups, ...): a transposed convolution, or a matrix x W."""
        split = (groups, shape[0] // groups, *shape[1:])
        return Layout(split, (0, 2, 1, *range(3, len(split))), groups=1)


@dataclass(frozen=True, eq=False)
class Block:
    """-log p of one tensor's weights but for a constant, in nats an example, to second order.

    1/2 sum over g and r of rows[g, r] d' moments[g] d, where d (C,) is what row r of group g is
    away from the trained weights: the Gauss-Newton matrix of the layer as a Kronecker product
    (Martens & Grosse 2015, eq. 1) whose second factor is diagonal.
    """

    at: Tensor  # the trained weights, in their own shape
    moments: Tensor  # (G, C, C) of what the weights multiply, or (G, C): the diagonal alone
    rows: Tensor  # (G, R) curvature in each row's output
    layout: Layout
    means: Tensor | None = None  # (G, C) of what the weights multiply, at a position
    bias: str | None = None  # the tensor that is added to what the rows give

    @property
    def diagonal(self) -> Tensor:
        """The moments' diagonals; (G, C)."""
        return self.moments.diagonal(dim1=-2, dim2=-1) if self.moments.dim() == 3 else self.moments

    def cost(self, tensor: Tensor) -> Tensor:
        """Nats an example that the tensor's values cost; a scalar, zero at ``at``."""
        away = self.layout.matrix(tensor - self.at)
        if self.moments.dim() == 3:
            squares = ((away @ self.moments) * away).sum(-1)
        else:
            squares = (away.square() * self.moments[:, None]).sum(-1)
        return 0.5 * (self.rows * squares).sum()


@dataclass(frozen=True, eq=False)
class Curvature:
    """A Gaussian likelihood of the weights around those of a trained network.

    No network is run for it: what its inputs have to say is in the blocks. Tensors without one are
    free, and tensors are independent of each other.
    """

    blocks: Mapping[str, Block] = field(default_factory=dict)  # by tensor
    examples: int = 1  # that the blocks are a mean over; a joint counts as many unless told

    def cost(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Nats an example of weights by tensor name; a scalar."""
        costs = [block.cost(weights[n]) for n, block in self.blocks.items() if n in weights]
        return torch.stack(costs).sum() if costs else torch.zeros(())
