"""The walk: from a width at which snapping loses nothing, as far as the snapped network holds."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pyro_sws.codec.container import encode
from pyro_sws.compression.walk.frontier import Frontier, Point
from pyro_sws.compression.walk.judge import Judge
from pyro_sws.compression.walk.place import Place
from pyro_sws.compression.walk.portions import Portion
from pyro_sws.compression.walk.settings import Budget, Walk
from pyro_sws.inference.fit import as_weights, fit
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.history import History
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.progress import Callback, Progress, ignore
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import quantize

TIMED = 10  # optimiser steps, from which it is known how long one takes
SETTLING = 4  # steps of a walk that the first one is worth: the network as it was gets used to it
SLOWEST = 1.02  # the least growth: at less the rest of a budget would go by on the spot
# Tolerances lost in a step from which it is held, and how often at most; and from which there is no
# hope in that.
STEEP, HOLDS, LOST = 0.5, 3, 20.0
SLOWER = (1.0, 0.25, 0.0625)  # factors on rates, the first at which the network learns is taken
CHANCE = 2.0  # standard errors that a held-out score may be beyond the limit by chance
EXPLORED, CAREFUL = 0.6, 1.15  # share of the budget until it goes on from the best; growth then
LEGS = 5  # of the way to a width
FASTER = 1.5  # exponent on growth, where a step was easy
LONGER = 1.3  # factor on the length of steps, where one was too far


@dataclass(frozen=True, eq=False)
class Walked:
    """What a walk found. Rows of history are a fit's, one for every step of the walk."""

    posterior: Posterior | None  # of the shortest file within the tolerance; None: there was none
    frontier: Frontier
    history: History


@dataclass(frozen=True, eq=False)
class _Stand:
    """A place, and what the file made of it is like."""

    place: Place
    point: Point
    training: float  # score on the training examples that are watched


def walk(
    model: Joint,
    judge: Judge,
    watch: Judge,
    train: Iterable,
    pass_steps: int,
    settings: Walk = Walk(),  # noqa: B008  (frozen)
    budget: Budget = Budget(),  # noqa: B008  (frozen)
    *,
    codebook_dtype: str = "float16",
    seed: int = 0,
    callback: Callback | None = None,
) -> Walked:
    """Anneal the width of all components, the network computing with its snapped weights.

    With all components of one small width s, each weight snaps to the nearest value, and the
    network is the trained one. A weight w leaves the value v for zero below v / 2 + s^2 D / v, D
    being the difference of the two log proportions: zero's dead zone ends at s sqrt(2 D), and s^2
    is the Lagrange multiplier of rate against distortion. So s grows by a factor, and weights and
    values are fitted on under it, straight through the snapping, at the prior's cost; proportions
    follow the shares of the values in use. Where the score gets much worse, the width is held for
    a few steps; where it is then beyond the limit, by more than chance, the walk goes back to where
    it stood, and on in shorter and longer-lasting steps. For the last part of the budget it goes
    back to the best file so far, and no score is beyond the limit by chance.

    Args:
        model: what ``joint`` returned; its priors say the values to set out from.
        judge: what the snapped network is held to.
        watch: the same for training examples, by which it is seen whether a step was too long;
            where it is the judge, the reference is the network's own score after it has gone on
            learning at the first width, if that is better: both have seen those examples.
        train: a re-iterable of (inputs, targets).
        pass_steps: the batches of a pass through it.
        settings, budget: how it goes, and for how long.
        codebook_dtype: of the values in the file, "float16" or "float32".
        seed: of shuffling and of networks that draw.
        callback: is told of each step, of the stage "walk".

    Raises:
        ValueError: for a prior without values, and what ``fit`` raises.
    """
    walker = _Walker(judge, watch, Portion(train), pass_steps, settings, codebook_dtype, seed)
    place = Place.of(model, settings.width, settings.zero)
    good = walker.measured(place)
    best = good if good.point.within else None
    place = walker.fitted(walker.fitted(place, TIMED), TIMED)  # the first steps compile and warm up
    growth, pace, tell = settings.growth, 1.0, callback or ignore
    good = walker.settled(place, budget)
    if watch is judge:
        walker.lower_reference(good.point.score)
        best = best if best is not None and best.point.score <= walker.judge.limit else None
    best = _shorter(best, good)
    while length := walker.length(budget, pace):
        if (
            best is not None
            and not walker.strict
            and walker.taken > EXPLORED * walker.total(budget)
        ):
            walker.strict, good, growth = True, best, min(growth, CAREFUL)
        wide = good.place.width * growth
        stand = walker.stepped(good.place, wide, length)
        best, held = _shorter(best, stand), 0
        while held < HOLDS and walker.hard(good, stand) and (length := walker.length(budget, pace)):
            stand = walker.stepped(stand.place, wide, length)
            best, held = _shorter(best, stand), held + 1
        if walker.holds(good, stand):
            growth = growth if held else min(growth**FASTER, settings.growth)
            good = stand
        else:
            growth, pace = max(SLOWEST, math.sqrt(growth)), pace * LONGER
        done, total = walker.taken, walker.total(budget)
        tell(Progress("walk", min(done, total), total, walker.history[-1]))
    return Walked(
        None if best is None else best.place.posterior, walker.frontier(model), walker.history
    )


class _Walker:
    """Steps of a walk, and what was met on it so far."""

    def __init__(
        self,
        judge: Judge,
        watch: Judge,
        train: Portion,
        pass_steps: int,
        settings: Walk,
        codebook_dtype: str,
        seed: int,
    ):
        self.judge, self.watch = judge, watch
        self.train, self.pass_steps = train, pass_steps
        self.settings, self.codebook_dtype, self.seed = settings, codebook_dtype, seed
        self.points: list[Point] = []
        self.history: History = []
        self.taken = 0  # optimiser steps
        self.slower = SLOWER[0]
        self.strict = False
        self.began = time.perf_counter()
        self.warm: tuple[int, float] | None = None  # steps and time where the first were taken

    def total(self, budget: Budget) -> int:
        """Optimiser steps in the budget, at the pace so far."""
        assert self.warm is not None
        steps, at = self.warm
        now = time.perf_counter()
        each = (now - at) / max(1, self.taken - steps)
        return budget.steps(self.pass_steps, each, self.taken, now - self.began)

    def length(self, budget: Budget, pace: float = 1.0) -> int:
        """Optimiser steps that a width lasts; 0 at the budget's end."""
        total = self.total(budget)
        usual = round(pace * max(1, total // self.settings.steps))
        return min(usual, max(0, total - self.taken))

    def settled(self, place: Place, budget: Budget) -> _Stand:
        """Where the network goes on learning at the width it has, at rates at which it does.

        Rates that keep it beyond the limit are lowered, and it starts again: they are what noise it
        can bear, which no network or data says in advance.
        """
        stands: list[_Stand] = []
        for slower in SLOWER:
            length = SETTLING * self.length(budget)
            if stands and not length:
                break
            self.slower = slower
            stands.append(self.stepped(place, place.width, max(1, length)))
            if stands[-1].point.score <= self.sound:
                return stands[-1]
        best = min(range(len(stands)), key=lambda i: stands[i].point.score)
        self.slower = SLOWER[best]
        return stands[best]

    def stepped(self, place: Place, width: float, length: int) -> _Stand:
        """Where so many optimiser steps lead: half of them on the way to the width, half at it."""
        ramp = length // 2 if width > place.width else 0
        legs = min(LEGS, ramp)
        for i in range(legs):
            on_the_way = place.width * (width / place.width) ** (1 / (legs - i))
            size = ramp * (i + 1) // legs - ramp * i // legs
            place = self.fitted(place.wider(on_the_way, self.settings.zero), size)
        place = place.wider(width, self.settings.zero)
        return self.measured(self.fitted(place, length - ramp, self.settings.decay))

    def fitted(self, place: Place, length: int, decay: float = 1.0) -> Place:
        """The place after so many optimiser steps, over which rates decay by that factor."""
        model = place.walking(self.codebook_dtype)
        settings = Fitting(
            epochs=1,
            rates=self.settings.rates.whole(),
            schedule=lambda progress: self.slower * decay**progress,
        )
        guide = delta_guide(model, dict(place.noise))
        fitted = fit(
            model, guide, self.train.of(length), settings, seed=self.seed + len(self.history)
        )
        self.taken += length
        self.warm = self.warm or (self.taken, time.perf_counter())
        self.history += [{**row, "epoch": len(self.history) + 1} for row in fitted.history]
        return place.moved(fitted.posterior)

    def measured(self, place: Place) -> _Stand:
        """The place with its file's length and its snapped network's score."""
        quantized = quantize(place.posterior, self.codebook_dtype)
        data = encode(quantized)
        weights = as_weights(place.model, quantized.dequantize())
        score = training = self.judge.score(weights, dict(place.noise))
        if self.watch is not self.judge:
            training = self.watch.score(weights, dict(place.noise))
        if self.history:
            row = self.history[-1]
            row["validation_quantized"] = score if math.isfinite(score) else None
            row["file_bytes"], row["width"] = len(data), place.width
        point = Point(
            step=len(self.points),
            bytes=len(data),
            score=score,
            within=score <= self.judge.limit,
            width=place.width,
            tau=place.tau,
            nonzero_percent=100 * quantized.nonzero / max(1, quantized.size),
            passes=self.taken / self.pass_steps,
            seconds=time.perf_counter() - self.began,
            data=data,
        )
        self.points.append(point)
        return _Stand(place, point, training)

    def lower_reference(self, score: float) -> None:
        """Hold the rest of the walk to a better score, where this one is."""
        self.judge = self.watch = replace(self.judge, reference=min(self.judge.reference, score))
        self.points = [
            replace(point, within=point.score <= self.judge.limit) for point in self.points
        ]

    def hard(self, before: _Stand, after: _Stand) -> bool:
        """Whether a step has lost much, or more than there was to lose: it may come back."""
        lost = (after.training - before.training) / self.watch.tolerance
        return STEEP < lost <= LOST or lost <= LOST and not self.holds(before, after)

    def holds(self, before: _Stand, after: _Stand) -> bool:
        """Whether the walk may go on from there: it is sound, or no worse than it was."""
        return after.point.score <= max(self.sound, before.point.score)

    @property
    def sound(self) -> float:
        """The limit, and what a score of few examples may be beyond it by chance."""
        by_chance = not self.strict and self.watch is not self.judge
        chance = CHANCE * self.judge.error if by_chance else 0.0
        return self.judge.limit + chance

    def frontier(self, model: Joint) -> Frontier:
        judge = self.judge
        unit = model.likelihood.score_unit
        return Frontier(tuple(self.points), judge.reference, judge.tolerance, unit, judge.name)


def _shorter(best: _Stand | None, stand: _Stand) -> _Stand | None:
    """The shorter of the two that is within the tolerance; the better of two equally short."""
    if not stand.point.within:
        return best
    if best is None:
        return stand
    return min(best, stand, key=lambda s: (s.point.bytes, s.point.score))
