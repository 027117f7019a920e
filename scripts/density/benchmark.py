"""Time the summed mixture log-density with all its gradients: every way, side by side.

    python scripts/density/benchmark.py            # minutes; writes docs/results/density
    python scripts/density/benchmark.py --quick    # a minute; prints only

The ways: torch's MixtureSameFamily and a broadcast logsumexp under autograd, this package's
portable and compiled ones, and a plain C loop (one thread) as the limit to aim at. All run in one
process, in turn, round after round; a median is over all calls of all rounds, compilation apart.
Extra memory is the peak beyond inputs and gradients (see timing.peak_bytes), found in a call that
is not timed.

Weights are drawn like a trained LeNet-300-100's: three layers of normal weights of deviation .03,
.06 and .15, in proportion to that network's layers at every N. Means are spread evenly over their
range with one at 0, which has proportion .999, as in the method's prior. In the case "fitted", 97 %
of the weights are within .01 of zero under a spike of deviation .005, the rest near slabs of .02.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, Normal

from pyro_sws.weights.density.log_density import (
    HALF_LOG_2PI,
    density_backend,
    log_density,
    select_backend,
)

sys.path.insert(0, str(Path(__file__).parents[2]))  # run by path: neighbours too

from scripts.density.c_loop import CLoop, compile_loop
from scripts.shared.pictures import draw_density
from scripts.shared.results import write_json
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
    seconds_of,
    significant,
    turn,
)

LENET = 266_610
COMPONENTS = 17
LAYERS = {235_200: 0.03, 30_000: 0.06, 1_410: 0.15}  # weights of LeNet-300-100 -> deviation
ZERO_PROPORTION = 0.999
J_SWEEP = (5, 9, 17, 33, 65, 129, 257)
N_SWEEP = (10**4, 10**5, LENET, 10**6, 10**7, 10**8)
LINEAR_FROM = 100_000  # below, a call's fixed cost shows
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}

# (N, J) tensors that autograd keeps alive at once; a way that would need more bytes is left out.
KEPT_TENSORS, MOST_BYTES = 6, 4e9

# Of one weight under one component, an exp or a maximum counted as one; for --peak-tflops alone.
OPERATIONS = 18

NAMES = "value", "w", "means", "precisions", "log_proportions"
Result = tuple[Tensor, ...]  # value, and the gradients of w, means, precisions, log-proportions


@dataclass(frozen=True)
class Case:
    """One problem: N weights under J components."""

    size: int = LENET
    components: int = COMPONENTS
    deviation: float = 0.01
    dtype: torch.dtype = torch.float32
    fitted: bool = False

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        state = "fitted" if self.fitted else f"deviation={self.deviation:g}"
        return f"N={self.size} J={self.components} {state} {dtype}"


@dataclass(frozen=True)
class Problem:
    w: Tensor
    means: Tensor
    precisions: Tensor
    log_proportions: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        return self.w, self.means, self.precisions, self.log_proportions


def problem(case: Case, device: torch.device) -> Problem:
    """The case's tensors; the same on every machine."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(case.size, generator=generator)
    shares = np.cumsum(list(LAYERS)) / LENET
    ends = [0, *(round(case.size * share) for share in shares)]
    for start, end, deviation in zip(ends, ends[1:], LAYERS.values(), strict=False):
        weights[start:end] *= deviation
    means = torch.linspace(*weights.aminmax(), case.components)
    spike = int(means.abs().argmin())
    means[spike] = 0
    deviations = torch.full((case.components,), case.deviation)
    if case.fitted:
        deviations.fill_(0.02)
        deviations[spike] = 0.005
        weights = fitted_weights(case, means, spike, generator)
    slab_share = (1 - ZERO_PROPORTION) / (case.components - 1)
    proportions = torch.full((case.components,), slab_share, dtype=torch.float64)
    proportions[spike] = ZERO_PROPORTION
    tensors = (weights, means, deviations**-2, proportions.log())
    return Problem(*(t.to(device, case.dtype).requires_grad_() for t in tensors))


def fitted_weights(case: Case, means: Tensor, spike: int, generator: torch.Generator) -> Tensor:
    """97 % within .01 of zero, the rest around a slab's mean each, in a random order."""
    noise = torch.randn(case.size, generator=generator)
    slabs = torch.randint(case.components - 1, (case.size,), generator=generator)
    slabs += slabs >= spike
    zero = torch.rand(case.size, generator=generator) < 0.97
    return torch.where(zero, (0.004 * noise).clamp(-0.01, 0.01), means[slabs] + 0.02 * noise)


# The ways.


def differentiated(density: Callable[..., Tensor], given: Problem) -> Result:
    value = density(*given.leaves)
    return value.detach(), *torch.autograd.grad(value, given.leaves)


def same_family(w: Tensor, means: Tensor, precisions: Tensor, log_proportions: Tensor) -> Tensor:
    proportions = Categorical(logits=log_proportions, validate_args=False)
    components = Normal(means, precisions.rsqrt(), validate_args=False)
    return MixtureSameFamily(proportions, components, validate_args=False).log_prob(w).sum()


def broadcast(w: Tensor, means: Tensor, precisions: Tensor, log_proportions: Tensor) -> Tensor:
    constants = log_proportions + 0.5 * precisions.log() - HALF_LOG_2PI
    joint = constants - 0.5 * precisions * (w.unsqueeze(1) - means).square()
    return joint.logsumexp(1).sum()


def ours(way: str, given: Problem) -> Result:
    with density_backend(way):
        return differentiated(log_density, given)


def ways_for(case: Case, given: Problem, loop: CLoop | None) -> dict[str, Callable[[], Result]]:
    """Way -> call; without those that need too much memory, or a compiler that is not there."""
    ways: dict[str, Callable[[], Result]] = {}
    if case.size * case.components * case.dtype.itemsize * KEPT_TENSORS <= MOST_BYTES:
        ways["mixture_same_family"] = partial(differentiated, same_family, given)
        ways["broadcast"] = partial(differentiated, broadcast, given)
    else:
        print(f"{case}: the autograd ways are left out: over {MOST_BYTES / 1e9:g} GB")
    ways["portable"] = partial(ours, "portable", given)
    ways["compiled"] = partial(ours, "compiled", given)
    if loop is not None:
        ways["c_loop"] = partial(loop, *(leaf.detach() for leaf in given.leaves))
    return ways


# The measurement.


def measure(case: Case, arguments: argparse.Namespace, loops: Mapping) -> tuple[dict, float]:
    """Way -> median and memory; and how many seconds the compiled way's first call took longer."""
    device = torch.device(arguments.device)
    given = problem(case, device)
    ways = ways_for(case, given, loops.get(case.dtype))
    firsts = {way: seconds_of(call, device) for way, call in ways.items()}
    seconds = {way: seconds_of(call, device) for way, call in ways.items()}
    check_agreement(case, given, ways)
    peaks = {way: peak_bytes(call, device) for way, call in ways.items()}
    outputs = sum(leaf.nbytes for leaf in given.leaves)
    turns = {way: turn(call, device, seconds[way]) for way, call in ways.items()}
    taken = interleaved(turns, arguments.rounds)
    rows = {
        way: {
            "median_ms": median_ms(taken[way]),
            "peak_extra_mb": round(max(0, peaks[way] - outputs) / MEGABYTE, 3),
        }
        for way in ways
    }
    print_rows(str(case), rows, "mixture_same_family")
    if device.type == "cuda":
        print_limits(case, rows, arguments)
    return rows, max(0.0, firsts["compiled"] - seconds["compiled"])


def check_agreement(case: Case, given: Problem, ways: dict[str, Callable[[], Result]]) -> None:
    """Refuse to time a way whose value or gradients are not the portable way's.

    Differences are relative, in norm, to the sizes of what the sums add up, by the inequality of
    Cauchy and Schwarz: around a fitted mean the terms of its gradient cancel.
    """
    expected = ways["portable"]()
    value, w, _, by_precision, count = (t.double() for t in expected)
    precisions = given.precisions.detach().double()
    first = count / precisions
    second = (first - 2 * by_precision).clamp(min=0)
    sizes = value, w, precisions * (count * second).sqrt(), 0.5 * (first + second), count
    for way, call in ways.items():
        for name, found, b, size in zip(NAMES, call(), expected, sizes, strict=True):
            if name == "log_proportions" and way == "mixture_same_family":
                # Its logits are normalised: their gradients are those less N times the proportions.
                b = b - case.size * given.log_proportions.detach().exp()
            difference = float((found.double() - b.double()).norm() / size.norm())
            if not difference <= TOLERANCE[case.dtype]:
                raise RuntimeError(f"{case}: {way}'s {name} is off by {difference:.1e}")


def print_limits(case: Case, rows: dict, arguments: argparse.Namespace) -> None:
    """What shares of the device's two limits were reached: w read and its gradient written once."""
    moved = 2 * case.size * case.dtype.itemsize
    operations = OPERATIONS * case.size * case.components
    for way, row in rows.items():
        seconds = row["median_ms"] / 1e3
        words = []
        if arguments.peak_gbs:
            words.append(f"{moved / seconds / 1e9 / arguments.peak_gbs:.1%} of the bandwidth")
        if arguments.peak_tflops:
            share = operations / seconds / 1e12 / arguments.peak_tflops
            words.append(f"{share:.1%} of the arithmetic")
        if words:
            print(f"  {way:22} {', '.join(words)}")


def slope(cases: dict[Case, dict], way: str) -> float | None:
    """The exponent of N in a way's time, by least squares in logarithms; 1 is linear."""
    points = [
        (case.size, cases[case][way]["median_ms"])
        for case in n_sweep(max(N_SWEEP))
        if case.size >= LINEAR_FROM and way in cases.get(case, {})
    ]
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points)).T
    return significant(float(np.polyfit(x, y, 1)[0]), 3)


def n_sweep(largest: int) -> list[Case]:
    return [Case(size=size) for size in N_SWEEP if size <= largest]


def cases_of(arguments: argparse.Namespace) -> list[Case]:
    if arguments.quick:
        return [*n_sweep(LENET), Case(components=5), Case(fitted=True)]
    main = [
        Case(),
        Case(deviation=0.25),
        Case(components=65),
        Case(dtype=torch.float64),
        Case(fitted=True),
    ]
    sweeps = [Case(components=j) for j in J_SWEEP] + n_sweep(arguments.largest)
    return list(dict.fromkeys(main + sweeps))


@contextmanager
def fresh_caches() -> Iterator[Path]:
    """A folder for what is compiled, empty at first: else compile time is that of a look-up."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(place) / "inductor")
        yield Path(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    common_arguments(parser)
    parser.add_argument("--largest", type=int, default=10**8, help="of the sweep over N")
    parser.add_argument("--peak-gbs", type=float, help="a GPU's memory bandwidth, in GB/s")
    parser.add_argument("--peak-tflops", type=float, help="a GPU's float32 arithmetic, in TFLOP/s")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds = min(arguments.rounds, 3)
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    check_peak_bytes(device)
    began = time.perf_counter()
    measured: dict[Case, dict] = {}
    compiling: dict[str, float] = {}
    with fresh_caches() as place:
        loops = compile_loop(place) if device.type == "cpu" else {}
        for case in cases_of(arguments):
            measured[case], compiling[str(case)] = measure(case, arguments, loops)
    report(measured, compiling, time.perf_counter() - began, arguments)


def report(
    measured: dict[Case, dict], compiling: dict[str, float], seconds: float, arguments: Any
) -> None:
    """Print the exponents; write the numbers and the picture."""
    exponents = {way: slope(measured, way) for way in ("portable", "compiled", "c_loop")}
    print(f"\ntime grows as N to the power of {exponents} (1 is linear)")
    auto = select_backend(LENET, COMPONENTS, torch.float32, torch.device(arguments.device))
    cases = {str(case): rows for case, rows in measured.items()}
    notes = about(seconds, arguments) | {
        "compile_seconds": {case: round(s, 2) for case, s in compiling.items() if s > 0.5},
        "auto": {"name": auto.name, "reason": auto.reason},
        "exponent_of_n": exponents,
        "times_mixture_same_family": ratios(cases, "mixture_same_family"),
        "times_c_loop": ratios(cases, "c_loop"),
    }
    place = folder(arguments)
    if place is None:
        return
    write_json(place / "density.json", {**cases, "_about": notes})
    over_n = {case.size: measured[case] for case in n_sweep(arguments.largest) if case in measured}
    over_j = {j: measured[Case(components=j)] for j in J_SWEEP if Case(components=j) in measured}
    draw_density(place / "density.png", over_n, over_j)


if __name__ == "__main__":
    main()
