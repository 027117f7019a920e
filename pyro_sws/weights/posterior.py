"""What a fit leaves behind, as plain tensors: the last value that Pyro touches. Torch only."""

import sys
from collections.abc import Collection, ItemsView, Mapping
from dataclasses import dataclass, field
from numbers import Integral

import torch
from torch import Tensor

from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import WeightPrior


@dataclass(frozen=True)
class Posterior:
    """Point estimates of weights and hyperparameters; where the guide has spread, that as well.

    A point is the centre of the guide: a weight's posterior mean. Under tau < 1 the spread is of
    the tempered posterior, p(data | weights)^(1 / tau) p(weights, hyperparameters).
    """

    groups: Mapping[str, Group]
    point: Mapping[str, Tensor]  # site name -> value; a group's weights are at "<group>.weights"
    priors: Mapping[str, WeightPrior]  # group name -> the density at the point's hyperparameters
    raw: Mapping[str, Tensor]  # parameters that no prior covers, and buffers
    tau: float
    # Site name -> (S, ...), for the sites with spread; of weights S is small. None: there is none.
    draws: Mapping[str, Tensor] | None = None
    deviations: Mapping[str, Tensor] | None = None  # weights' site name -> posterior deviation (N,)
    # By weights' site, and "hyperparameters": how many widths are a floor's, not the curvature's.
    floored: Mapping[str, int] = field(default_factory=dict)
    merged: Mapping[str, tuple[tuple[int, ...], ...]] = field(default_factory=dict)
    base: bytes = b""  # the fingerprint of what the weights are differences to; see ``around``

    def __post_init__(self) -> None:
        if self.draws is not None:
            object.__setattr__(self, "draws", Draws(self.draws, self.point))

    @property
    def weights(self) -> dict[str, Tensor]:
        """Tensor name -> fitted value, in its own shape, over all groups."""
        return {
            name: tensor
            for group in self.groups.values()
            for name, tensor in group.split(self.point[weights_site(group.name)]).items()
        }

    def samples(self, count: int | None = None) -> dict[str, Tensor]:
        """Equally many values of every site, by name: (count, ...), as Pyro's Predictive takes.

        ``draws`` has few of the weights and many of the hyperparameters. Here each site's are taken
        in turn, from the first again where they run out; a site without spread stays at its point.
        Hyperparameters that were drawn together stay together; weights are drawn apart from them by
        every guide. Unless ``count`` is given, it is the least number of draws of a site.
        Raises ValueError for a count below 1.
        """
        draws = {site: values for site, values in (self.draws or {}).items() if len(values)}
        if count is None:
            count = min((len(values) for values in draws.values()), default=1)
        if not isinstance(count, Integral) or count < 1:
            raise ValueError(f"count must be at least 1, got {count!r}; give a whole number")
        at = torch.arange(count)
        return {
            site: draws[site][(at % len(draws[site])).to(value.device)]
            if site in draws
            else value.expand(count, *value.shape)
            for site, value in self.point.items()
        }


class Draws(dict[str, Tensor]):
    """Draws by site: of each its own number, and of no site that is a point.

    Pyro's Predictive takes the k-th of every site together, and draws sites that it is not given
    from the prior: it would fail in a reshape, or predict with weights that were never fitted.
    """

    def __init__(self, draws: Mapping[str, Tensor], sites: Collection[str]):
        super().__init__(draws)
        self.absent = [site for site in sites if site not in draws]

    def items(self) -> ItemsView[str, Tensor]:  # type: ignore[override]
        """The pairs. Raises ValueError for Pyro, where these are not equally many of all sites."""
        if sys._getframe(1).f_globals.get("__name__") == "pyro.infer.predictive":
            self._check_equal()
        return super().items()

    def _check_equal(self) -> None:
        counts = {len(values): site for site, values in super().items()}
        if len(counts) > 1 or self.absent:
            own = [f"{count} of {site}" for count, site in counts.items()]
            own += [f"none of {site}" for site in self.absent[:1]]
            raise ValueError(
                f"posterior.draws has {', '.join(own)}; give Predictive equally many of all sites, "
                "posterior_samples=posterior.samples()"
            )


def check_posterior(posterior: object) -> None:
    """Raise TypeError for what is no posterior, such as the run that has it."""
    if not isinstance(posterior, Posterior):
        kind = type(posterior).__name__
        raise TypeError(f"posterior must be a Posterior, such as run.posterior, got {kind}")


def weights_site(group: str) -> str:
    """Name of the sample site that holds a group's flat weights."""
    return f"{group}.weights"


DRAWS = 200  # of each hyperparameter
WEIGHT_DRAWS = 8  # of all weights at once: each is as long as the network


@dataclass(frozen=True)
class Spread:
    """See the fields of the same names of Posterior."""

    draws: Mapping[str, Tensor]
    deviations: Mapping[str, Tensor]
    floored: Mapping[str, int] = field(default_factory=dict)


def check_draws(**counts: int) -> None:
    """Raise ValueError for a count, given by its name, that is not a whole number of 0 or more."""
    for name, count in counts.items():
        if not isinstance(count, Integral) or count < 0:
            raise ValueError(f"{name} must be a whole number >= 0, got {count}")
