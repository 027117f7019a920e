"""One trial of a search: a recipe compressed, judged at its rungs, without the test split."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import nn

from pyro_sws.bounds.rates import empirical_entropy_bits
from pyro_sws.compression.plan import Plan, Weights
from pyro_sws.inference.fit import read_posterior
from pyro_sws.inference.guides import Guide
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.progress import Callback, Progress
from pyro_sws.recipes.search_table import Pruning
from pyro_sws.runs.execute import (
    execute_named,
    load_checkpoint,
    load_network,
    named_parts,
    pretrain_network,
)
from pyro_sws.runs.inputs import Splits, load_data
from pyro_sws.tuning.pareto import Pair
from pyro_sws.weights.merge import merge
from pyro_sws.weights.quantize import quantize

Judge = Callable[[float, Pair], None]  # rung, and what was reached there; may raise


@dataclass(frozen=True, eq=False)
class SharedInputs:
    """What trials share, as far as the space leaves it alone."""

    data_dir: str | None
    splits: Splits | None  # None: every trial reads its own
    weights: Path | None  # of the trained network; None: every trial loads or trains its own

    def of(self, plan: Plan, callback: Callback) -> tuple[Splits, nn.Module, Weights | None]:
        """Data, trained network and start of a trial. Raises ValueError for what cannot be."""
        splits = self.splits or held_out(plan, self.data_dir)
        net, start = load_network(plan)
        if not named_parts(plan)[0].trains:
            return splits, net, start
        if self.weights is None:
            return splits, pretrain_network(plan, splits, net, callback), None
        load_checkpoint(net, self.weights)
        return splits, net, None


class GuideProbe:
    """A guide's maker that keeps what it made, so that a fit can be looked into while it runs."""

    def __init__(self, plan: Plan):
        self.plan = plan

    def __call__(self, model: Joint) -> Guide:
        self.model, self.guide = model, self.plan.guide_for(model)
        return self.guide

    def entropy_bytes(self) -> float:
        """Order-0 entropy of the weights as they would snap now, with their values; in bytes.

        What is stored raw counts too. It takes a fraction of an epoch, and the file a little less.
        """
        posterior = read_posterior(self.model, self.guide)
        merged = merge(posterior, self.plan.packing.merge_threshold)
        quantized = quantize(merged, self.plan.packing.codebook_dtype)
        counts = [np.bincount(symbols.ravel()) for symbols in quantized.symbols.values()]
        rest = [*quantized.codebooks.values(), *quantized.raw.values(), *quantized.scales.values()]
        return sum(map(empirical_entropy_bits, counts)) / 8 + sum(array.nbytes for array in rest)


def held_out(plan: Plan, data_dir: str | None) -> Splits:
    """The training and the validation split; the test split is not looked at.

    Raises ValueError where there is none to validate on.
    """
    named = named_parts(plan)[1]
    splits = load_data(named, data_dir)
    if "validation" not in splits:
        raise ValueError(
            f"a search chooses on a validation split, and {named.source.path} returned none; hold "
            "training data out, such as by --set data.validation=5000"
        )
    return splits


def run_trial(
    plan: Plan, shared: SharedInputs, pruning: Pruning, judge: Judge, callback: Callback
) -> Pair:
    """File bytes, and the decoded file's score on the validation split, of a recipe.

    ``judge`` is asked at each of the pruning's rungs. Raises what ``compress`` raises, and
    FloatingPointError for a score that is not finite.
    """
    splits, net, start = shared.of(plan, callback)
    probe = GuideProbe(plan)

    def advance(progress: Progress) -> None:
        callback(progress)
        if progress.stage != "fit":
            return
        rung = pruning.rung_at(progress.done, progress.total)
        score = progress.row["validation_quantized"]
        if rung is not None and score is not None and math.isfinite(score):
            judge(rung, (probe.entropy_bytes(), score))

    run = execute_named(replace(plan, guide=probe), splits, net, start, callback=advance)
    score = run.report.score["decoded"]
    if not math.isfinite(score):
        raise FloatingPointError(f"the decoded network's score is {score}")
    return len(run.data), score
