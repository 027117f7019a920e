"""What the shapes of tensors say about their symbols: rows, images, and who feeds whom.

The context model works on matrices. All here follows from the shapes and what was coded before, so
nothing of it is in a file.
"""

import math
from dataclasses import dataclass

import numpy as np

LONGEST_ROW = 1 << 16  # longer rows than this become columns where they are few
LEAST_WIDTH = 3  # of an image
MOST_TAPS = 64  # of a kernel whose places are told apart
CHANNELS = (1, 3)  # of an image that a first layer may see


@dataclass(frozen=True)
class Matrix:
    """A tensor as the context model sees it."""

    rows: int
    columns: int
    width: int  # of the image that a row consists of; 0 without one
    feeder: np.ndarray | None  # nonzeros of each unit of the layer that the columns come from
    taps: int = 1  # weights of a kernel, next to each other in a row


def matrix(shape: tuple[int, ...], earlier: list[np.ndarray]) -> Matrix:
    """(units, inputs, ...) -> units x the rest; a vector or scalar is one row.

    ``earlier`` are the counts that ``units`` gave for the tensors before.

    The columns are fed by the latest earlier tensor whose units divide the inputs, or, for a
    vector, are as many. Images in a row: kernels; the square that the columns of one feeding unit
    are, or, where none feeds them, all columns, as one or three squares.
    """
    size = math.prod(shape)
    rows = shape[0] if len(shape) > 1 else 1
    columns = size // rows if rows else 0
    if columns > LONGEST_ROW and rows < 16:
        return Matrix(size, 1, 0, None)
    feeder = _feeder(shape, earlier)
    if len(shape) > 3:
        width = shape[-1] if shape[-1] >= LEAST_WIDTH else 0
    elif len(shape) == 2:
        width = _image_width(columns, feeder)
    else:
        width = 0
    taps = math.prod(shape[2:])
    return Matrix(rows, columns, width, feeder, taps if 1 < taps <= MOST_TAPS else 1)


def units(shape: tuple[int, ...], nonzero: np.ndarray) -> np.ndarray | None:
    """Nonzeros of each unit of a tensor, for later ones, from a mask of its shape; or None."""
    if len(shape) < 2 or not nonzero.size:
        return None
    return np.count_nonzero(nonzero.reshape(shape[0], -1), axis=1)


def _feeder(shape: tuple[int, ...], earlier: list[np.ndarray]) -> np.ndarray | None:
    for fed in reversed(earlier):
        count = len(fed)
        if count > 1 and (
            (len(shape) > 1 and shape[1] and shape[1] % count == 0) or shape == (count,)
        ):
            return fed
    return None


def _image_width(columns: int, feeder: np.ndarray | None) -> int:
    counts = CHANNELS if feeder is None else (len(feeder),)
    for count in counts:
        side = math.isqrt(columns // count)
        if side >= LEAST_WIDTH and count * side * side == columns:
            return side
    return 0
