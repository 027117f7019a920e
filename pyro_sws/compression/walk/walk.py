"""The walk: from a width at which snapping loses nothing, as far as the snapped network holds."""

import math
from collections.abc import Iterable, Sequence
from functools import partial

from pyro_sws.compression.walk.judge import Judge
from pyro_sws.compression.walk.objective import Objective
from pyro_sws.compression.walk.pace import Pace
from pyro_sws.compression.walk.place import Place
from pyro_sws.compression.walk.portions import Portion
from pyro_sws.compression.walk.settings import Budget, Walk
from pyro_sws.compression.walk.state import state_of, taken_up
from pyro_sws.compression.walk.walker import Walked, Walker
from pyro_sws.inference.batches import Batch
from pyro_sws.inference.checkpoint import Stage
from pyro_sws.inference.finite_steps import NotFiniteGradientError
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.progress import Callback, Progress, ignore


def walk(
    model: Joint,
    judge: Judge | Objective,
    train: Iterable,
    pass_steps: int,
    settings: Walk = Walk(),  # noqa: B008  (frozen)
    budget: Budget = Budget(),  # noqa: B008  (frozen)
    *,
    learnt_from: bool = False,
    sample: Sequence[Batch] | None = None,
    codebook_dtype: str = "float16",
    seed: int = 0,
    callback: Callback | None = None,
    stage: Stage = Stage(),  # noqa: B008  (keeps nothing)
) -> Walked:
    """Anneal the width of all components, the network computing with its snapped weights.

    With all components of one small width s, each weight snaps to the nearest value, and the
    network is the trained one. A weight w leaves the value v for zero below v / 2 + s^2 D / v, D
    being the difference of the two log proportions: zero's dead zone ends at s sqrt(2 D), and s^2
    (docs/theory.md, eqs. 7 and 8) is the Lagrange multiplier of rate against distortion. So s
    grows, and weights and values are fitted on under it, straight through the snapping, at the
    prior's cost; proportions follow the
    shares of the values in use. It grows as fast as the score has room for: not at all where nearly
    all of the tolerance is lost. Where a score is beyond it and does not come back, or far beyond,
    the walk goes back to where it stood, and on in shorter steps. At its end values of the shortest
    file merge by description, where it has minutes left.

    Args:
        model: what ``joint`` returned; its priors say the values to set out from.
        judge: what the snapped network is held to.
        train: a re-iterable of (inputs, targets).
        pass_steps: the batches of a pass through it.
        settings, budget: how it goes, and for how long.
        learnt_from: whether the judge's examples are training examples. The reference is then the
            network's own score after it has gone on learning at the first width, if that is better:
            both have seen those examples.
        sample: training examples that the merging is weighed on; None: it draws its own.
        codebook_dtype: of the values in the file, "float16" or "float32".
        seed: of shuffling and of networks that draw.
        callback: is told of each step, of the stage "walk".
        stage: where it keeps how far it got, and goes on from; see ``Stage``.

    Raises:
        ValueError: for a prior without values.
        FloatingPointError: for a loss that stops being finite later on, however slow the steps, and
            for a gradient that is not where loss and data are, near the network as it is given.
    """
    walker = Walker(judge, Portion(train), pass_steps, settings, codebook_dtype, seed, budget)
    place, tell = Place.of(model, settings), callback or ignore
    found = stage.load()
    if found is not None:
        pace, best = taken_up(walker, place, found)
    else:
        start = walker.started(place)
        best = walker.shorter(None, start)
        try:
            stand = walker.settled(walker.warmed_up(start.place))
        except NotFiniteGradientError:
            raise  # no step is slow enough
        except FloatingPointError:
            return walker.walked(best, model)
        if learnt_from or judge.follows:
            walker.lower_reference(stand.point.score)
        best = walker.shorter(best, stand)
        pace = Pace(stand, walker.excess(stand), math.log(settings.growth))
    while length := walker.length():
        try:
            stand = walker.stepped(*pace.next_step(walker.share), length)
        except FloatingPointError:
            if not walker.retries:
                raise
            walker.slow_down()
            pace.undo()
            continue
        if judge.follows:
            walker.lower_reference(stand.point.score)
        best = walker.shorter(best, stand)
        pace.met(stand, walker.excess(stand))
        stage.reached(partial(state_of, walker, pace, best))
        done, total = walker.taken, walker.total()
        tell(Progress("walk", min(done, total), total, walker.history[-1]))
    stage.reached(partial(state_of, walker, pace, best), ended=True)
    if best is not None and walker.has_minutes():
        merged = walker.merged(best, train, sample)
        if judge.follows and merged is not None:
            walker.lower_reference(merged.point.score)
        best = walker.shorter(best, merged)
    return walker.walked(best, model)
