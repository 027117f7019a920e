"""What diagnostics are made from: a run and, where they are at hand, its network and its data."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from torch import Tensor, nn

from pyro_sws.codec.symbols import Quantized
from pyro_sws.compression.plan import Data, NamedNetwork, Plan, Unnamed
from pyro_sws.compression.survey import survey
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.likelihoods import Categorical
from pyro_sws.inference.priors.rules import rule_of
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.recipes.sources import Source
from pyro_sws.runs.execute import named_parts
from pyro_sws.runs.inputs import SPLITS, given_network, load_data, measured_batches
from pyro_sws.runs.run import Run
from pyro_sws.weights.merge import merge
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import quantize

BATCH = 1000  # examples at a time; no result depends on it
OWN = (Source, Unnamed)  # in place of what a folder names, or cannot name
NO_NETWORK = "the network itself is needed; name the recipe whose code may run, by --recipe"


@dataclass(frozen=True, eq=False)
class Subject:
    """A finished run; its model, over the network or over its tensors alone; and its data."""

    run: Run
    model: Joint
    training: Iterable = ()  # in one order
    batches: Iterable = ()  # that it is judged on; in one order
    what: str | None = None  # "test", "validation" or "training": which data those are
    # Groups that are not in the model, because their prior is the user's own: name -> reason.
    unknown: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_network(self) -> bool:
        """Whether network and data are at hand; else only what needs neither is computed."""
        return self.what is not None

    @property
    def fitted(self) -> Posterior:
        """Before merging and refinement; with spread, where the guide has it."""
        return self.run.posterior

    @property
    def packed(self) -> Posterior:
        """Merged, and refined where it was: what was quantised."""
        return self.run.packed

    @property
    def walked(self) -> bool:
        """Whether the network has learnt with its weights snapped: those behind them are none."""
        return self.run.plan.walk is not None

    @property
    def codebook_dtype(self) -> str:
        """Of the stored values."""
        return self.run.plan.packing.codebook_dtype

    @property
    def seed(self) -> int:
        """The run's."""
        return self.run.plan.seed

    @property
    def guide(self) -> str:
        """The guide's name."""
        guide = self.run.plan.guide
        if isinstance(guide, str):
            return guide
        return guide.path if isinstance(guide, Source) else getattr(guide, "__name__", "own")

    @property
    def widening(self) -> float:
        """Of the packed posterior's components, by refinement."""
        return 1.0 if self.run.refined is None else self.run.refined.widening

    @cached_property
    def quantized(self) -> Quantized:
        """The network that the file holds, before its units were moved."""
        return quantized_of(self.run)

    @cached_property
    def merged(self) -> Posterior:
        """The fit with close components merged: weights under the mixture that was fitted."""
        return merge(self.fitted, self.run.plan.packing.merge_threshold)


def quantized_of(run: Run) -> Quantized:
    """The network that a run's file holds, before its units were moved."""
    packing = run.plan.packing
    return quantize(run.packed, packing.codebook_dtype, packing.signal_to_noise)


def subject_of(run: Run, recipe: str | Path | None = None, data_dir: str | None = None) -> Subject:
    """A run with its network and data: its own, or those that a recipe names.

    Without a recipe, a run from a folder has neither: nothing that its folder names is run. It is
    judged on test data, else validation, else training data. ``data_dir`` is for the recipe's data
    function. Raises ValueError for a recipe of another network or prior, and what ``load_data``
    raises.
    """
    plan = run.plan
    if isinstance(plan.data, Data) and isinstance(plan.network, nn.Module):
        return _of_objects(run, plan.network, plan.data)
    if recipe is not None:
        return _of_recipe(run, read_recipe(recipe), data_dir)
    if isinstance(plan.network, NamedNetwork) and plan.network.source.trusted:
        return _of_recipe(run, plan, data_dir)  # of this process, which ran it
    return _of_tensors(run)


def _of_objects(run: Run, net: nn.Module, data: Data) -> Subject:
    seen = survey(data.train, data.size, sampled=False)
    what, batches = data.judged
    if what == "training":
        batches = seen.measured
    return Subject(run, run.plan.joint(net, seen.size), seen.measured, batches, what)


def _of_recipe(run: Run, plan: Plan, data_dir: str | None) -> Subject:
    splits = load_data(named_parts(plan)[1], data_dir)
    net = given_network(plan, run.given)
    rules = plan.with_prior(net).prior
    like_run = replace(run.plan, network=net, prior=rules, likelihood=plan.likelihood)
    training = measured_batches(splits["train"], BATCH)
    seen = survey(training, sampled=False)
    model = replace(like_run, device=None).joint(net, seen.size)
    ours = {name: group.shapes for name, group in run.posterior.groups.items()}
    theirs = {name: group.shapes for name, group in model.groups.items()}
    if ours != theirs:
        raise ValueError(
            f"the recipe has the groups {', '.join(theirs)}, the run {', '.join(ours)}, or other "
            "tensors in them; name the recipe of this run"
        )
    _check_latents(run.posterior, model)
    what = next(name for name in reversed(SPLITS) if name in splits)
    return Subject(
        run,
        model,
        seen.measured,
        seen.measured if what == "train" else measured_batches(splits[what], BATCH),
        "training" if what == "train" else what,
    )


def _check_latents(fitted: Posterior, model: Joint) -> None:
    """Raise ValueError where the recipe's prior or likelihood has other latents than the run's."""
    ours = {site: tuple(value.shape) for site, value in fitted.point.items()}
    theirs = {site: tuple(value.shape) for site, value in model.start().items()}
    for site in sorted({*ours, *theirs}):
        if ours.get(site) != theirs.get(site):
            told = [shapes.get(site, "no such latent") for shapes in (theirs, ours)]
            raise ValueError(
                f"the recipe's prior or likelihood is not the run's: {site!r} has the shape "
                f"{told[0]} by the recipe, {told[1]} in the run; name the recipe of this run"
            )


def _of_tensors(run: Run) -> Subject:
    """Of a folder alone: a model without a network, of the groups whose priors are known."""
    plan, priors = run.plan, {}
    unknown: dict[str, str] = {}
    for name in run.posterior.groups:
        prior = rule_of(plan.prior, name).prior
        if isinstance(prior, OWN):
            own = prior.path if isinstance(prior, Source) else f"{prior.what}, given in Python"
            unknown[name] = f"its prior is {own}; name the recipe, by --recipe"
        else:
            priors[name] = prior
    model = Joint(
        net=_Tensors(run.given),
        groups={name: run.posterior.groups[name] for name in priors},
        priors=priors,
        uncovered=tuple(run.report.uncovered),
        given_dtypes={name: tensor.dtype for name, tensor in run.given.items()},
        # One's own is not run; nothing that is made without the network needs it.
        likelihood=Categorical() if isinstance(plan.likelihood, OWN) else plan.likelihood,
        data_size=1,
        tau=plan.tau,
    )
    return Subject(run, model, unknown=unknown)


class _Tensors(nn.Module):
    """A network's tensors under its own names, without the network."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        super().__init__()
        for name, tensor in tensors.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if part not in dict(module.named_children()):
                    module.add_module(part, nn.Module())
                module = module.get_submodule(part)
            if tensor.is_floating_point():
                module.register_parameter(last, nn.Parameter(tensor.clone(), requires_grad=False))
            else:
                module.register_buffer(last, tensor.clone())

    def forward(self, inputs: Tensor) -> Tensor:
        raise ValueError(NO_NETWORK)
