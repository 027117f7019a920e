"""A walker: the steps that a walk is made of, and what was met on it so far."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from pyro_sws.codec.container import encode
from pyro_sws.compression.merge_by_description import merge_by_description
from pyro_sws.compression.walk.descent import Costs, Descent
from pyro_sws.compression.walk.frontier import Frontier, Point
from pyro_sws.compression.walk.judge import Judge
from pyro_sws.compression.walk.objective import Objective
from pyro_sws.compression.walk.pace import LARGEST, Stand
from pyro_sws.compression.walk.place import Place
from pyro_sws.compression.walk.portions import Portion
from pyro_sws.compression.walk.settings import Budget, Walk
from pyro_sws.inference.batches import Batch
from pyro_sws.inference.finite import NotFiniteError
from pyro_sws.inference.finite_steps import NotFiniteGradientError
from pyro_sws.inference.fit import as_weights, mixtures
from pyro_sws.inference.history import History, HistoryRow
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.quantize import quantize

TIMED = 10  # optimiser steps, from which it is known how long one takes
SETTLING = 3  # steps of a walk that the first one is worth: the network as it was gets used to it
# Least factors on rates at the first step, larger ones where the ones before were not enough: most
# networks have next to nothing to learn there, others their values.
LEAST_RATES = 0.1, 0.3, 1.0
SLOWER = 0.25  # factor on rates, where a loss was not finite
LEGS = 5  # of the way to a width
FULL = 0.3  # width from which rates are whole; before they are in proportion
LAST, LATE = 0.5, 0.1  # share of the budget from which rates fall, and how far, at its end
FINER = 3  # times that values may double at the start
MERGING = 2  # rounds of moves at the end
RETRIES = 3  # of a step in which the loss stopped being finite


@dataclass(frozen=True, eq=False)
class Walked:
    """What a walk found. Rows of history are a fit's, one for every step of the walk."""

    posterior: Posterior | None  # of the shortest file within the tolerance; None: there was none
    frontier: Frontier
    history: History


class Walker:
    """Steps of a walk, and what was met on it so far."""

    def __init__(
        self,
        judge: Judge | Objective,
        train: Portion,
        pass_steps: int,
        settings: Walk,
        codebook_dtype: str,
        seed: int,
        budget: Budget,
    ):
        self.judge, self.budget = judge, budget
        self.train, self.pass_steps = train, pass_steps
        self.settings, self.codebook_dtype, self.seed = settings, codebook_dtype, seed
        self.points: list[Point] = []
        self.history: History = []
        self.descent: Descent | None = None
        self.legs = 0
        self.costs: list[Costs] = []  # since the last point
        self.taken = 0  # optimiser steps
        self.slower, self.least_rate, self.retries = 1.0, LEAST_RATES[0], RETRIES
        self.began = self.told = time.perf_counter()
        self.warm: tuple[int, float] | None = None  # steps and time where the first were taken

    def total(self) -> int:
        """Optimiser steps in the budget, at the pace so far."""
        if self.warm is None:
            return max(1, int((self.budget.passes or 1) * self.pass_steps))
        steps, at = self.warm
        now = time.perf_counter()
        each = (now - at) / max(1, self.taken - steps)
        return self.budget.steps(self.pass_steps, each, self.taken, now - self.began)

    def length(self) -> int:
        """Optimiser steps that a width lasts; 0 at the budget's end."""
        total = self.total()
        usual = max(1, total // self.settings.steps)
        return min(usual, max(0, total - self.taken))

    @property
    def share(self) -> float:
        """Of the budget that is spent."""
        return self.taken / self.total()

    def rate(self, width: float) -> float:
        """The factor on rates: those of weights are a random walk's, over the whole budget."""
        late = max(LATE, 1 - max(0.0, (self.share - LAST) / (1 - LAST)))
        return self.slower * late * max(self.least_rate, min(1.0, width / FULL))

    def has_minutes(self) -> bool:
        """Whether the budget's minutes, if it has any, are not up."""
        minutes = self.budget.minutes
        return minutes is None or time.perf_counter() - self.began < 60 * minutes

    def merged(self, stand: Stand, train: Iterable, sample: Sequence[Batch] | None) -> Stand | None:
        """The stand with fewer values, where its description is shorter for it.

        None where it is not, or where outputs of training examples are not finite.
        """
        posterior, place = stand.place.posterior, stand.place
        try:
            found = merge_by_description(
                place.model,
                posterior,
                train,
                tau=place.tau,
                codebook_dtype=self.codebook_dtype,
                sample=sample,
                rounds=MERGING,
                seed=self.seed,
            )
        except NotFiniteError:
            return None
        mixtures = {name: prior.mixture for name, prior in found.priors.items()}
        if all(len(mixtures[name]) == len(own.mixture) for name, own in posterior.priors.items()):
            return None
        return self.measured(place.with_mixtures(mixtures))

    def started(self, place: Place) -> Stand:
        """The place with values as fine as the network needs: until snapping loses nothing much.

        Some networks have more to say than a prior's values do: before others adapt they are lost.
        """
        stand = self.measured(place)
        for _ in range(FINER):
            if stand.point.within:
                break
            finer = self.measured(stand.place.finer(self.settings))
            if finer.point.score >= stand.point.score:
                break
            stand = finer
        return stand

    def slow_down(self) -> None:
        """Lower the rates, where a loss was not finite; Adam's moments are of no use there."""
        self.slower, self.retries = self.slower * SLOWER, self.retries - 1
        self.descent = None

    def settled(self, place: Place) -> Stand:
        """Where the network goes on learning at the width it has, at rates at which it does.

        Where that leaves it beyond the limit it starts again at larger ones, as long as those are
        better: what it has to learn, and what noise it can bear, no network or data says before.
        """
        best: tuple[float, Stand] | None = None
        for rate in LEAST_RATES:
            length = SETTLING * self.length()
            if best is not None and not length:
                break
            self.least_rate = rate
            try:
                stand = self.stepped(place, place.width, max(1, length))
            except FloatingPointError:
                self.descent = None
                if best is None:
                    raise
                break
            if best is not None and stand.point.score >= best[1].point.score:
                break
            best = rate, stand
            if stand.point.within:
                break
        assert best is not None
        self.least_rate, stand = best
        return stand

    def warmed_up(self, place: Place) -> Place:
        """The place after a few steps, the first of which compile and tell nothing of the time."""
        few = min(TIMED, self.length())
        try:
            return self.fitted(self.fitted(place, few), few)
        except NotFiniteGradientError:
            raise
        except FloatingPointError:
            self.descent = None
            return place

    def stepped(self, place: Place, width: float, length: int) -> Stand:
        """Where so many optimiser steps lead: half of them on the way to the width, half at it."""
        ramp = length // 2 if width > place.width else 0
        legs = min(LEGS, ramp)
        for i in range(legs):
            on_the_way = place.width * (width / place.width) ** (1 / (legs - i))
            size = ramp * (i + 1) // legs - ramp * i // legs
            place = self.fitted(place.wider(on_the_way, self.settings), size)
        place = place.wider(width, self.settings)
        return self.measured(self.fitted(place, length - ramp, self.settings.decay))

    def fitted(self, place: Place, length: int, decay: float = 1.0) -> Place:
        """The place after so many optimiser steps, over which rates decay by that factor."""
        if length == 0:
            return place
        if self.descent is None:
            self.descent = Descent(place, self.train, self.codebook_dtype)
        rates, factor = self.settings.rates.over(self.total()), self.rate(place.width)
        self.legs += 1
        reached, costs = self.descent.steps(
            place, length, rates, lambda progress: factor * decay**progress, self.seed + self.legs
        )
        self.costs.append(costs)
        self.taken += length
        self.warm = self.warm or (self.taken, time.perf_counter())
        return reached

    def measured(self, place: Place) -> Stand:
        """The place with its file's length and its snapped network's score."""
        quantized = quantize(place.posterior, self.codebook_dtype)
        data = encode(quantized)
        weights = as_weights(place.model, quantized.dequantize())
        score = self.judge.score(weights, dict(place.noise), len(data))
        if self.costs:
            self.history.append(self._row(place, score, len(data)))
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
        return Stand(place, point)

    def _row(self, place: Place, score: float, file_bytes: int) -> HistoryRow:
        now = time.perf_counter()
        row: HistoryRow = {
            "epoch": len(self.history) + 1,
            "negative_elbo_nats": fmean(costs.negative_elbo_nats for costs in self.costs),
            "error_cost_nats": fmean(costs.error_cost_nats for costs in self.costs),
            "complexity_cost_nats": _complexity(place.posterior),
            "mixtures": mixtures(place.densities),
            "seconds": now - self.told,
            "validation_quantized": score if math.isfinite(score) else None,
            "file_bytes": file_bytes,
            "width": place.width,
        }
        self.costs, self.told = [], now
        return row

    def lower_reference(self, score: float) -> None:
        """Hold the rest of the walk to a better score, where this one is."""
        self.judge = replace(self.judge, reference=min(self.judge.reference, score))
        self.points = [
            replace(point, within=point.score <= self.judge.limit) for point in self.points
        ]

    def excess(self, stand: Stand) -> float:
        """Tolerances that a stand has lost of the reference's score, LARGEST at most."""
        lost = stand.point.score - self.judge.reference
        return min(LARGEST, lost / self.judge.tolerance) if lost else 0.0

    def shorter(self, best: Stand | None, stand: Stand | None) -> Stand | None:
        """The one of the two within the tolerance that ranks first: the shorter, or the better."""
        fitting = [s for s in (best, stand) if s and s.point.score <= self.judge.limit]
        rank = self.judge.rank
        return min(fitting, key=lambda s: rank(s.point.score, s.point.bytes), default=None)

    def walked(self, best: Stand | None, model: Joint) -> Walked:
        posterior = None if best is None else best.place.posterior
        return Walked(posterior, self.frontier(model), self.history)

    def frontier(self, model: Joint) -> Frontier:
        judge = self.judge
        unit = model.likelihood.score_unit
        if isinstance(judge, Objective):
            points, objective = tuple(self.points), judge.kind
            return Frontier(points, judge.reference, 0.0, judge.unit, judge.name, objective)
        return Frontier(tuple(self.points), judge.reference, judge.tolerance, unit, judge.name)


@torch.no_grad()
def _complexity(posterior: Posterior) -> float:
    """-log p(weights | hyperparameters), in nats."""
    return -sum(
        float(prior.log_prob(posterior.point[weights_site(name)].reshape(-1)))
        for name, prior in posterior.priors.items()
    )
