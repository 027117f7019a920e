"""The methods: from a network and unlabelled inputs to files, each with the network it decodes to.

A method gives lines of files, each from the finest to the coarsest, made one by one as they are
asked for: whoever asks stops a line where the network is no longer of use.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor, nn

import pyro_sws as sws
from pyro_sws.weights.load import load
from scripts.post_training import gptq, grids
from scripts.post_training.lines import Line, Made
from scripts.post_training.memory import peak_megabytes
from scripts.post_training.networks import GIVEN, Case
from scripts.post_training.nncodec_lines import nncodec_lines

FAR = 0.03  # nats, the tolerance of one sweep that goes from hardly a loss to three times that

Multiples = Callable[[nn.Module, Tensor, Mapping[str, float]], Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Tools:
    """What a method may need that is not of this project."""

    nncodec: Path | None = None  # the Python of an environment with nncodec
    ioq: bool = False  # whether nncodec's slow search of each tensor's steps is asked for


def rounding(case: Case, tools: Tools) -> Iterable[Line]:
    """Every parameter to the nearest multiple of its tensor's step."""
    return _on_grids(case, nearest)


def error_feedback(case: Case, tools: Tools) -> Iterable[Line]:
    """The same grids by GPTQ."""
    return _on_grids(case, gptq.multiples)


def nncodec(case: Case, tools: Tools) -> Iterable[Line]:
    """ISO/IEC 15938-17 by its reference software."""
    if tools.nncodec is None:
        raise ValueError("the method nncodec needs --nncodec, an environment's Python")
    return nncodec_lines(case, tools.nncodec, tools.ioq)


def post_training(case: Case, tools: Tools) -> Iterable[Line]:
    """This project's method: one call, whose frontier is the line."""
    return [_own_line(case)]


def _own_line(case: Case) -> Line:
    began = time.perf_counter()
    run, megabytes = peak_megabytes(
        lambda: sws.compress(case.net, case.inputs, fit=sws.PostTraining(), tolerance=FAR)
    )
    seconds = (time.perf_counter() - began) / len(run.frontier)
    predictions = len(case.inputs) * case.judge.predictions_an_example
    predicted = [row["error_cost_nats"] / predictions for row in run.history]
    made = zip(run.frontier.points, predicted, strict=True)
    for i, (point, nats) in enumerate(sorted(made, key=lambda one: -one[0].bytes)):
        decoded = load(point.data, into=case.net)
        yield Made(f"point {i}", len(point.data), decoded, seconds, megabytes, nats)


METHODS: dict[str, Callable[[Case, Tools], Iterable[Line]]] = {
    "nncodec": nncodec,
    "rounding": rounding,
    "gptq": error_feedback,
    "post_training": post_training,
}


def nearest(net: nn.Module, inputs: Tensor, steps: Mapping[str, float]) -> dict[str, np.ndarray]:
    return {name: grids.rounded(v, steps[name]) for name, v in grids.coded(net).items()}


def _on_grids(case: Case, multiples: Multiples) -> Iterator[Line]:
    """A line a form of the network and a row of grids; statistics of norms are never coded."""
    forms = {name: net for name, net in case.forms.items() if name != GIVEN or len(case.forms) == 1}
    for form, net in forms.items():
        for row in grids.GRIDS:
            yield (_on_grid(case, form, net, grid, multiples) for grid in row)


def _on_grid(case: Case, form: str, net: nn.Module, grid: grids.Grid, multiples: Multiples) -> Made:
    def file() -> bytes:
        steps = grid.steps(grids.coded(net))
        return sws.encode(grids.quantized(net, multiples(net, case.inputs, steps), steps))

    began = time.perf_counter()
    data, megabytes = peak_megabytes(file)
    seconds = time.perf_counter() - began
    setting = str(grid) if form == GIVEN else f"{form}, {grid}"
    return Made(setting, len(data), load(data, into=net), seconds, megabytes)
