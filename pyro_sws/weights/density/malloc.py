"""Keep the C library from handing memory back between two steps that both need it. Torch only."""

import functools

import torch
from torch import Tensor

KEPT_BYTES = 16 << 20

# Temporaries as long as fewer weights are too small for the C library to map one by one.
FEWEST_WEIGHTS = 8192


def keep_freed_memory(w: Tensor) -> None:
    """Where w is on the CPU and long, have glibc's malloc keep what is freed mapped.

    It hands back what is freed beyond twice the largest block that it has seen freed, and the next
    call would pay for every page anew: as much as for the sums themselves. One large block, never
    touched, is freed once in the process.
    """
    if w.device.type == "cpu" and len(w) > FEWEST_WEIGHTS:
        _free_a_large_block()


@functools.cache
def _free_a_large_block() -> None:
    torch.empty(KEPT_BYTES, dtype=torch.uint8)
