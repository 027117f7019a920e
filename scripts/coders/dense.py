"""What further contexts save on dense networks: trained ones, rounded to a grid, not retrained.

    python scripts/coders/dense.py        # writes docs/results/dense.json

Each matrix and kernel is rounded to the nearest multiple of its root mean square times a step.
Needs pretrained/*.safetensors in --data-dir or $PYRO_SWS_DATA. ``bytes_before`` is the payload with
the contexts that all formats since 2 have, ``bytes_after`` with those of format 4. Both are decoded
and compared. Seconds are the least of three, of one thread.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from pyro_sws.codec.coders import CODERS, EXPECTING, Adaptive, Plane

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.results import RESULTS, write_json
from scripts.shared.timing import about, significant

STEPS = (0.25, 0.5, 1.0, 1.5)
FILES = {
    "lenet_300_100": "lenet300100.safetensors",
    "lenet_5_caffe": "lenet5-caffe.safetensors",
    "resnet_20": "resnet20.safetensors",
}
EPS = 1e-5  # of ResNet-20's batch norms
ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("PYRO_SWS_DATA"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--steps", type=float, nargs="+", default=STEPS)
    arguments = parser.parse_args()
    arguments.device = "cpu"
    if not arguments.data_dir:
        raise SystemExit("give the folder with the data: --data-dir or PYRO_SWS_DATA")
    began = time.perf_counter()
    found: dict[str, Any] = {}
    for name, weights in networks(Path(arguments.data_dir)).items():
        for step in arguments.steps:
            found[f"{name} at {step}"] = measured(*rounded(weights, step))
            print(name, step, found[f"{name} at {step}"], flush=True)
    found["_about"] = about(time.perf_counter() - began, arguments)
    write_json(arguments.out / "dense.json", found)


def networks(data: Path) -> dict[str, dict[str, np.ndarray]]:
    """Name -> the tensors of two dimensions or more, in the order of the layers."""
    loaded = {name: load_file(data / "pretrained" / file) for name, file in FILES.items()}
    found = {name: matrices(weights) for name, weights in loaded.items()}
    found["resnet_20_folded"] = folded(loaded["resnet_20"])
    return found


def matrices(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: weights[name] for name in sorted(weights) if weights[name].ndim > 1}


def folded(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The kernels with the scale of the batch norm after them, bnN after convN."""
    found = matrices(weights)
    for name in found:
        norm = name.replace("conv", "bn")
        if norm != name and norm in weights:
            variance = weights[norm.replace("weight", "running_var")]
            scale = weights[norm] / np.sqrt(variance + EPS)
            found[name] = found[name] * scale[:, None, None, None]
    return found


def rounded(weights: Mapping[str, np.ndarray], step: float) -> tuple[list[np.ndarray], list[Plane]]:
    """The symbols of the multiples that occur."""
    tensors: list[np.ndarray] = []
    planes: list[Plane] = []
    for values in weights.values():
        wide = values.astype(np.float64)
        multiples = np.rint(wide / (np.sqrt(np.mean(wide**2)) * step)).astype(int)
        distinct, symbols = np.unique(multiples, return_inverse=True)
        zero = np.flatnonzero(distinct == 0)
        plane = Plane(values.shape, len(distinct), int(zero[0]) if zero.size else None)
        tensors.append(symbols.reshape(values.shape).astype(plane.dtype))
        planes.append(plane)
    return tensors, planes


def measured(tensors: list[np.ndarray], planes: list[Plane]) -> dict[str, Any]:
    """Bytes and seconds before and after, and the bytes by order-0 alone."""
    before, before_seconds = coded(CODERS["context"], tensors, planes)
    after, after_seconds = coded(EXPECTING, tensors, planes)
    return {
        "weights": sum(plane.size for plane in planes),
        "bytes_order0": len(CODERS["order0"].encode(tensors, planes)),
        "bytes_before": before,
        "bytes_after": after,
        "decode_seconds_before": significant(before_seconds),
        "decode_seconds_after": significant(after_seconds),
    }


def coded(coder: Adaptive, tensors: list[np.ndarray], planes: list[Plane]) -> tuple[int, float]:
    """Bytes of the payload, and the seconds that it takes to decode."""
    payload, seconds = coder.encode(tensors, planes), []
    for _ in range(ROUNDS):
        began = time.process_time()
        back = coder.decode(payload, planes)
        seconds.append(time.process_time() - began)
    if not all(np.array_equal(a, b) for a, b in zip(back, tensors, strict=True)):
        raise RuntimeError("a payload did not come back as it was")
    return len(payload), min(seconds)


if __name__ == "__main__":
    main()
