"""The likelihood of counts: Poisson, under rates or their logs."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.output_graph import makers
from pyro_sws.inference.readings import better_as_rates, made_by
from pyro_sws.inference.targets import by_example, floating, how_many, one_by_one, same_shape
from pyro_sws.inference.typed_fields import check_fields


@dataclass(frozen=True)
class Poisson:
    """Counts under log-rates of the same shape. Scored by the negative log-likelihood a count.

    With ``inputs = "rates"`` the network's outputs are the rates, as after a Softplus.
    """

    __pydantic_config__ = {"extra": "forbid"}
    inputs: Literal["log_rates", "rates"] = field(default="log_rates", kw_only=True)
    score_name: ClassVar[str] = "nll"
    score_unit: ClassVar[str] = "nats"

    def __post_init__(self) -> None:
        check_fields(self, "poisson: ")

    def __call__(self, outputs: Tensor) -> dist.TorchDistribution:
        return dist.Poisson(self.rates(outputs)).to_event(outputs.dim() - 1)

    def rates(self, outputs: Tensor) -> Tensor:
        """The network's outputs as rates, of the same shape."""
        if self.inputs == "log_rates":
            return outputs.exp()
        return outputs.clamp_min(torch.finfo(outputs.dtype).tiny)  # of 0 a count has no density

    def start(self) -> dict[str, float]:
        return {}

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        floating("poisson", targets)
        same_shape("poisson", targets, outputs.shape)
        if not ((targets >= 0) & (targets == targets.round())).all():
            low = targets.min()
            raise ValueError(f"poisson: targets must be counts 0, 1, 2, ...; smallest is {low:g}")
        if self.inputs == "rates" and (outputs < 0).any():
            raise ValueError(
                "poisson: inputs are rates, which are at least 0, but the smallest of the "
                f'network\'s outputs is {outputs.min():g}; end it in one, or say inputs="log_rates"'
            )

    def check_reading(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise ValueError for outputs that are rates.

        All of the batch are at least 0, and an exp made them all, or as rates they say more of the
        targets than as log-rates.
        """
        values = outputs.detach()
        if self.inputs == "rates" or not bool((values >= 0).all()):
            return
        if made_by(makers(outputs), {"Exp"}) or better_as_rates(values, outputs, targets):
            raise ValueError(
                "poisson: outputs are rates (all are at least 0), log-rates were expected: drop "
                'the last Exp or Softplus, or say Poisson(inputs="rates")'
            )

    def weights(self, targets: Tensor) -> Tensor:
        """What the score weighs each example by: the number of its counts; (B,)."""
        return how_many(targets)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return by_example(-dist.Poisson(self.rates(outputs)).log_prob(targets).double())

    def score(self, mean_loss: float) -> float:
        return mean_loss

    def agreement(self, own: dist.TorchDistribution, teacher: Tensor, targets: Tensor) -> Tensor:
        """The expected log-density of counts at the teacher's rates, up to a constant; (B,)."""
        rates = one_by_one(own).rate
        each = torch.xlogy(self.rates(teacher), rates) - rates
        return each.reshape(len(each), -1).sum(1)
