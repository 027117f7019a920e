"""Time rewriting as networks grow, from 10^5 to 26 million weights.

    python scripts/rewriting/growth.py             # minutes; writes docs/results/rewriting.json
    python scripts/rewriting/growth.py --quick     # seconds, up to 10^6 weights; prints only

A network as initialised is quantised by hand, about as fits leave it: 17 values, a tenth of the
weights not 0, a tenth of each matrix' rows all 0, and vectors dense. The whole of ``rewrite`` is
timed, from its copy of the network to the comparison of outputs, on a batch of two; beside it, for
comparison, one encoding of the file. Medians of rounds, after a small network that is not counted.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pyro_sws.codec.container import encode
from pyro_sws.codec.symbols import Quantized
from pyro_sws.rewriting.rewrite import rewrite

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.results import RESULTS, write_json
from scripts.shared.timing import about, significant

VALUES, NONZERO, DEAD = 16, 0.1, 0.1
MILLION = 1e6


def perceptron(width: int) -> tuple[nn.Module, Tensor]:
    layers = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(width, 10)), torch.randn(2, width)


def images(width: int) -> tuple[nn.Module, Tensor]:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]

    body = [*block(3, width), *block(width, width), nn.MaxPool2d(2), *block(width, 2 * width)]
    head = [*block(2 * width, 2 * width), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*body, *head, nn.Linear(2 * width, 10)), torch.randn(2, 3, 16, 16)


def transformer(width: int) -> tuple[nn.Module, Tensor]:
    layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=True)
    body = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    return nn.Sequential(body, nn.Linear(width, 10)), torch.randn(2, 16, width)


# Kind -> what makes a network of a width, and widths: about 10^5, 10^6, 5 x 10^6 and 26 x 10^6.
KINDS: dict[str, tuple[Callable[[int], tuple[nn.Module, Tensor]], tuple[int, ...]]] = {
    "perceptron": (perceptron, (180, 575, 1290, 2940)),
    "images": (images, (40, 126, 282, 645)),
    "transformer": (transformer, (44, 144, 320, 736)),
}


def quantised(net: nn.Module) -> Quantized:
    """Symbols as a fit leaves them, drawn from a generator of its own."""
    generator = np.random.default_rng(0)
    values = np.linspace(-1, 1, VALUES, dtype=np.float32)
    codebook = np.sort(np.append(values, np.float32(0)))
    zero = int(np.searchsorted(codebook, 0))
    symbols = {}
    for name, parameter in net.named_parameters():
        drawn = generator.integers(0, len(codebook), parameter.shape, dtype=np.uint8)
        kept = generator.random(parameter.shape) < (NONZERO if parameter.dim() > 1 else 1)
        if parameter.dim() > 1:
            kept[generator.random(len(parameter)) < DEAD] = False
        symbols[name] = np.where(kept, drawn, np.uint8(zero))
    raw = {name: buffer.numpy() for name, buffer in net.named_buffers()}
    return Quantized(symbols, {"all": codebook}, dict.fromkeys(symbols, "all"), raw)


def measured(kind: str, width: int, rounds: int) -> dict[str, Any]:
    """A row of the results."""
    make, _ = KINDS[kind]
    torch.manual_seed(0)
    net, example = make(width)
    quantized = quantised(net.eval())
    taken = [timed(lambda: rewrite(net, quantized, example=example)) for _ in range(rounds)]
    own, passed = (median(each) for each in zip(*taken, strict=True))
    return {
        "network": kind,
        "weights": quantized.size,
        "seconds": significant(passed, 3),
        "processor_seconds": significant(own, 3),
        "processor_seconds_per_million": significant(own / quantized.size * MILLION, 3),
        "encode_processor_seconds": significant(timed(lambda: encode(quantized))[0], 3),
    }


def timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the processor, which other programs on the machine do not lengthen, and passed."""
    began = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - began[0], time.perf_counter() - began[1]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", choices=["cpu"])
    parser.add_argument(
        "--quick", action="store_true", help="up to 10^6 weights, once; prints only"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "rewriting.json")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    began, rows = time.perf_counter(), []
    for kind, (_, widths) in KINDS.items():
        measured(kind, widths[0], 1)  # what is loaded and compiled at the first call
        for width in widths[:2] if arguments.quick else widths:
            row = measured(kind, width, 1 if arguments.quick else arguments.rounds)
            rows.append(row)
            print(*(f"{name} {value}" for name, value in row.items()), sep=", ", flush=True)
    if not arguments.quick:
        about_it = about(time.perf_counter() - began, arguments)
        write_json(arguments.out, {"_about": about_it, "rows": rows})


if __name__ == "__main__":
    main()
