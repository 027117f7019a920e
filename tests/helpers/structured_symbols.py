"""Symbols with structure of a kind, made by formula or with a seed; 0 is the symbol of value 0."""

import numpy as np

LEVELS = 6


def values(shape, seed):
    return np.random.default_rng(seed).integers(1, LEVELS, shape).astype(np.uint8)


def kept(mask, seed=0):
    return np.where(mask, values(mask.shape, seed), 0).astype(np.uint8)


def sparse_columns(rows=40, columns=120, seed=0):
    """A tenth of the columns hold all that is not zero, half of their places."""
    rng = np.random.default_rng(seed)
    alive = np.arange(columns) % 10 == 3
    return kept(alive & (rng.random((rows, columns)) < 0.5), seed)


def sparse_rows(rows=120, columns=40, seed=0):
    return np.ascontiguousarray(sparse_columns(columns, rows, seed).T)


def linked_layers(units=40, inputs=30, outputs=30, seed=0):
    """Half of the first layer's units are dead, and so is what the second has of them."""
    rng = np.random.default_rng(seed)
    alive = rng.random(units) < 0.5
    first = alive[:, None] & (rng.random((units, inputs)) < 0.7)
    second = alive & (rng.random((outputs, units)) < 0.7)
    return kept(first, seed), kept(second, seed + 1)


def blobs(units=12, side=20, seed=0):
    """Each row is an image with one disc, its values falling from the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.divmod(np.arange(side * side), side)
    centre = rng.integers(4, side - 4, (2, units, 1))
    distance = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    return np.maximum(0, LEVELS - 1 - distance // 5).astype(np.uint8)


def kernels(units=16, inputs=8, seed=0):
    """3 x 3 kernels, most of them dead as a whole."""
    alive = np.random.default_rng(seed).random((units, inputs, 1, 1)) < 0.3
    return kept(np.broadcast_to(alive, (units, inputs, 3, 3)), seed)


def shuffled(symbols, seed=0):
    """The same counts in any order, so no structure."""
    order = np.random.default_rng(seed).permutation(symbols.size)
    return symbols.ravel()[order].reshape(symbols.shape)


def shuffled_pixels(symbols, seed=0):
    """The same columns in another order: rows and columns are as they were, images are not."""
    return symbols[:, np.random.default_rng(seed).permutation(symbols.shape[1])]
