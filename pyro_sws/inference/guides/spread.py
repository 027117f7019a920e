"""What a guide with spread adds to its point: draws, and how far each weight may be from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

DRAWS = 200  # of each hyperparameter
WEIGHT_DRAWS = 8  # of all weights at once: each is as long as the network


@dataclass(frozen=True)
class Spread:
    """See the fields of the same names of Posterior."""

    draws: Mapping[str, Tensor]
    deviations: Mapping[str, Tensor]
    floored: Mapping[str, int] = field(default_factory=dict)


def check_draws(**counts: int) -> None:
    for name, count in counts.items():
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"{name} must be a whole number >= 0, got {count}")
