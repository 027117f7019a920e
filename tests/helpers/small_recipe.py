"""A recipe of a few weights and 60 points, with its network and data in files of its own."""

import tomli_w

NETWORKS = """
from torch import nn

def tiny(hidden=8):
    return nn.Sequential(nn.Linear(4, hidden), nn.Tanh(), nn.Linear(hidden, 3))

def no_module():
    return "a network"
"""
POINTS = """
import torch

def points(count=60, data_dir=None):
    if data_dir is not None:
        raise FileNotFoundError(f"no points in {data_dir}")
    inputs = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :3].argmax(1)
    return {"train": (inputs, targets), "test": (inputs[:20], targets[:20])}

def no_mapping():
    return [1, 2]

def no_pair():
    return {"train": torch.zeros(60, 4)}

def no_tensors():
    return {"train": ([0.0], [1])}

def unequal():
    return {"train": (torch.zeros(60, 4), torch.zeros(5).long())}

def wide():
    return {"train": (torch.zeros(60, 7), torch.zeros(60).long())}

def scaled(inputs, by=1.0):
    return inputs * by

def halved(inputs):
    return inputs[:1]

def of_images(inputs):
    return inputs.flip(3)

def four_classes():
    return points() | {"test": (torch.zeros(20, 4), torch.full((20,), 3))}
"""
OWN_PRIOR = """
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pyro_sws import Beta, Gamma, SpikeAndSlabs

@dataclass(frozen=True)
class Narrow:
    slabs: int = 2
    deviation: float = 0.1

    def __call__(self, group):
        return self.inner(group)

    def start(self, group, weights):
        return self.inner.start(group, weights)

    @property
    def inner(self):
        return SpikeAndSlabs(slabs=self.slabs, start_deviation=self.deviation)

@dataclass(frozen=True)
class Either(Narrow):
    strength: float | Gamma | Beta = 1.0

@dataclass(frozen=True)
class Outer(Narrow):
    shape: SpikeAndSlabs | Gamma = SpikeAndSlabs()
    shapes: tuple[Narrow, ...] = ()
    maybe: Gamma | None = None
    by_tensor: dict[str, Gamma | float] | None = None
    by_layer: dict[int, float] | None = None

@dataclass(frozen=True)
class Clash(Narrow):
    each: int = 1

@dataclass(frozen=True)
class Placed(Narrow):
    place: Path = Path("a")  # as no TOML has it

@dataclass(frozen=True)
class Noise:
    group: float = 1.0  # a key of a [[prior]], but this is a likelihood

class NoDataclass:
    pass

def by_hand(group, slabs: int, deviation=0.1, precision: float | Gamma = 4.0, *, names=None):
    return SpikeAndSlabs(slabs=slabs, slab_precision=precision)(group)

def anything(group, **arguments):
    return by_hand(group, **arguments)

def starts(group, weights):
    return {}

def clash(group, module=None):
    return by_hand(group, 2)

def no_group():
    return None

def large(name, parameter):
    return parameter.numel() > 8

biases = lambda name, parameter: name.endswith(".bias")
"""


def table(**changes):
    """The recipe as TOML has it; ``changes`` are keys at its top, None takes one away."""
    whole = {
        "network": "networks.py:tiny",
        "data": "points.py:points",
        "epochs": 2,
        "batch_size": 20,
        "pretraining": {"epochs": 2, "batch_size": 20},
        "prior": [{"family": "spike_and_slabs", "slabs": 2}],
        **changes,
    }
    return {key: value for key, value in whole.items() if value is not None}


def write_recipe(folder, **changes):
    """The recipe's path, with all that it names beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "networks.py").write_text(NETWORKS)
    (folder / "points.py").write_text(POINTS)
    (folder / "own.py").write_text(OWN_PRIOR)
    (folder / "small.toml").write_text(tomli_w.dumps(table(**changes)))
    return folder / "small.toml"


EVERYTHING = {
    "network": {"source": "networks.py:tiny", "hidden": 5},
    "augmentation": {"source": "points.py:scaled", "by": 2.0},
    "likelihood": {"family": "gaussian", "noise_precision": {"shape": 2.0, "rate": 1.0}},
    "start": "weights/start.safetensors",
    "tau": 0.5,
    "rates": {"weights": 0.01, "means": 0.0},
    "schedule": "constant",
    "annealing": {"tau": {"first": 0.1}, "hyperpriors": {"first": 9, "until": 1}},
    "codebook_dtype": "float32",
    "seed": 7,
    "device": "cpu",
    "dtype": "float64",
    "prior": [
        {
            "group": "first",
            "match": "0.*",
            "family": "spike_and_slabs",
            "slabs": 2,
            "zero_proportion": {"zeros": 20.0, "nonzeros": 5.0},
            "spike_precision": {"shape": 50.0, "rate": 0.5},
            "slab_precision": 9.0,
            "slab_shares": {"concentration": 2.0},
            "slab_means": {"deviation": 0.3},
            "initialization": [-0.1, 0.1],
        },
        {"group": "rest", "family": "spike_and_slabs", "slab_precision": "free"},
    ],
}
