"""How far a walk got, between two of its steps: kept, and taken up again.

Places are kept by what changes on the way: mixtures, weights, units, scales, noise, width. All else
is that of the place that the walk set out from.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from pyro_sws.compression.walk.descent import Descent
from pyro_sws.compression.walk.frontier import Point
from pyro_sws.compression.walk.pace import Pace, Stand
from pyro_sws.compression.walk.place import Place
from pyro_sws.compression.walk.walker import Walker
from pyro_sws.inference.checkpoint import (
    StageState,
    adam_state,
    fill,
    named,
    on,
    set_adam_state,
)
from pyro_sws.weights.mixture import Mixture

COUNTED = ("legs", "taken", "slower", "least_rate", "retries")  # of a walker
PACED = ("least", "speed", "fastest", "average", "held", "patience")


def state_of(walker: Walker, pace: Pace, best: Stand | None) -> StageState:
    """What is kept of a walk that has just taken a step."""
    stands = {"good": pace.good, "stand": pace.stand, "best": best}
    places: dict[int, Place] = {}  # the same one may be in several
    for stand in stands.values():
        if stand is not None:
            places[stand.point.step] = stand.place
    now = time.perf_counter()
    tensors: dict[str, Tensor] = {}
    for step, place in places.items():
        tensors |= named(f"place.{step}", _tensors(place))
    for point in walker.points:
        tensors[f"file.{point.step}"] = torch.frombuffer(bytearray(point.data), dtype=torch.uint8)
    rest = {
        "done": walker.taken,
        "total": walker.total(),
        "stands": {name: None if s is None else s.point.step for name, s in stands.items()},
        "widths": {step: place.width for step, place in places.items()},
        "points": [_row(point) for point in walker.points],
        "history": walker.history,
        "reference": walker.judge.reference,
        "walker": {name: getattr(walker, name) for name in COUNTED},
        "pace": {name: getattr(pace, name) for name in PACED},
        "seconds": now - walker.began,
        "warm": None if walker.warm is None else [walker.warm[0], walker.warm[1] - walker.began],
        "descent": None if walker.descent is None else list(walker.descent.means),
    }
    if walker.descent is not None:
        tensors |= _descent_tensors(walker.descent)
    return StageState(tensors, rest).joined(walker.train.state())


def taken_up(walker: Walker, start: Place, found: StageState) -> tuple[Pace, Stand | None]:
    """Set the walker to where it was left. The pace, and the best stand, that it had there."""
    rest, now = found.rest, time.perf_counter()
    files = found.part("file")
    walker.points = [
        Point(**row, data=bytes(files[str(row["step"])].numpy())) for row in rest["points"]
    ]
    walker.history = list(rest["history"])
    walker.judge = replace(walker.judge, reference=rest["reference"])
    for name, value in rest["walker"].items():
        setattr(walker, name, value)
    walker.began, walker.told = now - rest["seconds"], now
    if rest["warm"] is not None:
        steps, at = rest["warm"]
        walker.warm = steps, walker.began + at
    walker.train.go_to(found)
    stands: dict[str, Stand] = {}
    for name, step in rest["stands"].items():
        if step is not None:
            kept = found.part(f"place.{step}")
            place = _place(start, kept, rest["widths"][str(step)])
            stands[name] = Stand(place, walker.points[step])
    pace = Pace(stands["good"], rest["pace"]["least"], rest["pace"]["speed"])
    pace.stand = stands.get("stand")
    for name, value in rest["pace"].items():
        setattr(pace, name, value)
    if rest["descent"] is not None:
        walker.descent = _descent(walker, pace.good.place, rest["descent"], found)
    return pace, stands.get("best")


def _row(point: Point) -> dict[str, Any]:
    names = [field.name for field in fields(point) if field.name != "data"]
    return {name: getattr(point, name) for name in names}


def _tensors(place: Place) -> dict[str, Tensor]:
    tensors = {**named("weights", place.weights), **named("noise", place.noise)}
    tensors |= named("units", place.units)
    for name, density in place.densities.items():
        tensors |= named(f"mixture.{name}", vars(density.mixture))
        scales = getattr(place.own[name], "scales", None)
        if scales is not None:
            tensors[f"scales.{name}"] = scales
    return tensors


def _place(start: Place, kept: Mapping[str, Tensor], width: float) -> Place:
    found = StageState(on(kept, next(iter(start.weights.values())).device), {})
    scales = found.part("scales")
    own = {
        name: replace(prior, scales=scales[name]) if name in scales else prior  # type: ignore[type-var]
        for name, prior in start.own.items()
    }
    place = replace(
        start,
        units=_in_order(start.units, found.part("units")),
        own=own,
        weights=_in_order(start.weights, found.part("weights")),
        noise=_in_order(start.noise, found.part("noise")),
        width=width,
    )
    return place.with_mixtures(
        {name: Mixture(**found.part(f"mixture.{name}")) for name in start.densities}
    )


def _in_order(of: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By the same names, in the same order, which files of safetensors have not."""
    return {name: kept[name] for name in of}


def _moving(descent: Descent) -> dict[str, Tensor]:
    """Parameters with moments, by names that no two share."""
    kinds = {"weights": descent.weights, "means": descent.means, "scales": descent.scales}
    all_of = {
        f"{kind}.{name}": parameter
        for kind, parameters in kinds.items()
        for name, parameter in parameters.items()
    }
    return {**all_of, "noise": descent.noise}


def _descent_tensors(descent: Descent) -> dict[str, Tensor]:
    moving = _moving(descent)
    return {**named("moving", moving), **adam_state(descent.optimiser, moving)}


def _descent(walker: Walker, place: Place, means: Iterable[str], found: StageState) -> Descent:
    """A descent with the moments that it had, at parameters that it is set out from anyway."""
    descent = Descent(place, walker.train, walker.codebook_dtype)
    kept = found.part("moving")
    for name in means:
        descent.means[name] = nn.Parameter(kept[f"means.{name}"].to(descent.noise.device))
    descent.optimiser.param_groups[1]["params"] = list(descent.means.values())
    fill(_moving(descent), on(kept, descent.noise.device))
    set_adam_state(descent.optimiser, _moving(descent), found)
    return descent
