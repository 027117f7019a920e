"""The networks whose indices the coders are compared on: ours, and published pruned ones clustered.

Each as a Quantized whose tensors are in the order of the layers, weight before bias, under the
names of a plain ``nn.Sequential`` of the same structure. Codebooks are sorted and in float16.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from torch import nn

from pyro_sws.codec.container import decode
from pyro_sws.codec.symbols import Quantized

# Name -> file of signed levels, 0 for zero, with one codebook: networks trained by this package.
TRAINED = {"lenet_300_100": "lenet300_tau03.npz", "lenet_5_caffe": "lenet5_tau05.npz"}

# Name -> file of weights pruned by Dynamic Network Surgery (Guo, Yao & Chen 2016), and how many
# non-zero values a tensor may have; those that are there are clustered.
PRUNED = {
    "lenet_300_100_pruned_16": ("lenet300100-pruned.safetensors", 16),
    "lenet_300_100_pruned_8": ("lenet300100-pruned.safetensors", 8),
    "lenet_5_caffe_pruned_16": ("lenet5-caffe-pruned.safetensors", 16),
    "lenet_5_caffe_pruned_8": ("lenet5-caffe-pruned.safetensors", 8),
}
SEED = 0  # of k-means, which starts this many times and keeps the best
STARTS = 100
LAYER_ORDER = ("conv1", "conv2", "ip1", "ip2", "ip3")


@dataclass(frozen=True, eq=False)
class Network:
    """Indices, and the network that they are of if that is known."""

    quantized: Quantized
    structure: Callable[[], nn.Sequential] | None
    input_scale: float | None = None  # MNIST's pixels are divided by it, if those are the inputs


def network(name: str, data: Path) -> Network:
    """The network of that name from the folder with the data."""
    if name in TRAINED:
        return fitted(trained(data / "indices" / TRAINED[name]), input_scale=255)
    file, levels = PRUNED[name]
    weights = load_file(data / "pretrained" / file)
    return fitted(clustered(in_order(weights), levels), input_scale=256)


def stored(path: Path) -> Network:
    """The network of a .sws file."""
    return fitted(decode(path.read_bytes()))


def fitted(quantized: Quantized, input_scale: float | None = None) -> Network:
    """With the structure that has tensors of these shapes, renamed as they are called there."""
    shapes = [symbols.shape for symbols in quantized.symbols.values()]
    for structure in (lenet_300_100, lenet_5_caffe):
        own = structure().state_dict()
        if not quantized.raw and shapes == [tuple(values.shape) for values in own.values()]:
            return Network(renamed(quantized, list(own)), structure, input_scale)
    return Network(quantized, None)


def lenet_300_100() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def lenet_5_caffe() -> nn.Sequential:
    """Caffe's: no ReLU but the one after the first fully connected layer."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def trained(path: Path) -> Quantized:
    """Arrays NAME.level of signed levels, a codebook, and the place of the zero in it."""
    with np.load(path) as file:
        book, zero = file["codebook"].astype(np.float16), int(file["zero_index"])
        symbols = {
            key.removesuffix(".level"): (file[key].astype(np.int64) + zero).astype(np.uint16)
            for key in file.files
            if key.endswith(".level")
        }
    return Quantized(symbols, {"all": book}, dict.fromkeys(symbols, "all"))


def in_order(weights: Mapping[str, np.ndarray]) -> "OrderedDict[str, np.ndarray]":
    """By layer, weight before bias."""
    names = [f"{layer}.{part}" for layer in LAYER_ORDER for part in ("weight", "bias")]
    return OrderedDict((name, weights[name]) for name in names if name in weights)


def clustered(weights: Mapping[str, np.ndarray], levels: int) -> Quantized:
    """Each tensor with a codebook of its own: 0 where there are zeros, and the clusters' means."""
    symbols, books = {}, {}
    for name, values in weights.items():
        symbols[name], books[name] = cluster(values, levels)
    return Quantized(symbols, books, {name: name for name in symbols})


def cluster(values: np.ndarray, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and the sorted float16 codebook; zeros stay zero, whatever the clusters are."""
    from sklearn.cluster import KMeans

    nonzero = values != 0
    snapped = np.zeros(values.shape, dtype=np.float16)
    if nonzero.any():
        samples = values[nonzero].astype(np.float64).reshape(-1, 1)
        count = min(levels, len(np.unique(samples)))
        means = KMeans(count, n_init=STARTS, random_state=SEED).fit(samples)
        centres = means.cluster_centers_[:, 0].astype(np.float16)
        snapped[nonzero] = centres[means.labels_]
    book = np.unique(snapped)
    return np.searchsorted(book, snapped).astype(np.uint16), book


def renamed(quantized: Quantized, names: Sequence[str]) -> Quantized:
    """The same tensors, in order, under other names; a codebook of a tensor's name goes with it."""
    new = dict(zip(quantized.symbols, names, strict=True))
    return Quantized(
        {new[name]: symbols for name, symbols in quantized.symbols.items()},
        {new.get(book, book): values for book, values in quantized.codebooks.items()},
        {new[name]: new.get(book, book) for name, book in quantized.codebook_of.items()},
        scales={new[name]: scale for name, scale in quantized.scales.items()},
    )
