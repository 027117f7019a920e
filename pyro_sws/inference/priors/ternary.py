"""Three values, -a, 0 and +a, with a learned: a multiplication becomes an addition."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Free, Gamma
from pyro_sws.inference.priors.grid import Grid
from pyro_sws.inference.priors.initialization import Initialization
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import MixturePrior


@dataclass(frozen=True)
class Ternary:
    """p(w) = z N(w; 0, 1/s) + (1 - z) (share N(w; -a, 1/p) + (1 - share) N(w; a, 1/q)).

    A Grid of one step. As the prior of variational network quantization (Achterhold et al. 2018)
    and with a magnitude learned as in trained ternary quantization (Zhu et al. 2017). Tensors that
    differ in width want one each: a rule with ``each = true``.

    Sites: ``spacing`` (), which is a, and those of Grid.
    """

    __pydantic_config__ = {"extra": "forbid"}
    zero_proportion: float | Beta = 0.999
    spike_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(5000.0, 2.0))
    slab_precision: float | Gamma | Free = field(default_factory=lambda: Gamma(250.0, 0.1))
    slab_shares: Dirichlet | Free | Literal["equal"] = "free"
    initialization: Initialization = "k_means"  # "range" would start at the largest weight
    start_deviation: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        self._grid()

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        return self._grid()(group)

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values of the learned sites, given the group's trained weights (N,)."""
        return self._grid().start(group, weights)

    def _grid(self) -> Grid:
        return Grid(steps=1, **vars(self))
