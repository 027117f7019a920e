"""Perceptrons: fully connected layers with ReLU between them. Torch only."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

PIXELS, CLASSES = 64, 10


def digits_mlp(hidden: Sequence[int] = (300, 100), dropout: float = 0.0) -> nn.Module:
    """64-300-100-10 for scikit-learn's digits, 50,610 parameters; inputs (B, 64).

    Layers are fc1, fc2, ...: names are stored in the compressed file, where every byte counts.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(pairwise((PIXELS, *hidden, CLASSES)), start=1):
        if i > 1:
            layers[f"relu{i - 1}"] = nn.ReLU()
            layers[f"drop{i - 1}"] = nn.Dropout(dropout)
        layers[f"fc{i}"] = nn.Linear(fan_in, fan_out)
    return nn.Sequential(layers)


def perceptron(sizes: Sequence[int]) -> nn.Module:
    """Layers of these sizes, inputs (B, sizes[0]) and outputs (B, sizes[-1]) included."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
