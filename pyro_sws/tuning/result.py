"""What a search found: its trials, their Pareto front, and the files that say so."""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pyro_sws.assess.figures.search import Importances, frontier, importance_bars
from pyro_sws.assess.figures.style import as_png
from pyro_sws.files import write_whole
from pyro_sws.recipes.recipe import to_toml
from pyro_sws.tuning.pareto import Pair, pareto_front
from pyro_sws.tuning.plan import Params, SearchPlan


@dataclass(frozen=True)
class Trial:
    """One point of the space and what became of it; ``None`` where it did not get so far."""

    number: int
    state: str  # complete, pruned, failed or running
    params: Params  # by path
    file_bytes: int | None
    score: float | None  # of the decoded file on the validation split, in the likelihood's unit
    seconds: float | None
    rungs: Mapping[str, Pair]  # bytes, estimated, and score after these shares of its epochs
    message: str | None  # why it failed

    def to_dict(self) -> dict[str, object]:
        """As search.json has it."""
        return dataclasses.asdict(self)

    @property
    def pair(self) -> Pair:
        """What is minimised, for a trial that is complete."""
        assert self.file_bytes is not None and self.score is not None
        return self.file_bytes, self.score


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The trials so far, in order, and how much each key mattered (see ``importances``)."""

    plan: SearchPlan
    trials: tuple[Trial, ...]
    importances: Importances | None  # None where there are too few trials

    @property
    def complete(self) -> list[Trial]:
        return [trial for trial in self.trials if trial.state == "complete"]

    @property
    def useful(self) -> list[Trial]:
        """Complete trials of a score no worse than ``worst_score``."""
        worst = self.plan.settings.worst_score
        return [trial for trial in self.complete if worst is None or trial.pair[1] <= worst]

    @property
    def front(self) -> list[Trial]:
        """The Pareto front: trials of use that none beats in both, by rising bytes."""
        useful = self.useful
        return [useful[i] for i in pareto_front([trial.pair for trial in useful])]

    def to_dict(self) -> dict[str, object]:
        """What search.json holds."""
        settings, likelihood = self.plan.settings, self.plan.base.likelihood
        return {
            "recipe": self.plan.name,
            "sampler": settings.sampler,
            "epochs": settings.epochs,
            "score": {
                "name": likelihood.score_name,
                "unit": likelihood.score_unit,
                "data": "validation",
            },
            "trials": [trial.to_dict() for trial in self.trials],
            "front": [trial.number for trial in self.front],
            "importances": self.importances,
        }

    def save(self, folder: str | os.PathLike) -> None:
        """Write search.json, frontier.png, importances.png, and best/trial_N.toml of the front."""
        folder = Path(folder)
        (folder / "best").mkdir(parents=True, exist_ok=True)
        texts = {f"trial_{trial.number}.toml": self._recipe(trial, folder) for trial in self.front}
        for name, text in texts.items():
            write_whole(folder / "best" / name, text)
        for old in (folder / "best").glob("trial_*.toml"):
            if old.name not in texts:
                old.unlink(missing_ok=True)
        if self.useful:
            write_whole(folder / "frontier.png", as_png(self._frontier()))
        if self.importances is not None:
            write_whole(folder / "importances.png", as_png(importance_bars(self.importances)))
        write_whole(folder / "search.json", json.dumps(self.to_dict(), indent=2) + "\n")

    def _frontier(self) -> Figure:
        useful, likelihood = self.useful, self.plan.base.likelihood
        best = {trial.number for trial in self.front}
        return frontier(
            [trial.pair for trial in useful],
            {i: str(t.number) for i, t in enumerate(useful) if t.number in best},
            f"validation {likelihood.score_name}, {likelihood.score_unit}",
        )

    def _recipe(self, trial: Trial, folder: Path) -> str:
        """The trial's recipe, with the recipe's own epochs and a first line on what was found."""
        unit = self.plan.base.likelihood.score_unit
        epochs = self.plan.trial(trial.params).fit.epochs
        outcome = f"{trial.file_bytes:,} bytes, validation score {trial.score:.4g} {unit}"
        toml = to_toml(self.plan.recipe(trial.params), folder / "best")
        return f"# Trial {trial.number} of a search: {outcome}, after {epochs} epochs.\n{toml}"
