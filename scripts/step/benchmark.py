"""Time a whole training step with the prior, and without: every way, side by side.

    python scripts/step/benchmark.py               # a quarter of an hour; writes docs/results/step
    python scripts/step/benchmark.py --quick       # a minute; prints only

torch, torch_fused        plain training of the network: forward, cross-entropy, backward, Adam
exact                     this package's fit as it is by default; it uses one of the next two
portable, compiled        fit with the density computed in that way
prior_subsample           fit whose prior sees a 64th of the weights a step
hyperparameters_every     fit whose mixture moves in every fourth step only
plain_svi                 pyro.infer.SVI on this package's model and guide
textbook                  the Pyro program that one writes first (the LeNets only)

A fit is timed by its own history: the seconds of an epoch of --steps steps, the reading of the
posterior at its end included. All ways run in one process and on the same batches, in turn, round
after round. Networks are as initialised and the images are random, labelled by a random linear map:
times do not depend on what they show. Batch norm is in train mode in the torch ways and in eval
mode in the others, as fit has it. Extra memory is the peak of a few first steps beyond weights and
data: gradients and Adam's moments count (see timing.peak_bytes).
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyro
import torch

from pyro_sws.weights.density.log_density import select_backend

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.shared.pictures import draw_step
from scripts.shared.results import ROOT, write_json
from scripts.shared.timing import (
    MEGABYTE,
    about,
    check_peak_bytes,
    common_arguments,
    folder,
    interleaved,
    median_ms,
    peak_bytes,
    print_rows,
    ratios,
    significant,
)
from scripts.step.ways import WAYS, Setting, Way

sys.path.insert(0, str(ROOT / "models"))
from lenet import lenet_5_caffe, lenet_300_100
from wide_resnet import wide_resnet

DATA_SIZE, CLASSES = 60_000, 10
COMPONENTS = 17  # of the default prior
MEMORY_STEPS = 4  # as many as it takes until the mixture moves in every way

# Network -> constructor, image, steps a turn, most rounds.
NETS: dict[str, tuple[Callable, tuple[int, ...], int, int]] = {
    "lenet_300_100": (lenet_300_100, (1, 28, 28), 40, 100),
    "lenet_5_caffe": (lenet_5_caffe, (1, 28, 28), 20, 100),
    "wide_resnet_16_4": (wide_resnet, (3, 32, 32), 4, 3),
}
WITHOUT_TEXTBOOK = {"wide_resnet_16_4"}


def setting(name: str, batch: int, steps: int, device: torch.device) -> Setting:
    """The network as initialised, and ``steps`` batches of random images."""
    constructor, image, *_ = NETS[name]
    torch.manual_seed(0)
    net = constructor().to(device)
    inputs = torch.rand(steps, batch, *image)
    teacher = torch.randn(inputs[0, 0].numel(), CLASSES)
    targets = ((inputs.flatten(2) - 0.5) @ teacher).argmax(-1)
    batches = [(x.to(device), y.to(device)) for x, y in zip(inputs, targets, strict=True)]
    return Setting(net, batches, DATA_SIZE, device)


def measure(name: str, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Way -> median of a step, extra memory, seconds of the first turn (compilation included)."""
    *_, steps, most_rounds = NETS[name]
    steps = arguments.steps or (4 if arguments.quick else steps)
    resnet = name == "wide_resnet_16_4"
    batch = arguments.resnet_batch if resnet else arguments.batch
    given = setting(name, batch, steps, torch.device(arguments.device))
    print(f"\n{name}: {sum(p.numel() for p in given.net.parameters()):,} parameters, batch {batch}")
    ways = {
        way: make(given)
        for way, make in WAYS.items()
        if way in arguments.ways and not (way == "textbook" and name in WITHOUT_TEXTBOOK)
    }
    firsts = {way: timed.run(given.batches) for way, timed in ways.items()}
    peaks = {way: peak(timed, given) for way, timed in ways.items()}
    rounds = min(arguments.rounds, most_rounds)
    turns = {way: turn_of(timed, given) for way, timed in ways.items()}
    taken = interleaved(turns, rounds)
    rows = {
        way: {
            "median_ms": median_ms(taken[way]),
            "peak_extra_mb": round(peaks[way] / MEGABYTE, 2),
            "first_turn_seconds": significant(firsts[way], 3),
        }
        for way in ways
    }
    pyro.clear_param_store()
    print_rows(name, rows, "torch")
    return rows


def turn_of(way: Way, given: Setting) -> Callable[[], list[float]]:
    return lambda: [way.run(given.batches) / len(given.batches)]


def peak(way: Way, given: Setting) -> int:
    way.forget()
    return peak_bytes(lambda: way.run(given.batches[:MEMORY_STEPS]), given.device)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common_arguments(parser)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--steps", type=int, help="in a turn (default: 40, 20 and 4)")
    parser.add_argument("--batch", type=int, default=128, help="of the LeNets")
    parser.add_argument("--resnet-batch", type=int, default=128)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = min(arguments.rounds, 3)
        arguments.resnet_batch = min(arguments.resnet_batch, 4)
    return arguments


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(arguments.threads)
    check_peak_bytes(torch.device(arguments.device))
    began = time.perf_counter()
    cases = {}
    for name in arguments.nets:
        cases[name] = measure(name, arguments)
    auto = select_backend(266_610, COMPONENTS, torch.float32, torch.device(arguments.device))
    notes: dict[str, Any] = about(time.perf_counter() - began, arguments) | {
        "auto": {"name": auto.name, "reason": auto.reason},
        "batch": {"lenets": arguments.batch, "wide_resnet_16_4": arguments.resnet_batch},
        "times_torch": ratios(cases, "torch"),
        "times_textbook": ratios(cases, "textbook"),
    }
    place: Path | None = folder(arguments)
    if place is not None:
        write_json(place / "step.json", {**cases, "_about": notes})
        if notes["times_torch"]:
            draw_step(place / "step.png", notes["times_torch"])


if __name__ == "__main__":
    main()
