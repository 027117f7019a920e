"""Scores: what a mean loss is shown as. A string, such as "rmse", that can be called."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

Name = TypeVar("Name")


class _Kind(NamedTuple):
    unit: str
    of: Callable[[float], float]  # the mean loss


def _itself(mean_loss: float) -> float:
    return mean_loss


KINDS = {
    "error": _Kind("percent", lambda mean_loss: 100 * mean_loss),
    "exact_match_error": _Kind("percent", lambda mean_loss: 100 * mean_loss),
    "bits": _Kind("bits", _itself),
    "nll": _Kind("nats", _itself),
    "rmse": _Kind("target units", math.sqrt),
    "mae": _Kind("target units", _itself),
}


class Score(str):
    """A score's name, one of KINDS, which makes the score of a mean loss: ``Score("rmse")(4.0)``.

    It is the string in all else: equal to it, with its hash and repr. ``owner`` is a likelihood of
    a class whose own method ``score`` makes the score instead.
    """

    owner: Any = None

    def __call__(self, mean_loss: float) -> float:
        if self.owner is not None:
            return type(self.owner).score(self.owner, mean_loss)
        return KINDS[self].of(mean_loss)

    @property
    def unit(self) -> str:
        """Of the score: "percent", or the unit itself."""
        return KINDS[self].unit


if TYPE_CHECKING:

    class ScoredBy(Generic[Name]):
        """The type of a field that is given as one of some strings, and is then a Score."""

        def __get__(self, instance: object, owner: type) -> Score: ...
        def __set__(self, instance: object, value: Name) -> None: ...

else:

    class ScoredBy:
        """``ScoredBy[Literal["rmse", "mae"]]`` is that Literal: a field's choices."""

        def __class_getitem__(cls, choices):
            return choices


class Scored:
    """What likelihoods with a field ``score`` share, which ``own_score`` has made a Score."""

    score: Any

    @property
    def score_name(self) -> str:
        """What the score is called."""
        return str(self.score)

    @property
    def score_unit(self) -> str:
        """Of the score: "percent", or the unit itself."""
        return self.score.unit


def own_score(spec: Any) -> None:
    """Make a frozen spec's field ``score`` a Score; for its ``__post_init__``.

    A class derived from the spec's may have a method of that name instead, as of any likelihood.
    """
    score = Score(spec.score)
    if callable(type(spec).score):
        score.owner = spec
    object.__setattr__(spec, "score", score)
