"""The delta guide: a point mass at every latent, and perhaps a Gaussian around it afterwards."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from operator import attrgetter

import torch
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value
from torch import Tensor

from pyro_sws.inference.guides.handlers import ScaledAs, joint_inside, without_targets
from pyro_sws.inference.guides.laplace import Laplace
from pyro_sws.inference.guides.names import check_shape, check_store, guide_name, remember
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.posterior import Posterior, Spread


@torch.inference_mode(False)
def delta_guide(
    model: Joint, start: Mapping[str, Tensor] | None = None, *, name: str | None = None
) -> "DeltaGuide":
    """A point mass at every latent, so that -ELBO is the description length in nats.

    The point is a maximum of the joint in *constrained* space (no Jacobian), found by steps in
    unconstrained space. Starts at the network's own weights and each prior's start; ``start``
    overrides them site by site. ``model`` may be inside Pyro's handlers, such as pyro.condition;
    ``fit`` takes the joint alone. ``name`` is the guide's in Pyro's parameter store, under which a
    saved store is loaded again; without one each guide has a number. Raises ValueError for a
    hyperprior under which no maximum exists.
    """
    return DeltaGuide(model, _start_at(model, start), name=name)


@torch.inference_mode(False)
def laplace_guide(
    model: Joint,
    start: Mapping[str, Tensor] | None = None,
    *,
    name: str | None = None,
    **settings: object,
) -> "DeltaGuide":
    """The delta guide, and when it is fitted a Gaussian around its point; see ``Laplace``.

    The point, and so the file, is the delta guide's.

    Args:
        model: what ``joint`` returns.
        start: values by site name to start from; see ``delta_guide``.
        name: the guide's in Pyro's parameter store; see ``delta_guide``.
        settings: the fields of ``Laplace``: weights, floor, examples, draws, weight_draws.

    Raises:
        ValueError: as ``delta_guide`` and ``Laplace``, and for more hyperparameters than a dense
            Hessian is for.
    """
    laplace = Laplace(**settings)  # type: ignore[arg-type]
    laplace.check(joint_inside(model))
    return DeltaGuide(model, _start_at(model, start), laplace, name)


class DeltaGuide(AutoDelta):
    """AutoDelta whose parameters have names of their own in Pyro's global store.

    Under AutoDelta's one name a second guide silently starts from the first one's fitted values.
    """

    carries_tau = True

    def __init__(
        self,
        model: Callable,
        init_loc_fn: Callable,
        laplace: Laplace | None = None,
        name: str | None = None,
    ):
        super().__init__(without_targets(model), init_loc_fn)
        self._pyro_name = guide_name("delta_guide", name)
        self.handled = not isinstance(model, Joint)  # inside Pyro's handlers
        self.joint, self.laplace = joint_inside(model), laplace

    def forward(self, *args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
        """The point, by site; scaled by tau, which an ELBO that takes an analytic KL looks for."""
        if self.prototype_trace is None:
            self._setup_prototype(*args, **kwargs)
        with ScaledAs(self.prototype_trace):
            return super().forward(*args, **kwargs)

    def _setup_prototype(self, *args: Tensor, **kwargs: Tensor) -> None:
        check_store(self._pyro_name)
        super()._setup_prototype(*args, **kwargs)
        for name, site in self.prototype_trace.iter_stochastic_nodes():
            check_shape(self._pyro_name, name, attrgetter(name)(self), site["value"])
        remember(self._pyro_name, self)

    @property
    def weights_have_spread(self) -> bool:
        return self.laplace is not None and self.laplace.weights != "none"

    def spread(self, posterior: Posterior, batches: Iterable) -> Spread | None:
        """The Gaussian around the fitted point, where one is wanted."""
        return None if self.laplace is None else self.laplace(self.joint, posterior, batches)


def _start_at(wrapped: Callable, start: Mapping[str, Tensor] | None) -> Callable:
    model = joint_inside(wrapped)
    specs = {f"group {name!r}": prior for name, prior in model.priors.items()}
    for owner, spec in {**specs, "likelihood": model.likelihood}.items():
        for reason in _without_mode(spec):
            raise ValueError(f"{owner}: no point estimate exists: {reason}")
    # AutoDelta's own start, the median of prior draws, destroys a trained network. Its parameters
    # share memory with the values, and a fit writes into them.
    values = {
        site: value.detach().clone() for site, value in {**model.start(), **(start or {})}.items()
    }
    return init_to_value(values=values)


def _without_mode(spec: object) -> list[str]:
    """The reasons why some hyperprior among a spec's fields has no mode."""
    if not dataclasses.is_dataclass(spec):
        return []
    values = [getattr(spec, field.name) for field in dataclasses.fields(spec)]
    reasons = [value.without_mode() for value in values if hasattr(value, "without_mode")]
    return [reason for reason in reasons if reason]
