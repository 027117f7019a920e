"""Kernels as dense networks have them: mixtures of a few patterns, each filter of its own scale."""

import numpy as np

from pyro_sws.codec.symbols import Quantized


def patterned(filters=24, channels=16, levels=31, seed=0):
    """Symbols (filters, channels, 3, 3), uint8, of which the middle one is zero."""
    rng = np.random.default_rng(seed)
    patterns = np.random.default_rng(0).normal(size=(3, 3, 3))
    kernels = np.einsum("fcp,pij->fcij", rng.normal(size=(filters, channels, 3)), patterns)
    kernels += 0.3 * rng.normal(size=kernels.shape)
    kernels *= np.exp(rng.normal(size=(filters, 1, 1, 1)) / 2)
    half = levels // 2
    return (np.clip(np.rint(2 * kernels), -half, half) + half).astype(np.uint8)


def network():
    """Two layers of such kernels, and a dense one."""
    book = (np.arange(31) - 15).astype(np.float16) * np.float16(0.03125)
    symbols = {"conv1.weight": patterned(8, 3, seed=1), "conv2.weight": patterned(16, 8, seed=2)}
    symbols["fc.weight"] = patterned(10, 12, seed=3)[:, :, 0, 0]
    return Quantized(symbols, {"all": book}, dict.fromkeys(symbols, "all"))
