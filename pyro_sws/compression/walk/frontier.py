"""The frontier: every file that a walk met, and how to choose one. Values."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from pyro_sws.assess.report.shapes import WalkRow
from pyro_sws.files import write_whole

Data: TypeAlias = bytes  # where a field is called bytes


@dataclass(frozen=True, eq=False)
class Point:
    """A file on the way. Its units are not in their shortest order, but for the one chosen."""

    step: int  # of the walk, from 0: the network as it was, snapped
    bytes: int
    score: float  # of the decoded network, on what the walk was judged by
    within: bool  # the tolerance
    width: float  # of the components, in root mean squares
    tau: float
    nonzero_percent: float
    passes: float  # through the training data so far
    seconds: float  # so far
    data: Data = field(repr=False)  # the file

    def save(self, path: str | os.PathLike) -> None:
        """Write the .sws file."""
        write_whole(Path(path), self.data)


@dataclass(frozen=True, eq=False)
class Frontier(Sequence[Point]):
    """Points in the order in which they were met, and the score they are compared with."""

    points: tuple[Point, ...]
    reference: float  # the score that was to be kept
    tolerance: float
    unit: str  # of scores
    judged_on: str  # the data
    objective: str | None = None  # what scores are, where the least was sought; see ``Objective``

    def __getitem__(self, index):
        return self.points[index]

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        front = "; ".join(f"{p.bytes:,} bytes at {p.score:.4g}" for p in self.front)
        return (
            f"Frontier of {len(self)} files, {self.reference:.4g} +- {self.tolerance:.3g} "
            f"{self.unit} on {self.judged_on} data: {front}"
        )

    def smallest(self, within: float | None = None) -> Point:
        """The shortest file whose score is at most ``within`` beyond the reference.

        In the score's unit; by default the walk's tolerance. Raises ValueError where there is none.
        """
        within = self.tolerance if within is None else within
        fitting = [p for p in self.points if p.score <= self.reference + within]
        if not fitting:
            best = self.nearest
            raise ValueError(
                f"no file is within {within:g} {self.unit} of {self.reference:g}; the nearest has "
                f"{best.score:g} at {best.bytes:,} bytes"
            )
        return min(fitting, key=lambda p: (p.bytes, p.score))

    def pick(self, bytes: int) -> Point:
        """The best score in at most so many bytes. Raises ValueError where no file is as short."""
        fitting = [p for p in self.points if p.bytes <= bytes]
        if not fitting:
            shortest = min(p.bytes for p in self.points)
            raise ValueError(f"no file has at most {bytes:,} bytes; the shortest has {shortest:,}")
        return min(fitting, key=lambda p: (p.score, p.bytes))

    @property
    def nearest(self) -> Point:
        """The best score; of equal ones the shortest file."""
        return min(self.points, key=lambda p: (p.score, p.bytes))

    def with_chosen(self, data: Data) -> "Frontier":
        """The same, the shortest file within the tolerance as it is in its shortest order."""
        chosen = self.smallest()
        if len(data) >= chosen.bytes:
            return self
        shorter = replace(chosen, data=data, bytes=len(data))
        return replace(self, points=tuple(shorter if p is chosen else p for p in self.points))

    def summary(self) -> WalkRow:
        """What the report says of it and of the file that it gives."""
        chosen = self.smallest()
        row: WalkRow = {
            "judged_on": self.judged_on,
            "reference": self.reference,
            "tolerance": self.tolerance,
            "score": chosen.score,
            "files": len(self),
            "step": chosen.step,
            "passes": self[-1].passes,
            "width": chosen.width,
            "limited_by": "tolerance" if self._met_limit(chosen) else "budget",
        }
        if self.objective is not None:
            row["objective"] = self.objective
        return row

    def _met_limit(self, chosen: Point) -> bool:
        """Whether a file as wide as the chosen one, or wider, was beyond the tolerance."""
        return any(p.width >= chosen.width and not p.within for p in self.points)

    @property
    def front(self) -> tuple[Point, ...]:
        """Those that no other is both shorter and better than, the longest first."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda p: (p.bytes, p.score)):
            if not kept or point.score < kept[-1].score:
                kept.append(point)
        return tuple(reversed(kept))
