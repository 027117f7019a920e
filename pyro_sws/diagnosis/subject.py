"""What diagnostics are made from: a result in memory, or a run in its folder, in one form."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pyro_sws.assess.point.quantization_cost import as_snapped
from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.compress import Result
from pyro_sws.inference.batches import Batches, count_examples
from pyro_sws.inference.joint import Joint, joint
from pyro_sws.runs.inputs import SPLITS, load_data
from pyro_sws.runs.run import Run
from pyro_sws.weights.merge import merge
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import quantize

BATCH = 1000  # examples at a time: what is computed does not hang on it


@dataclass(frozen=True, eq=False)
class Examined:
    """A finished compression, and the data that it is judged on."""

    model: Joint
    fitted: Posterior  # before merging and refinement; with spread, where the guide has it
    snapped: Posterior  # merged, and refined where it was: what was quantised
    training: Iterable  # in one order
    batches: Iterable  # that it is judged on; in one order
    what: str  # "test", "validation" or "training": which data those are
    guide: str
    merge_threshold: float
    codebook_dtype: str
    signal_to_noise: float | None
    widening: float  # of the components of ``snapped``, by refinement
    seed: int

    @cached_property
    def quantized(self) -> Quantized:
        """The network that the file holds, before its units were moved."""
        return quantize(self.snapped, self.codebook_dtype, self.signal_to_noise)

    @cached_property
    def merged(self) -> Posterior:
        """The fit with close components merged: weights under the mixture that was fitted."""
        return merge(self.fitted, self.merge_threshold)


def of_result(result: Result) -> Examined:
    """Of what ``compress`` returned, on its test data, else validation, else training data."""
    call = result.call
    size = call["data_size"]
    size = count_examples(call["train"], "train") if size is None else size
    names = "tau density prior_subsample autocast device dtype start".split()
    settings = {name: call[name] for name in names}
    given = {"test": call["test"], "validation": call["validation"], "training": call["train"]}
    what = next(name for name, batches in given.items() if batches is not None)
    guide = call["guide"]
    return Examined(
        joint(result.network, call["prior"], call["likelihood"], size, **settings),
        result.posterior,
        result.merged,
        call["train"],
        given[what],
        what,
        guide if isinstance(guide, str) else getattr(guide, "__name__", type(guide).__name__),
        call["merge_threshold"],
        call["codebook_dtype"],
        call["signal_to_noise"],
        1.0 if result.refined is None else result.refined.widening,
        call["seed"],
    )


def quantized_of(run: Run) -> Quantized:
    """The network that a run's file holds, before its units were moved; needs no data."""
    settings = run.recipe.settings
    return quantize(_snapped(run), settings.codebook_dtype, settings.signal_to_noise)


def _snapped(run: Run) -> Posterior:
    return as_snapped(run.posterior, run.snapped_point, run.report["groups"])


def of_run(run: Run, data_dir: str | None = None) -> Examined:
    """Of a run folder; its data is loaded as the recipe says. Raises what ``load_data`` raises."""
    settings, fitted = run.recipe.settings, run.posterior
    data = load_data(run.recipe, data_dir)
    what = next(name for name in reversed(SPLITS) if name in data)
    refinement = run.report["refinement"]
    model = run.model(len(data["train"][0]))
    return Examined(
        model,
        fitted,
        _snapped(run),
        Batches(*data["train"], BATCH, shuffle=False),
        Batches(*data[what], BATCH, shuffle=False),
        "training" if what == "train" else what,
        settings.guide,
        settings.merge_threshold,
        settings.codebook_dtype,
        settings.signal_to_noise,
        1.0 if refinement is None else refinement["widening"],
        settings.seed,
    )
