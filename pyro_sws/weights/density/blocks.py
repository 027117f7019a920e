"""Blocks of weights against a mixture's components: the closed forms, in plain torch."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
LOG_2 = math.log(2)

# A block's two buffers of this many numbers stay in a core's second-level cache.
BUFFER_SIZE = 262_144
SMALLEST_BLOCK = 1024
LARGEST_BLOCK = 16_384

# exp of less than this (nats) is never computed: it would change no sum, and denormals run 10-20x
# slower. A component this far under the most probable one adds nothing either.
SMALLEST_EXPONENT = {torch.float32: -60.0, torch.float64: -600.0}


@dataclass(frozen=True)
class Components:
    """log2(proportions[j] N(w; j)) = constants[j] - (scales[j] (w - means[j]))^2; each (J,).

    In bits, because exp2 runs three times as fast as exp.
    """

    means: Tensor
    scales: Tensor
    constants: Tensor

    @classmethod
    def of(cls, means: Tensor, precisions: Tensor, log_proportions: Tensor) -> "Components":
        constants = log_proportions + 0.5 * precisions.log() - HALF_LOG_2PI
        return cls(means, (precisions * (0.5 / LOG_2)).sqrt(), constants / LOG_2)

    def __len__(self) -> int:
        return len(self.means)

    def take(self, index: Tensor) -> "Components":
        """The components at ``index``; any shape, which each field then has."""
        return Components(self.means[index], self.scales[index], self.constants[index])


@dataclass(frozen=True)
class Requested:
    """What a pass over the weights has to deliver besides the total."""

    values: bool = False
    w_gradient: bool = False
    sums: bool = False
    first: bool = False


@dataclass(frozen=True)
class DensityResult:
    """What a pass over the weights delivers; its tensors are filled block by block.

    ``total`` is in bits. ``sums`` (3, J) are those over the weights of r, r d and r d^2, with r the
    responsibilities (times the upstream gradient, where there is one) and d = scales (w - means):
    every gradient of the mixture follows from them. ``first`` (N,) are the responsibilities of the
    first component, times the same.
    """

    total: Tensor
    values: Tensor | None
    w_gradient: Tensor | None
    sums: Tensor | None
    first: Tensor | None

    @classmethod
    def empty(cls, w: Tensor, components: int, requested: Requested) -> "DensityResult":
        return cls(
            w.new_zeros((), dtype=torch.float64),
            torch.empty_like(w) if requested.values else None,
            torch.empty_like(w) if requested.w_gradient else None,
            w.new_zeros((3, components), dtype=torch.float64) if requested.sums else None,
            torch.empty_like(w) if requested.first else None,
        )

    def at(self, block: slice) -> "DensityResult":
        """The result for the weights at ``block``: views, but for what is summed over weights."""
        return DensityResult(
            self.total,
            None if self.values is None else self.values[block],
            None if self.w_gradient is None else self.w_gradient[block],
            self.sums,
            None if self.first is None else self.first[block],
        )


def block_size(components: int) -> int:
    """How many weights of so many components a block's buffers hold."""
    return min(max(BUFFER_SIZE // max(components, 1), SMALLEST_BLOCK), LARGEST_BLOCK)


def slices(stop: int, size: int, start: int = 0) -> list[slice]:
    """[start, stop) in slices of at most ``size``."""
    return [slice(at, min(at + size, stop)) for at in range(start, stop, size)]


class Buffers:
    """Two scratch tensors (J, block) that every block overwrites."""

    def __init__(self, like: Tensor, size: int):
        self._first, self._second = like.new_empty(size), like.new_empty(size)

    def of(self, components: int, block: int) -> tuple[Tensor, Tensor]:
        used = components * block
        shape = (components, block)
        return self._first[:used].view(shape), self._second[:used].view(shape)


def log2_joint(
    w: Tensor, components: Components, buffers: Buffers, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """scales (w - means) and log2(proportion N(w)) of one block, each (J, block), in the buffers.

    The difference (w - means) is taken before squaring: the expanded quadratic loses everything at
    high precision. ``offsets`` (block,), in nats, are added to the first component's row.
    """
    residual, joint = buffers.of(len(components), len(w))
    torch.sub(w, components.means.unsqueeze(1), out=residual)
    residual.mul_(components.scales.unsqueeze(1))
    torch.addcmul(components.constants.unsqueeze(1), residual, residual, value=-1, out=joint)
    if offsets is not None:
        joint[0].add_(offsets, alpha=1 / LOG_2)
    return residual, joint


def add_block(
    result: DensityResult,
    w: Tensor,
    block: slice,
    components: Components,
    buffers: Buffers,
    index: Tensor | None = None,
    upstream: Tensor | None = None,
    offsets: Tensor | None = None,
) -> None:
    """Add the block ``w`` (block,) to the result, at ``block`` of its tensors of length N.

    ``index`` (K,) names the components that count for this block, None all of them. ``upstream``
    (block,) weighs the weights in the gradients. ``offsets`` as in log2_joint.
    """
    here = components if index is None else components.take(index)
    residual, joint = log2_joint(w, here, buffers, offsets)
    top = joint.amax(0)
    smallest = SMALLEST_EXPONENT[w.dtype] / LOG_2
    density = joint.sub_(top).clamp_(min=smallest).exp2_()
    normaliser = density.sum(0)
    values = normaliser.log2().add_(top)
    result.total.add_(values.sum(dtype=torch.float64))
    if result.values is not None:
        torch.mul(values, LOG_2, out=result.values[block])
    if result.w_gradient is None and result.sums is None and result.first is None:
        return
    share = normaliser.reciprocal_() if upstream is None else upstream / normaliser
    responsibilities = density.mul_(share)
    # sum, not a product with a vector: its rounding errors do not grow with the block.
    moments = [responsibilities.sum(1)] if result.sums is not None else []
    if result.first is not None:
        result.first[block] = responsibilities[0]
    first = responsibilities.mul_(residual)
    if result.w_gradient is not None:
        slope = torch.mv(first.T, here.scales)
        torch.mul(slope, -2 * LOG_2, out=result.w_gradient[block])
    if result.sums is not None:
        moments += [first.sum(1), first.mul_(residual).sum(1)]
        _add_sums(result.sums, torch.stack(moments), index)


def _add_sums(sums: Tensor, moments: Tensor, index: Tensor | None) -> None:
    """sums (3, J) += moments (3, K), whose columns belong to the components at ``index`` (K,)."""
    if index is None:
        sums.add_(moments)
    else:
        sums.index_add_(1, index, moments.double())


def log_joint_blocks(
    w: Tensor,
    means: Tensor,
    precisions: Tensor,
    log_proportions: Tensor,
    offsets: Tensor | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Block by block: its place in w (N,) and log(proportion N(w)) in nats (J, block).

    The tensor is a buffer that the next block overwrites. ``offsets`` (N,), in nats, are added to
    the first component's row.
    """
    components = Components.of(means, precisions, log_proportions)
    size = block_size(len(components))
    buffers = Buffers(w, len(components) * min(size, len(w)))
    for block in slices(len(w), size):
        tilt = None if offsets is None else offsets[block]
        yield block, log2_joint(w[block], components, buffers, tilt)[1].mul_(LOG_2)
