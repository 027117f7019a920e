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
    windows = pad(images, (pixels,) * 4, mode="reflect").unfold(2, height, 1).unfold(3, width, 1)
    down, right = torch.randint(2 * pixels + 1, (2, count)).to(images.device)
    return windows[torch.arange(count, device=images.device), :, down, right]


def shifted_and_flipped(images: Tensor, pixels: int = 4) -> Tensor:
    """The same, and half of the images mirrored left to right (Zagoruyko & Komodakis 2016)."""
    moved = shifted(images, pixels)
    flips = (torch.rand(len(images)) < 0.5).to(images.device)
    return torch.where(flips[:, None, None, None], moved.flip(3), moved)
