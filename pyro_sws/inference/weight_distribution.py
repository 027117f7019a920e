"""A group's prior density as a Pyro distribution over its flat weights."""

from contextlib import AbstractContextManager, nullcontext

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_sws.inference.subsampling import Places
from pyro_sws.weights.density.log_density import using
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import WeightPrior


def _own_precision(value: Tensor) -> AbstractContextManager:
    """Without autocast, should a caller have set it: half precision cannot hold a precision."""
    kind = value.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


class WeightDistribution(dist.TorchDistribution):
    """A WeightPrior as a Pyro distribution over a group's flat weights; event_shape (size,).

    torch's MixtureSameFamily will not do: its support has no biject_to rule, so autoguides and NUTS
    reject it.
    """

    support = constraints.real_vector
    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        prior: WeightPrior,
        group: Group,
        way: str = "auto",
        places: Places | None = None,
        batch_shape: tuple[int, ...] = (),
    ):
        self.prior, self.group, self.way, self.places = prior, group, way, places
        super().__init__(torch.Size(batch_shape), torch.Size([group.size]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, or the unbiased estimate of it that ``places`` makes."""
        if value.dim() > 1:
            rows = value.reshape(-1, self.group.size)
            return torch.stack([self.log_prob(row) for row in rows]).view(value.shape[:-1])
        with using(self.way), _own_precision(value):
            if self.places is None:
                return self.prior.log_prob(value)
            return self.places.estimate(self.prior, value)

    def expand(self, batch_shape, _instance=None):
        return WeightDistribution(self.prior, self.group, self.way, self.places, batch_shape)

    def sample(self, sample_shape=()):
        shape = self.shape(torch.Size(sample_shape))
        if len(shape) == 1:
            return self.prior.sample(self.group.size)
        draws = [self.prior.sample(self.group.size) for _ in range(shape[:-1].numel())]
        return torch.stack(draws).view(shape)
