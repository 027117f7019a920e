"""What each row of a convolution's kernels multiplies, position by position. Torch only."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def patches(
    inputs: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int = 1,
) -> Tensor:
    """Of inputs (B, C, ...) the windows of a convolution: (groups, B x positions, columns).

    Columns are as in its kernels (out, C / groups, *kernel): channels, then the kernel's places.
    """
    sides = [side for size in reversed(padding) for side in (size, size)]
    return _windows(F.pad(inputs, sides), kernel, stride, dilation, groups)


def transposed_patches(
    inputs: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int = 1,
) -> Tensor:
    """The same of a transposed convolution, whose kernels are (C, out / groups, *kernel).

    It is a convolution of stride 1 with the kernel turned round, of the inputs with zeros between.
    """
    spread = inputs.new_zeros(
        *inputs.shape[:2],
        *((size - 1) * step + 1 for size, step in zip(inputs.shape[2:], stride, strict=True)),
    )
    filled = spread
    for at, step in enumerate(stride):
        filled = filled.movedim(at + 2, 0)[::step].movedim(0, at + 2)
    filled.copy_(inputs)
    sides = []
    for at in reversed(range(len(kernel))):
        before = dilation[at] * (kernel[at] - 1) - padding[at]
        sides += [before, before + output_padding[at]]
    one = [1] * len(kernel)
    return _windows(F.pad(spread, sides), kernel, one, dilation, groups, turned=True)


def _windows(
    padded: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    turned: bool = False,
) -> Tensor:
    windows = padded
    for at, (size, step, apart) in enumerate(zip(kernel, stride, dilation, strict=True)):
        windows = windows.unfold(at + 2, apart * (size - 1) + 1, step)[..., ::apart]
    dims = len(kernel)
    if turned:
        windows = windows.flip(list(range(-dims, 0)))
    batch, channels, *positions = windows.shape[: 2 + dims]
    split = windows.reshape(batch, groups, channels // groups, *windows.shape[2:])
    places, taps = range(3, 3 + dims), range(3 + dims, 3 + 2 * dims)
    ordered = split.permute(1, 0, *places, 2, *taps)
    return ordered.reshape(groups, batch * torch.Size(positions).numel(), -1)
