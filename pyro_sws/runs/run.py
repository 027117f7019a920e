"""A run folder: what ``pyro-sws run`` writes from a recipe, and how to read it back. A driver."""

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from pyro_sws.codec.symbols import Quantized
from pyro_sws.inference.fit import posterior_at
from pyro_sws.inference.joint import Joint, joint
from pyro_sws.recipes.recipe import Recipe, read_recipe
from pyro_sws.runs.inputs import build_network, load_tensors, model_settings
from pyro_sws.runs.posterior_file import with_spread
from pyro_sws.weights.load import decode_for, load
from pyro_sws.weights.posterior import Posterior


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder; each part is loaded when first asked for."""

    folder: Path

    @cached_property
    def recipe(self) -> Recipe:
        return read_recipe(self.folder / "recipe.toml")

    @cached_property
    def report(self) -> dict[str, Any]:
        return json.loads((self.folder / "report.json").read_text())

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        lines = (self.folder / "history.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @cached_property
    def data(self) -> bytes:
        """The .sws file."""
        return (self.folder / "model.sws").read_bytes()

    @cached_property
    def quantized(self) -> Quantized:
        return decode_for(build_network(self.recipe), self.data)

    @cached_property
    def point(self) -> dict[str, Tensor]:
        """Posterior point estimates by site: weights and hyperparameters, before merging."""
        return load_file(self.folder / "posterior.safetensors")

    @cached_property
    def snapped_point(self) -> dict[str, Tensor]:
        """The same as they were snapped: after refinement, where the run had any."""
        path = self.folder / "refined.safetensors"
        return load_file(path) if path.is_file() else self.point

    @cached_property
    def trained(self) -> dict[str, Tensor]:
        """The network's tensors as they were before compression."""
        return load_file(self.folder / "trained.safetensors")

    @cached_property
    def posterior(self) -> Posterior:
        """As fitted, before merging: the densities at the point, and the weights by tensor name."""
        found = posterior_at(self.model(), self.point)
        return with_spread(found, self.folder / "spread.safetensors")

    def model(self, data_size: int = 1) -> Joint:
        """The network as trained, under the recipe's prior and likelihood; on the CPU."""
        net = build_network(self.recipe)
        load_tensors(net, self.folder / "trained.safetensors")
        settings = {**model_settings(self.recipe.settings), "device": None}
        return joint(net, self.recipe.prior, self.recipe.likelihood, data_size, **settings)

    def network(self) -> nn.Module:
        """The compressed network, decoded from the file."""
        return load(self.data, into=build_network(self.recipe))


def open_run(folder: str | os.PathLike) -> Run:
    """A run by its folder. Raises ValueError where no run was finished there."""
    run = Run(Path(folder))
    if not (run.folder / "report.json").is_file():
        raise ValueError(f"{folder} holds no finished run: it has no report.json")
    return run
