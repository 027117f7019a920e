"""Finished runs of the small recipe: each is made once a process, and copied by who changes it."""

import shutil
from pathlib import Path
from typing import Any

from small_recipe import write_recipe

from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe
from pyro_sws.runs.run import Run

# Two slabs that hold all weights, so that there is a mixture to draw.
MIXTURE = {"family": "spike_and_slabs", "slabs": 2, "zero_proportion": 0.3, "start_deviation": 0.3}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "mixture": {"prior": [MIXTURE]},
    "spread": {"prior": [MIXTURE], "guide": "normal"},
    "refined": {"refinement": {"epochs": 1}},
    "fingerprint": {"fingerprint": True},
}


class FinishedRuns:
    """By kind: the recipe, small.toml, with all that it names, and its run in out/."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._runs: dict[str, Run] = {}

    def run(self, kind: str) -> Run:
        if kind not in self._runs:
            folder = self._place / kind
            recipe = read_recipe(write_recipe(folder, **KINDS[kind]))
            self._runs[kind] = run_recipe(recipe, folder / "out")
        return self._runs[kind]

    def folder(self, kind: str) -> Path:
        """Of a recipe and its run, which are not to be changed."""
        self.run(kind)
        return self._place / kind

    def copy(self, kind: str, to: Path) -> Path:
        """The run's folder in a copy of all, beneath ``to``."""
        shutil.copytree(self.folder(kind), to, dirs_exist_ok=True)
        return to / "out"
