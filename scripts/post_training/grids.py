"""Networks on uniform grids, one step a tensor, and their files by this project's coder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

import pyro_sws as sws
from pyro_sws.weights.load import tensors_of

MOST_IN_HALF = 1024  # up to here steps' multiples differ in half precision
VECTOR_LEVELS = 63  # of biases and norms' scales and shifts


@dataclass(frozen=True)
class Grid:
    """Steps for all weights of a network."""

    unit: str  # of UNITS
    step: float  # in that unit
    vector_levels: int = VECTOR_LEVELS

    def steps(self, tensors: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Tensor -> its step, 0 for one that is all zeros."""
        weights = {name: values for name, values in tensors.items() if values.ndim > 1}
        sizes = UNITS[self.unit](weights)
        steps = {name: self.step * size for name, size in sizes.items()}
        vectors = {name: values for name, values in tensors.items() if values.ndim < 2}
        furthest = _largest(vectors)
        return steps | {name: 2 * far / (self.vector_levels - 1) for name, far in furthest.items()}

    def __str__(self) -> str:
        vectors = "" if self.vector_levels == VECTOR_LEVELS else f", vectors {self.vector_levels}"
        return f"step {self.step:.4g} {self.unit}{vectors}"


def _root_mean_squares(tensors: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.sqrt(np.square(values).mean())) for name, values in tensors.items()}


def _largest(tensors: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.abs(values).max(initial=0.0)) for name, values in tensors.items()}


def _all_alike(tensors: Mapping[str, np.ndarray]) -> dict[str, float]:
    total = sum(float(np.square(values).sum()) for values in tensors.values())
    size = sum(values.size for values in tensors.values())
    return dict.fromkeys(tensors, (total / size) ** 0.5)


# What a step may be a multiple of: tensors -> each one's size.
UNITS: Mapping[str, Callable[[Mapping[str, np.ndarray]], dict[str, float]]] = {
    "rms": _root_mean_squares,  # the tensor's own root mean square
    "absmax": _largest,  # the tensor's largest magnitude
    "rms of all": _all_alike,  # one step for the whole network, as nncodec has it
}
STEPS = {
    "rms": tuple(np.geomspace(0.2, 9.05, 23)),
    "absmax": tuple(
        2 / bins for bins in (47, 31, 23, 17, 13, 11, 9, 8, 7, 6, 5, 4, 3, 2.5, 2, 1.5)
    ),
    "rms of all": tuple(np.geomspace(0.2, 9.05, 23)),
}
GRIDS = [
    *([Grid(unit, float(step)) for step in steps] for unit, steps in STEPS.items()),
    [Grid("rms", float(step), 255) for step in STEPS["rms"][:8]],
]


def coded(net: nn.Module) -> dict[str, np.ndarray]:
    """The network's parameters, float64."""
    return {name: p.detach().cpu().double().numpy() for name, p in net.named_parameters()}


def rounded(values: np.ndarray, step: float) -> np.ndarray:
    """Multiples of the step, as integers."""
    return np.rint(values / step).astype(np.int64) if step else np.zeros(values.shape, np.int64)


def quantized(
    net: nn.Module, multiples: Mapping[str, np.ndarray], steps: Mapping[str, float]
) -> sws.Quantized:
    """A network's file, to be encoded: parameters as multiples of their steps, buffers as are."""
    saved = net.state_dict().keys()
    raw = {n: t.numpy() for n, t in tensors_of(net).items() if n in saved and n not in multiples}
    symbols, books = {}, {}
    for name, values in multiples.items():
        used, inverse = np.unique(values, return_inverse=True)
        dtype = np.float16 if np.abs(used).max(initial=0) <= MOST_IN_HALF else np.float32
        books[name] = _book(used * steps[name], dtype)
        symbols[name] = inverse.reshape(values.shape).astype(np.uint16)
    return sws.Quantized(symbols, books, {name: name for name in symbols}, raw)


def _book(values: np.ndarray, dtype: type) -> np.ndarray:
    """In this precision, or in a finer one where values would become equal or overflow."""
    with np.errstate(over="ignore"):
        book: np.ndarray = values.astype(dtype)
    distinct = np.isfinite(book).all() and len(np.unique(book.astype(np.float64))) == len(book)
    return book if distinct else values.astype(np.float32)
