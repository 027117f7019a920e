"""The baseline: every tensor rounded to a uniform grid of its own, and nothing learned again.

The grid has an odd number of values around 0, the same for all tensors, and for each tensor the
step of least squared error. Vectors, such as biases, are rounded too, or stored in half precision:
whichever file is smaller. Rewriting and coder are the library's own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor, nn

import pyro_sws as sws
from pyro_sws.weights.load import loaded, tensors_of

LEVELS = (*range(3, 32, 2), 35, 41, 47, 55, 63, 75, 91, 107, 127, 181, 255, 511, 1023)
STEPS = 48  # that are tried for a tensor, from the one that reaches its largest weight down
NARROWEST = 0.1  # of them, as a share of the widest


@dataclass(frozen=True, eq=False)
class Rounded:
    """The smallest file that is good enough, and what is in it."""

    data: bytes
    levels: int
    vectors: bool  # whether they are on a grid, too


def smallest(
    net: nn.Module, good_enough: Callable[[nn.Module], bool], example: Tensor
) -> Rounded | None:
    """The fewest levels at which the rounded network is good enough; None where none is."""
    found = [_packed(net, *each, example) for each in _fewest(net, good_enough)]
    return min(found, key=lambda rounded: len(rounded.data), default=None)


def _fewest(net: nn.Module, good_enough: Callable[[nn.Module], bool]) -> Iterator[tuple[int, bool]]:
    """With vectors on grids and without."""
    for vectors in (True, False):
        for levels in LEVELS:
            if good_enough(loaded(net, quantized(net, levels, vectors).tensors())):
                yield levels, vectors
                break


def _packed(net: nn.Module, levels: int, vectors: bool, example: Tensor) -> Rounded:
    shorter = sws.rewrite(net, quantized(net, levels, vectors), example=example)
    return Rounded(sws.encode(shorter.quantized), levels, vectors)


def quantized(net: nn.Module, levels: int, vectors: bool = True) -> sws.Quantized:
    """Each parameter on its grid of that many values; buffers as they are."""
    parameters, symbols, books, raw = dict(net.named_parameters()), {}, {}, {}
    for name, tensor in tensors_of(net).items():
        values = tensor.detach().cpu().numpy()
        if name not in parameters:
            raw[name] = values
        elif vectors or values.ndim > 1:
            symbols[name], books[name] = on_grid(values, levels)
        else:
            raw[name] = values.astype(np.float16)
    return sws.Quantized(symbols, books, {name: name for name in symbols}, raw)


def on_grid(values: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and the float16 codebook of the values in use: steps of the best width around 0."""
    values = values.astype(np.float64)
    furthest = levels // 2
    widest = float(np.abs(values).max(initial=0.0)) / furthest
    if widest == 0.0:
        return np.zeros(values.shape, np.uint16), np.zeros(1, np.float16)
    steps = widest * np.geomspace(1.0, NARROWEST, STEPS)
    step = min(steps, key=lambda step: np.square(_nearest(values, step, furthest) - values).sum())
    snapped = (
        _nearest(values, step, furthest).astype(np.float16).astype(np.float32) + 0.0
    )  # no -0.0
    # In single precision: numpy 2.4's vectorised sort of float16 leaves some arrays unsorted.
    book = np.unique(snapped)
    return np.searchsorted(book, snapped).astype(np.uint16), book.astype(np.float16)


def _nearest(values: np.ndarray, step: float, furthest: int) -> np.ndarray:
    return step * np.clip(np.rint(values / step), -furthest, furthest)
