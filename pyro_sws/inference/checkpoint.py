"""How far a stage got: what it hands over as it goes, and asks for when it is started again.

    saved = stage.load()  # None where nothing was kept
    ...
    stage.reached(lambda: StageState(tensors, rest))  # after each step; it is called now and then

A stage that goes on from its state ends as one that was never ended. Who keeps states, and when,
stages do not know.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

ADAM = ("step", "exp_avg", "exp_avg_sq")


@dataclass(frozen=True, eq=False)
class StageState:
    """Tensors by name, and what else there is, as JSON has it: "done" and "total" among it."""

    tensors: Mapping[str, Tensor]
    rest: Mapping[str, Any]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors "prefix.name", by name."""
        start = f"{prefix}."
        return {n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)}

    def joined(self, other: "StageState") -> "StageState":
        """With what the other has, too."""
        return StageState({**self.tensors, **other.tensors}, {**self.rest, **other.rest})


class Stage:
    """A stage's place to keep its state; this one keeps none."""

    def load(self) -> StageState | None:
        """What was kept; None for nothing."""
        return None

    def reached(self, state: Callable[[], StageState], *, ended: bool = False) -> None:
        """Keep ``state()``, if it is time, and at the stage's end in any case."""

    def along(self, more: Callable[[], StageState]) -> "Stage":
        """The same, where ``more()`` is kept beside each state."""
        return _Along(self, more)


class _Along(Stage):
    def __init__(self, inner: Stage, more: Callable[[], StageState]):
        self.inner, self.more = inner, more

    def load(self) -> StageState | None:
        return self.inner.load()

    def reached(self, state: Callable[[], StageState], *, ended: bool = False) -> None:
        self.inner.reached(lambda: state().joined(self.more()), ended=ended)


class Checkpoint:
    """Places for stages by their names; this one keeps nothing."""

    def stage(self, name: str) -> Stage:
        return Stage()


def on(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The tensors where they are computed with."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a state has them, "prefix.name"."""
    return {f"{prefix}.{name}": tensor.detach() for name, tensor in tensors.items()}


def adam_state(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Moments and steps of parameters that have some, "adam.exp_avg.name"."""
    return {
        f"adam.{kind}.{name}": optimiser.state[parameter][kind]
        for name, parameter in parameters.items()
        if parameter in optimiser.state
        for kind in ADAM
    }


def set_adam_state(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, Tensor], state: StageState
) -> None:
    """Give the optimiser what ``adam_state`` had of the same parameters."""
    kept = {kind: state.part(f"adam.{kind}") for kind in ADAM}
    names = {id(parameter): name for name, parameter in parameters.items()}
    own = optimiser.state_dict()
    order = [names[id(p)] for group in optimiser.param_groups for p in group["params"]]
    own["state"] = {
        i: {kind: kept[kind][name] for kind in ADAM}
        for i, name in enumerate(order)
        if name in kept["step"]
    }
    optimiser.load_state_dict(own)


def generators(device: torch.device) -> dict[str, Tensor]:
    """The states of torch's generators, "generator.cpu" and of the device."""
    states = {"generator.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["generator.cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_generators(state: StageState, device: torch.device) -> None:
    """Set torch's generators to what ``generators`` had, if it was kept."""
    kept = state.part("generator")
    if "cpu" in kept:
        torch.set_rng_state(kept["cpu"])
    if "cuda" in kept and device.type == "cuda":
        torch.cuda.set_rng_state(kept["cuda"], device)


def fill(parameters: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into parameters of the same names. Raises ValueError for others, or shapes."""
    if parameters.keys() != values.keys():
        odd = sorted(parameters.keys() ^ values.keys())[0]
        raise ValueError(f"the checkpoint does not fit: {odd!r} is in one of the two only")
    with torch.no_grad():
        for name, parameter in parameters.items():
            if parameter.shape != values[name].shape:
                shapes = f"{tuple(values[name].shape)}, not {tuple(parameter.shape)}"
                raise ValueError(f"the checkpoint does not fit: {name!r} is {shapes}")
            parameter.copy_(values[name])
