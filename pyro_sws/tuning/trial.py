"""One trial of a search: a recipe compressed, judged at its rungs, without the test split."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from pyro_sws.bounds.rates import empirical_entropy_bits
from pyro_sws.inference.fit import read_posterior
from pyro_sws.inference.guides import Guide, guide_maker
from pyro_sws.inference.joint import Joint
from pyro_sws.recipes.recipe import Recipe
from pyro_sws.recipes.search_table import Pruning
from pyro_sws.runs.execute import Start, compressed, given_network, stage_of, trained
from pyro_sws.runs.inputs import Splits, load_data, load_start
from pyro_sws.tuning.pareto import Pair
from pyro_sws.weights.merge import merge
from pyro_sws.weights.quantize import quantize

Notify = Callable[[str, Mapping[str, Any]], None]  # stage ("pretrain", "fit", "refine"), row
Judge = Callable[[float, Pair], None]  # rung, and what was reached there; may raise


@dataclass(frozen=True, eq=False)
class Material:
    """What trials share, as far as the space leaves it alone."""

    data_dir: str | None
    data: Splits | None  # None: every trial reads its own
    weights: Path | None  # of the trained network; None: every trial finds or trains its own

    def parts(self, recipe: Recipe, notify: Notify) -> tuple[Splits, nn.Module, Start]:
        """Data, trained network and start of a trial. Raises ValueError for what cannot be."""
        data = self.data or held_out(recipe, self.data_dir)
        net, start = given_network(recipe)
        if not recipe.settings.trains:
            return data, net, start
        if self.weights is None:
            return data, trained(recipe, data, net, lambda row: notify("pretrain", row)), None
        load_start(net, self.weights)
        return data, net, None


class Watch:
    """A guide's maker that keeps what it made, so that a fit can be looked into while it runs."""

    def __init__(self, recipe: Recipe):
        self.recipe, self.settings = recipe, recipe.settings

    def __call__(self, model: Joint) -> Guide:
        self.model, self.guide = model, guide_maker(self.recipe.guide)(model)
        return self.guide

    def entropy_bytes(self) -> float:
        """Order-0 entropy of the weights as they would snap now, with their values; in bytes.

        What is stored raw counts too. It takes a fraction of an epoch, and the file a little less.
        """
        posterior = read_posterior(self.model, self.guide)
        merged = merge(posterior, self.settings.merge_threshold)
        quantized = quantize(merged, self.settings.codebook_dtype)
        counts = [np.bincount(symbols.ravel()) for symbols in quantized.symbols.values()]
        rest = [*quantized.codebooks.values(), *quantized.raw.values(), *quantized.scales.values()]
        return sum(map(empirical_entropy_bits, counts)) / 8 + sum(array.nbytes for array in rest)


def held_out(recipe: Recipe, data_dir: str | None) -> Splits:
    """The training and the validation split; the test split is not looked at.

    Raises ValueError where there is none to validate on.
    """
    data = load_data(recipe, data_dir)
    if "validation" not in data:
        raise ValueError(
            f"a search chooses on a validation split, and {recipe.data.path} returned none; hold "
            "training data out, such as by --set data.validation=5000"
        )
    return data


def run_trial(
    recipe: Recipe, material: Material, pruning: Pruning, judge: Judge, notify: Notify
) -> Pair:
    """File bytes, and the decoded file's score on the validation split, of a recipe.

    ``judge`` is asked at each of the pruning's rungs. Raises what ``compress`` raises, and
    FloatingPointError for a score that is not finite.
    """
    data, net, start = material.parts(recipe, notify)
    watch = Watch(recipe)

    def advance(row: dict[str, Any]) -> None:
        notify(stage_of(row), row)
        if stage_of(row) != "fit":
            return
        rung = pruning.rung_at(row["epoch"], recipe.settings.epochs)
        score = row["validation_quantized"]
        if rung is not None and math.isfinite(score):
            judge(rung, (watch.entropy_bytes(), score))

    result = compressed(recipe, data, net, start, guide=watch, callback=advance)
    score = result.report.score["decoded"]
    if not math.isfinite(score):
        raise FloatingPointError(f"the decoded network's score is {score}")
    return len(result.data), score
