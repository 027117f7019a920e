"""Augmentations of images: batches (B, C, H, W) in, others of the same shape out. Torch alone.

Draws are from torch's own generator, on the CPU.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad


def shifted(images: Tensor, pixels: int = 1) -> Tensor:
    """Each image moved by up to ``pixels`` along both axes; what comes in is mirrored at the edge.

    Raises ValueError for a negative number of pixels, and as many as an image has.
    """
    count, _, height, width = images.shape
    if not 0 <= pixels < min(height, width):
        raise ValueError(f"pixels={pixels}: give 0 to {min(height, width) - 1}, less than an image")
    down, right = torch.randint(2 * pixels + 1, (2, count)) - pixels
    return _moved(images, down, right, pixels)


def nudged(images: Tensor, share: float = 0.5) -> Tensor:
    """A share of the images moved by one pixel along one axis, the others as they are.

    What comes in is mirrored at the edge. Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share={share}: give the share of images to move, from 0 to 1")
    steps = torch.tensor([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
    odds = torch.tensor([1 - share] + [share / 4] * 4)
    down, right = steps[torch.multinomial(odds, len(images), replacement=True)].T
    return _moved(images, down, right, 1)


def shifted_and_flipped(images: Tensor, pixels: int = 4) -> Tensor:
    """The same, and half of the images mirrored left to right (Zagoruyko & Komodakis 2016)."""
    moved = shifted(images, pixels)
    flips = (torch.rand(len(images)) < 0.5).to(images.device)
    return torch.where(flips[:, None, None, None], moved.flip(3), moved)


def _moved(images: Tensor, down: Tensor, right: Tensor, most: int) -> Tensor:
    """Each image moved by so many pixels, (B,) int64 from -most to most; the edge is a mirror."""
    height, width = images.shape[2:]
    windows = pad(images, (most,) * 4, mode="reflect").unfold(2, height, 1).unfold(3, width, 1)
    index = torch.arange(len(images)), down + most, right + most
    batch, rows, columns = (i.to(images.device) for i in index)
    return windows[batch, :, rows, columns]
