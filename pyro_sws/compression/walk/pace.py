"""How fast a walk's width grows, and when the walk goes back: by the scores on the way."""

import math
from dataclasses import dataclass

from pyro_sws.compression.walk.frontier import Point
from pyro_sws.compression.walk.place import Place

# In tolerances lost: from which the width grows more slowly, at which it stops, how far beyond the
# tolerance a step was too long, and what counts as no more.
EASE, AIM, TOO_FAR, LARGEST = 0.45, 0.9, 3.0, 1e3
# So many times as much may be lost at first, and longer before a walk goes back: of a network that
# has just become sparser much comes back where the width is held. Shares of the budget until then.
LENIENT, OPENING, PATIENT = 1.5, 1 / 3, 0.7
HELD = 4  # steps beyond the tolerance until the walk goes back
RECENT = 0.5  # weight of the last score in the average that growth depends on
LANDING = 0.4  # share of the budget from which a walk that was never within does not grow
EASY, HARD = 1.1, 0.6  # factors on growth's logarithm after a step that was within, or undone


@dataclass(frozen=True, eq=False)
class Stand:
    """A place, and what the file made of it is like."""

    place: Place
    point: Point


@dataclass
class Pace:
    """How fast the width grows, and from where: what the scores on the way say of it."""

    good: Stand  # the last within the tolerance; before there was one the nearest to it
    least: float  # tolerances lost there
    speed: float  # logarithm of a step's growth, where nothing is lost
    stand: Stand | None = None  # where it goes on from, unless from the good one
    average: float = 0.0  # tolerances lost lately
    held: int = 0  # steps in a row that were beyond the tolerance
    patience: float = 1.0  # factor on the tolerance that may be lost on the way

    def __post_init__(self) -> None:
        self.fastest = self.speed

    def next_step(self, share: float) -> tuple[Place, float]:
        """The place to go on from, and the width to go to, in that share of the budget."""
        place = (self.stand or self.good).place
        learning = self.least > 1
        self.patience = LENIENT if share < PATIENT and not learning else 1.0
        aim = AIM * LENIENT if share < OPENING and not learning else AIM
        room = min(1.0, max(0.0, (aim - self.average) / (AIM - EASE)))
        if learning and share > LANDING:
            room = 0.0
        return place, place.width * math.exp(self.speed * room)

    def met(self, stand: Stand, lost: float) -> None:
        """Take note of a step that has lost so many tolerances."""
        limit = max(1.0, self.least)
        learning, within = self.least > 1, lost <= limit
        limit *= self.patience
        self.held = 0 if learning or lost <= limit else self.held + 1
        if lost > limit + TOO_FAR or self.held > HELD:
            self.undo()
            return
        # Before any is within, widths grow where that makes it no worse: it is learning as well.
        spent = lost - self.least + EASE if learning else lost
        self.average += RECENT * (spent - self.average)
        self.stand = stand
        if within:
            self.good, self.least = stand, lost
            self.speed = min(self.fastest, self.speed * EASY)

    def undo(self) -> None:
        """Go back to the good stand, and on more slowly."""
        learning = self.least > 1
        self.average = EASE if learning else max(0.0, self.least)
        self.stand, self.held = None, 0
        self.speed *= HARD
