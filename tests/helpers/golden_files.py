"""The golden files, and what is in them: a value, and how it was encoded."""

from dataclasses import replace
from pathlib import Path

from coded_networks import (
    everything,
    fingerprinted,
    folded_norms,
    lenet_like,
    on_grids,
    two_layers,
)
from patterned_kernels import network

GOLDEN = Path(__file__).parents[1] / "golden"
FORMAT1 = {"format1_two_layers.sws": two_layers, "format1_everything.sws": everything}
FORMAT2 = {  # and later: the value, and what else ``encode`` is given
    "format2_two_layers.sws": lambda: (two_layers(), {}),
    "format2_everything.sws": lambda: (everything(), {}),
    "format2_lenet_like.sws": lambda: (lenet_like(), {}),
    "format2_order0.sws": lambda: (lenet_like(), {"coder": "order0"}),
    "format2_fingerprint.sws": lambda: with_architecture(*fingerprinted()),
    "format3_folded_norms.sws": lambda: (folded_norms(), {}),
    "format4_patterned_kernels.sws": lambda: (network(), {}),
    "format4_everything.sws": lambda: (everything(), {}),
    "format4_fingerprint.sws": lambda: with_architecture(*fingerprinted()),
    "format4_folded_norms.sws": lambda: (folded_norms(), {}),
    "format4_grids.sws": lambda: (on_grids(), {}),
    "format6_difference.sws": lambda: (replace(everything(), base=bytes(range(8))), {}),
}
# Their raw tensors are shorter in format 4: these are read, and no longer written.
SUPERSEDED = ("format2_everything.sws", "format2_fingerprint.sws", "format3_folded_norms.sws")
WRITTEN = [name for name in FORMAT2 if name not in SUPERSEDED]


def with_architecture(quantized, shapes):
    return quantized, {"architecture": shapes}


def expected(name):
    """A golden file's value, and what ``decode`` needs beside the bytes."""
    if name in FORMAT1:
        return FORMAT1[name](), {}
    quantized, how = FORMAT2[name]()
    return quantized, {key: value for key, value in how.items() if key == "architecture"}


def golden(name):
    return (GOLDEN / name).read_bytes()
