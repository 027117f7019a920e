"""How far a fit got, between two of its steps: kept, and taken up again."""

from collections.abc import Iterable, Iterator

from pyro_sws.inference.checkpoint import (
    Stage,
    StageState,
    adam_state,
    fill,
    generators,
    named,
    set_adam_state,
    set_generators,
)
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.history import History
from pyro_sws.inference.optimizer import Descent, Taken


class FitState:
    """The epoch that a fit is in, and its steps there so far.

    Each epoch seeds the generators anew, so at its start they say nothing; within one they are
    kept, and a pass goes on behind the batches that were taken. Several ranks, whose generators
    need not agree, keep the starts of epochs only.
    """

    def __init__(self, stage: Stage, descent: Descent, history: History):
        self.stage, self.descent, self.history = stage, descent, history
        self.epoch, self.taken = 0, Taken()
        self.device = device_dtype(descent.elbo.model)[0]
        self._found: StageState | None = None

    def resume(self) -> None:
        """Go to where the stage was left, if it has been at all."""
        found = self.stage.load()
        if found is None:
            return
        fill(self.descent.elbo.sites, found.part("site"))
        set_adam_state(self.descent.optimiser, self.descent.elbo.sites, found)
        self.epoch, self.taken = found.rest["done"], Taken(**found.rest["taken"])
        self.history += found.rest["history"]
        self._found = found

    def rest_of(self, batches: Iterable) -> Iterator:
        """What is left of a pass that was begun anew."""
        walk = iter(batches)
        for _ in range(len(self.taken)):
            next(walk, None)
        if self._found is not None and len(self.taken):
            set_generators(self._found, self.device)
        self._found = None
        return walk

    def step(self) -> None:
        """A step was taken."""
        if self.descent.ranks.count == 1:
            self.stage.reached(self._state)

    def epoch_ended(self) -> None:
        """A pass was finished, and its row is in the history."""
        self.epoch, self.taken = self.epoch + 1, Taken()
        self.stage.reached(self._state, ended=self.epoch >= self.descent.settings.epochs)

    def _state(self) -> StageState:
        sites, optimiser = self.descent.elbo.sites, self.descent.optimiser
        tensors = {**named("site", sites), **adam_state(optimiser, sites)}
        if len(self.taken):
            tensors |= generators(self.device)
        rest = {
            "done": self.epoch,
            "total": self.descent.settings.epochs,
            "taken": vars(self.taken),
            "history": self.history,
        }
        return StageState(tensors, rest)
