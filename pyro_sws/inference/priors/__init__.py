"""Prior families: frozen specs that sample hyperparameters and return a weight density."""

from typing import Protocol

from torch import Tensor

from pyro_sws.inference.priors.dirichlet_process import DirichletProcess
from pyro_sws.inference.priors.gaussian import GaussianPrior
from pyro_sws.inference.priors.grid import Grid
from pyro_sws.inference.priors.scale_mixture import ScaleMixture
from pyro_sws.inference.priors.scaled import Scaled
from pyro_sws.inference.priors.sparse_dirichlet import SparseDirichlet
from pyro_sws.inference.priors.spike_and_slabs import SpikeAndSlabs
from pyro_sws.inference.priors.structured import Structured
from pyro_sws.inference.priors.ternary import Ternary
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import WeightPrior


class Prior(Protocol):
    """What a family must have; see SpikeAndSlabs."""

    def __call__(self, group: Group) -> WeightPrior:
        """Sample this group's hyperparameters with pyro.sample; return the density they define.

        Site names start with "<group.name>.".
        """
        ...

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """Starting values for those sites, given the group's trained weights, flat (N,)."""
        ...


PRIORS: dict[str, type] = {
    "spike_and_slabs": SpikeAndSlabs,
    "structured": Structured,
    "scaled": Scaled,
    "dirichlet_process": DirichletProcess,
    "sparse_dirichlet": SparseDirichlet,
    "grid": Grid,
    "ternary": Ternary,
    "scale_mixture": ScaleMixture,
    "gaussian": GaussianPrior,
}
