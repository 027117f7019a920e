"""The [search] table of a recipe: which keys vary from trial to trial, how far, and how. Values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pyro_sws.recipes.validation import check

BOUNDS = ("low", "high", "choices")


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both ends are whole."""

    __pydantic_config__ = {"extra": "forbid"}
    low: int | float
    high: int | float
    log: bool = False  # evenly over the logarithm

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low must be below high, got {self.low} and {self.high}")
        if self.log and not self.low > 0:
            raise ValueError(f"low must be positive where log = true, got {self.low}")

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def examples(self) -> tuple[object, ...]:
        """Values that a recipe must take for the range to make sense."""
        return self.low, self.high


@dataclass(frozen=True)
class Choices:
    """One of several values: of anything that TOML can say, whole tables too."""

    __pydantic_config__ = {"extra": "forbid"}
    choices: tuple[object, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("choices must not be empty")
        if any(value in self.choices[:i] for i, value in enumerate(self.choices)):
            raise ValueError(f"choices must differ, got {list(self.choices)}")

    @property
    def examples(self) -> tuple[object, ...]:
        return self.choices


@dataclass(frozen=True)
class Pruning:
    """When a trial is given up early; the rule and its reason are in ``is_hopeless``."""

    __pydantic_config__ = {"extra": "forbid"}
    rungs: tuple[float, ...] = (0.5,)  # shares of a trial's epochs after which it is judged
    share: float = 0.5  # of the finished trials: so many must dominate it there
    after: int = 10  # finished trials, before which none is given up

    def __post_init__(self) -> None:
        if not all(0 < rung < 1 for rung in self.rungs) or list(self.rungs) != sorted(self.rungs):
            raise ValueError(f"rungs must rise between 0 and 1, got {list(self.rungs)}")
        if not 0 <= self.share < 1:
            raise ValueError(f"share must be in [0, 1), got {self.share}")
        if self.after < 1:
            raise ValueError(f"after must be at least 1 trial, got {self.after}")

    def rung_at(self, epoch: int, epochs: int) -> float | None:
        """The rung that is reached at the end of this epoch (from 1), the last if there are two."""
        reached = [rung for rung in self.rungs if math.ceil(rung * epochs) == epoch < epochs]
        return reached[-1] if reached else None


@dataclass(frozen=True)
class SearchSettings:
    """How ``search`` varies a recipe; see there."""

    __pydantic_config__ = {"extra": "forbid"}
    space: Mapping[str, Range | Choices]  # by the path of a key, as --set has it
    sampler: Literal["tpe", "gp"] = "tpe"
    seed: int = 0  # of the sampler
    epochs: int | None = None  # of a trial's fit, instead of the recipe's
    worst_score: float | None = None  # above it a file is of no use, however small
    pruning: Pruning = Pruning()

    def __post_init__(self) -> None:
        if not self.space:
            raise ValueError("search.space: must name at least one key, such as tau")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"search.seed must be in 0..2^63 - 1, got {self.seed}")
        if self.epochs is not None and self.epochs < 1:
            raise ValueError(f"search.epochs must be at least 1, got {self.epochs}")
        if self.worst_score is not None and not math.isfinite(self.worst_score):
            raise ValueError(f"search.worst_score must be a finite number, got {self.worst_score}")
        for path in self.space:
            if path.split(".")[0] == "search":
                raise ValueError(f"search.space: {path!r} is the search's own; leave it out")
        if self.epochs is not None and "epochs" in self.space:
            raise ValueError(
                f"search.epochs = {self.epochs} and a range of epochs in search.space: give one"
            )


def search_settings(table: object) -> SearchSettings:
    """The settings from a recipe's [search]. Raises ValueError with the key's path."""
    space = table.get("space") if isinstance(table, dict) else None
    for key, bounds in space.items() if isinstance(space, dict) else ():
        path = _whole_path(key, bounds)
        if path != key:
            raise ValueError(
                f"search.space.{key}: the paths of keys stand in quotes there, such as "
                f'"{path}" = {{ low = 1, high = 2 }}'
            )
    return check(SearchSettings, table, "search")


def _whole_path(path: str, value: object) -> str:
    """Where tables in tables lead: what a path without quotes is in TOML."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key not in BOUNDS and isinstance(inner, dict):
            return _whole_path(f"{path}.{key}", inner)
    return path
