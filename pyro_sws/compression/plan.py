"""A plan: all that a compression depends on, as one value. TOML names its objects by paths."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from pyro_sws.compression.packing import Packing
from pyro_sws.compression.post_training.settings import PostTraining
from pyro_sws.compression.pretrain import Pretraining
from pyro_sws.compression.refine import Refinement
from pyro_sws.compression.walk.settings import Budget, Walk
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.inference.batches import check_reiterable
from pyro_sws.inference.density import Density
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import Guide, guide_maker
from pyro_sws.inference.joint import Joint, check_tau, joint
from pyro_sws.inference.likelihoods import Categorical, Likelihood
from pyro_sws.inference.placement import check_dtype
from pyro_sws.inference.plain_numbers import instance, real, seed_number, whole
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule, as_rules
from pyro_sws.recipes.sources import Source
from pyro_sws.recipes.validation import at_key
from pyro_sws.weights.batch_norm import folded
from pyro_sws.weights.network import plain

Weights = Mapping[str, Tensor | np.ndarray]  # by tensor name


@dataclass(frozen=True, eq=False)
class Data:
    """Re-iterables of (inputs, targets) batches. Raises TypeError for a one-shot iterator."""

    train: Iterable  # what the fit is to
    validation: Iterable | None = None  # scored after each epoch
    test: Iterable | None = None  # scored at the end alone
    size: int | None = None  # training examples, where a pass is a sample of them

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            if getattr(self, name) is not None:
                check_reiterable(getattr(self, name), name)
        if self.size is not None:
            object.__setattr__(self, "size", whole("data_size", self.size))

    @property
    def judged(self) -> tuple[str, Iterable]:
        """What a network is scored on: test data, else validation, else training data."""
        named = {"test": self.test, "validation": self.validation, "training": self.train}
        return next((name, batches) for name, batches in named.items() if batches is not None)


@dataclass(frozen=True)
class NamedData:
    """Data that a function returns, and how it is walked through."""

    source: Source  # of "train" and, optionally, "test" and "validation": (inputs, targets) each
    batch_size: int = 256
    augmentation: Source | None = None  # of training inputs, a batch at a time

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class NamedNetwork:
    """A network that a function returns, and where its trained weights come from.

    The weights are in a file or in the folder of an earlier run; otherwise pre-training makes them.
    """

    source: Source
    start: str | None = None  # safetensors to start from, instead of pre-training
    from_run: str | None = None  # run folder: its trained network, and its fitted weights to start
    pretraining: Pretraining = Pretraining()

    def __post_init__(self) -> None:
        if self.start is not None and self.from_run is not None:
            raise ValueError(
                f"start = {self.start!r} and from_run = {self.from_run!r}: give one of them; a run "
                "has its trained network with it"
            )

    @property
    def trains(self) -> bool:
        """Whether the network is trained first, because no trained weights are named."""
        return self.start is None and self.from_run is None


@dataclass(frozen=True)
class Unnamed:
    """In place of what a folder cannot hold, such as a network or batches given in Python.

    It may also take the place of a function. Calling it raises ValueError.
    """

    what: str

    def __call__(self, *arguments: object, **more: object) -> NoReturn:
        raise ValueError(f"{self.what} was given in Python, and is not in the folder")


@dataclass(frozen=True)
class Plan:
    """All that a compression depends on; see ``compress``.

    Raises ValueError for numbers out of range, TypeError for a refinement of another type.
    """

    network: nn.Module | NamedNetwork | Unnamed  # trained, or to be trained first
    data: Data | NamedData | Unnamed  # of the fit, and to score on
    prior: tuple[Rule, ...]  # a prior for each group of tensors; none: see ``with_prior``
    likelihood: Likelihood = Categorical()  # of the targets, given the network's outputs
    tau: float = 0.03  # weight of the complexity cost: larger is smaller
    guide: str | Callable[[Joint], Guide] | Source = "delta"  # a name in GUIDES, or its maker
    fit: Fitting = Fitting()  # epochs, learning rates, annealing
    refinement: Refinement | None = None  # going on with the snapped network
    walk: Walk | None = None  # in place of fit and refinement: what stays within the tolerance
    post_training: PostTraining | None = None  # in place of a fit or a walk: by curvature alone
    # Of a walk or post-training, in the score's unit; None: see ``compress``.
    tolerance: float | None = None
    budget: Budget | None = None  # of a walk; None: Budget()
    packing: Packing = Packing()  # how the fit becomes a file
    density: Density = Density()  # how the density is computed while fitting
    seed: int = 0  # of everything that is drawn
    device: str | torch.device | None = None  # where to fit; None: where the network is
    dtype: torch.dtype | None = None  # float32 or float64, to fit in; None: the network's
    start: Weights | None = field(default=None, compare=False)  # the fit's first weights

    def __post_init__(self) -> None:
        instance("fit", self.fit, Fitting)
        instance("packing", self.packing, Packing)
        instance("density", self.density, Density)
        check_dtype(self.dtype)
        object.__setattr__(self, "tau", check_tau(self.tau))
        object.__setattr__(self, "seed", seed_number("seed", self.seed))
        if not isinstance(self.refinement, Refinement | None):
            raise TypeError(f"refinement must be a Refinement or None, got {self.refinement!r}")
        self._check_walk()
        if self.refinement is not None and self.packing.signal_to_noise is not None:
            raise ValueError(
                "signal_to_noise and refinement: give one of them; a refined network's weights "
                "have no posterior deviations"
            )

    def _check_walk(self) -> None:
        if self.tolerance is not None:
            tolerance = real("tolerance", self.tolerance)
            if not 0 < tolerance < math.inf:
                raise ValueError(f"tolerance must be a positive number, got {tolerance}")
            object.__setattr__(self, "tolerance", tolerance)
        if self.budget is not None:
            instance("budget", self.budget, Budget)
        if self.post_training is not None:
            instance("post_training", self.post_training, PostTraining)
        elif self.walk is None and (self.tolerance is not None or self.budget is not None):
            object.__setattr__(self, "walk", Walk())
        if not self.makes_files:
            return
        if self.walk is not None:
            instance("walk", self.walk, Walk)
            if self.walk.objective != "bytes" and self.tolerance is not None:
                raise ValueError(
                    f"tolerance = {self.tolerance:g} and the objective {self.walk.objective!r}: "
                    "give one of them; what is sought says how much may be lost"
                )
        clashes = {
            "refinement": self.refinement is not None and self.walk is not None,
            "guide": self.guide != "delta",
            "signal_to_noise": self.packing.signal_to_noise is not None,
            "merge_by": self.packing.merge_by != "divergence",
            "prior_subsample": self.density.prior_subsample is not None,
        }
        kind = "a walk (by tolerance, budget, walk, or none of tau and fit)"
        if self.post_training is not None:
            kind = "post-training"
            clashes |= {
                "budget": self.budget is not None,
                "walk": self.walk is not None,
                "start": self.start is not None,
            }
        for name, there in clashes.items():
            if there:
                raise ValueError(
                    f"{name} is for a {'walk' if name in ('walk', 'budget') else 'fit'}, and this "
                    f"is {kind}; leave one of the two away"
                )

    @property
    def measures_description(self) -> bool:
        """Whether something is chosen by the length of the whole description."""
        by_description = self.packing.merge_by == "description"
        return self.refinement is not None or self.makes_files or by_description

    @property
    def makes_files(self) -> bool:
        """Whether it makes files of which one is chosen by its score: a walk, or post-training."""
        return self.walk is not None or self.post_training is not None

    def with_prior(self, net: nn.Module) -> "Plan":
        """The plan; where it has no rules, with the default ones for the network.

        Those of a walk and of post-training are ``default_rules``, of a fit SpikeAndSlabs() for
        every tensor.
        """
        if self.prior:
            return self
        rules = default_rules(net) if self.makes_files else as_rules(SpikeAndSlabs())
        return replace(self, prior=rules)

    def joint(self, net: nn.Module, data_size: int) -> Joint:
        """The model of ``net`` that the plan describes; raises what ``joint`` raises."""
        return joint(
            self.fitted_network(net),
            self.prior,
            self.likelihood,
            data_size,
            tau=self.tau,
            density=self.density,
            device=self.device,
            dtype=self.dtype,
            start=self.start,
            raw=self.packing.raw,
        )

    def fitted_network(self, net: nn.Module) -> nn.Module:
        """What a model is made of: the network itself, or a copy whose batch norms are folded."""
        return folded(plain(net)) if self.packing.fold else net

    def guide_for(self, model: Joint) -> Guide:
        """The guide, made for the model. Raises ValueError for an unknown name."""
        if not isinstance(self.guide, Source):
            return guide_maker(self.guide)(model)
        with at_key("guide"):
            maker = self.guide.function()
            try:
                return maker(model)
            except TypeError as error:
                raise ValueError(f"{self.guide.path} makes no guide of a model: {error}") from error

    def arguments(self) -> dict[str, Any]:
        """The keywords of ``compress`` that make this plan of a network and training data."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        del own["network"]
        data, chosen = own.pop("data"), own.pop("walk") or own.pop("post_training")
        own.pop("post_training", None)
        if chosen is not None:
            own["fit"] = chosen
            del own["tau"]
        if isinstance(data, Data):
            own |= {"test": data.test, "validation": data.validation, "data_size": data.size}
        return own
