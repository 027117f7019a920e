"""A group's prior density as a Pyro distribution over its flat weights."""

from contextlib import AbstractContextManager, nullcontext

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_sws.inference.subsampling import Subset
from pyro_sws.weights.density.log_density import density_backend
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
        backend: str = "auto",
        subset: Subset | None = None,
        batch_shape: tuple[int, ...] = (),
    ):
        self.prior, self.group, self.backend, self.subset = prior, group, backend, subset
        super().__init__(torch.Size(batch_shape), torch.Size([group.size]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(value) in nats, or the unbiased estimate of it that ``subset`` makes."""
        if value.dim() > 1:
            rows = value.reshape(-1, self.group.size)
            return torch.stack([self.log_prob(row) for row in rows]).view(value.shape[:-1])
        with density_backend(self.backend), _own_precision(value):
            if self.subset is None:
                return self.prior.log_prob(value)
            return self.subset.estimate(self.prior, value)

    def expand(self, batch_shape, _instance=None):
        return WeightDistribution(self.prior, self.group, self.backend, self.subset, batch_shape)

    def sample(self, sample_shape=()):
        shape = self.shape(torch.Size(sample_shape))
        if len(shape) == 1:
            return self.prior.sample(self.group.size)
        draws = [self.prior.sample(self.group.size) for _ in range(shape[:-1].numel())]
        return torch.stack(draws).view(shape)
