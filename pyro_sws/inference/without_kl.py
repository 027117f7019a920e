"""A model's sites scaled by tau in every ELBO, also in one that takes KL divergences by formula."""

import pyro.distributions as dist
import torch
from pyro.distributions import Delta, constraints
from pyro.poutine.messenger import Messenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from torch import Tensor
from torch.distributions import register_kl

from pyro_sws.inference.at_point import Site, is_a_plates


class NoFormula(Messenger):
    """Sites that are replayed from a guide have no KL by a formula; their log-densities are theirs.

    TraceMeanField_ELBO scales such a KL by the guide's factor alone. A guide that does not know of
    tau, such as Pyro's AutoDelta, would make the model's own tau vanish.
    """

    def _pyro_sample(self, msg: Site) -> None:
        if not msg["is_observed"] and not is_a_plates(msg) and _replayed(msg["name"]):
            msg["fn"] = WithoutKL(msg["fn"])


class WithoutKL(dist.TorchDistribution):
    """A distribution of which an ELBO knows the log-density alone."""

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, base):
        self.base = base
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def __getattr__(self, name: str):
        if name == "base":  # not yet there, in a copy
            raise AttributeError(name)
        return getattr(self.base, name)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        return self.base.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        return self.base.has_enumerate_support

    @constraints.dependent_property
    def support(self):
        return self.base.support

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value)

    def sample(self, sample_shape=torch.Size()):  # noqa: B008  (immutable)
        return self.base.sample(sample_shape)

    def rsample(self, sample_shape=torch.Size()):  # noqa: B008  (immutable)
        return self.base.rsample(sample_shape)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return self.base.enumerate_support(expand)

    def expand(self, batch_shape, _instance=None):
        return WithoutKL(self.base.expand(batch_shape))


@register_kl(Delta, WithoutKL)
def _kl_of_a_point(p: Delta, q: WithoutKL) -> Tensor:
    """Pyro has a formula for a point and any other distribution."""
    raise NotImplementedError


def _replayed(name: str) -> bool:
    handlers = (handler for handler in _PYRO_STACK if isinstance(handler, ReplayMessenger))
    return any(handler.trace is not None and name in handler.trace for handler in handlers)
