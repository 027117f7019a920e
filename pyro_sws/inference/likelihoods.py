"""Likelihoods: frozen specs that turn a network's outputs into the distribution of its targets."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, Protocol

import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor, nn

from pyro_sws.inference.binary import Bernoulli
from pyro_sws.inference.classification import Categorical, Distilled, SoftCategorical
from pyro_sws.inference.counts import Poisson
from pyro_sws.inference.from_distribution import FromDistribution
from pyro_sws.inference.generalised import Loss
from pyro_sws.inference.of_weights import OfWeights
from pyro_sws.inference.plain_numbers import shown
from pyro_sws.inference.regression import Gaussian, HeteroscedasticGaussian, Laplace, StudentT
from pyro_sws.weights.curvature import Curvature

MEMBERS = ("__call__", "start", "check", "losses", "score")  # of what is a likelihood


class Likelihood(Protocol):
    """What a likelihood must have. Outputs and targets have the batch in their first dimension.

    It may have a method ``fitted(outputs)``: the density that a fit uses instead, as of smoothed
    labels; and ``taught(outputs, teacher)``, which also knows the outputs of the network as it was
    given (see Distilled), and ``softened(share)``, which makes such a one of it for a walk; and
    ``joined(outputs)``, which makes one tensor (B, ...) of several outputs of a network.
    ``given(outputs, targets)`` returns the density and a tensor (B, ...) that Pyro observes under
    it, in place of targets of a form that a distribution cannot have, as those of Loss.

    A method ``check_reading(outputs, targets)`` raises ValueError where the first batch shows that
    the outputs mean something else, such as probabilities where logits are expected. Their graph is
    kept, so that it can be asked what made them. ``defined(outputs)`` says which outputs mean
    something, finite or not; without it the finite ones do. ``mistakes(outputs, targets)``, (B,),
    is what a certificate counts where the score is not in percent: 1 for an example that is wrong,
    0 for one that is right; without it the losses are, where all are 0 or 1. ``counted(targets)``,
    bool, of their shape, says which of them count at all: the score then weighs an example by their
    number, and its loss is the mean over them, 0 where there is none; or by ``weights(targets)``,
    (B,), where the likelihood says them. ``classes(outputs)`` is the number of answers that guess
    right with equal chance, for a certificate, and ``labels(targets)`` the classes of targets that
    are something else. ``generalised``, a text, says that it is no
    probability of targets: there is then no certificate, no calibration and no draw of targets.
    """

    @property
    def score_name(self) -> str:
        """What the score is called; a class attribute will do."""
        ...

    @property
    def score_unit(self) -> str:
        """Of the score: "percent", or the unit itself."""
        ...

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        """p(targets | outputs), batch_shape (B,). May pyro.sample parameters of its own."""
        ...

    def start(self) -> dict[str, float]:
        """Starting values of the sites that it samples itself."""
        ...

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError where the targets cannot be under these outputs."""
        ...

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """What the score averages, example by example; (B,) float."""
        ...

    def score(self, mean_loss: float) -> float:
        """The score that a user is shown; lower is better."""
        ...


LIKELIHOODS: dict[str, type] = {
    "categorical": Categorical,
    "distilled": Distilled,
    "soft_categorical": SoftCategorical,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "heteroscedastic_gaussian": HeteroscedasticGaussian,
    "student_t": StudentT,
    "laplace": Laplace,
    "poisson": Poisson,
    "loss": Loss,
    "from_distribution": FromDistribution,
}


def as_likelihood(likelihood: str | Likelihood | Callable | Curvature) -> Likelihood:
    """A spec as it is; a name with its default fields; of a function a FromDistribution.

    Of a curvature a likelihood of weights.

    Raises ValueError for an unknown name, for a class in place of a spec, and for what is none.
    """
    if isinstance(likelihood, type):
        raise ValueError(f"likelihood: must be a spec such as Categorical(), got {likelihood!r}")
    if isinstance(likelihood, str):
        return _by_name(likelihood)
    if isinstance(likelihood, Curvature):
        return OfWeights(likelihood)
    spec: Any = likelihood
    missing = [name for name in MEMBERS if not hasattr(spec, name)]
    if not missing:
        return spec
    if missing == list(MEMBERS[1:]) and _takes_outputs(spec):
        return FromDistribution(spec)
    hint = "; of a loss function say Loss(function)" if callable(spec) else ""
    if 0 < len(missing) < len(MEMBERS) - 1:
        hint = f", which has no {', '.join(missing)}"
    raise ValueError(
        f"likelihood must be one of {', '.join(sorted(LIKELIHOODS))}, or a spec such as "
        f"Categorical(), got {shown(spec)}{hint}"
    )


def _by_name(name: str) -> Likelihood:
    if name not in LIKELIHOODS:
        choices = ", ".join(sorted(LIKELIHOODS))
        raise ValueError(f"unknown likelihood {name!r}; choose from {choices}")
    family = LIKELIHOODS[name]
    if needed := [f.name for f in fields(family) if f.default is MISSING]:
        raise ValueError(
            f"likelihood {name!r} needs {' and '.join(needed)}: say {family.__name__}({needed[0]})"
        )
    return family()


def _takes_outputs(function: object) -> bool:
    """Whether it can be called with outputs alone; a module is a network, or a loss."""
    if not callable(function) or isinstance(function, nn.Module):
        return False
    try:
        inspect.signature(function).bind(None)
    except (TypeError, ValueError):  # it takes more; or nothing says what
        return False
    return True


def fitted(likelihood: Likelihood, outputs: Tensor) -> dist.TorchDistribution:
    """The density that a fit counts, without a teacher: of smoothed labels, where there are any."""
    return getattr(likelihood, "fitted", likelihood)(outputs)


def counted_targets(likelihood: Likelihood, targets: Tensor) -> Tensor:
    """Which targets count: all of them, where the likelihood does not say; bool, of their shape."""
    own = getattr(likelihood, "counted", None)
    return torch.ones_like(targets, dtype=torch.bool) if own is None else own(targets)


def noise_trace(likelihood: Likelihood, like: Tensor, point: Mapping[str, Tensor]) -> poutine.Trace:
    """The sites that a likelihood samples itself, such as a learned noise: at the point, or drawn.

    They do not depend on the outputs: a single 0 of the dtype and on the device of ``like`` does.
    """
    conditioned = poutine.condition(noise_sites, data=dict(point))
    return poutine.trace(conditioned).get_trace(likelihood, like)


def noise_sites(likelihood: Likelihood, like: Tensor) -> None:
    """Sample a likelihood's own sites, where it has any; see ``noise_trace``."""
    if likelihood.start():  # else the outputs may have to be of another form
        likelihood(like.new_zeros(1, 1))
