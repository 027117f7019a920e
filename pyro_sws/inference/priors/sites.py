"""The hyperparameters that families share: a spike's and slabs' sites, sampled from their specs.

Wherever a spec is a number, the number is fixed; what has a hyperprior is learned under it, and
what is "free" is learned with none. Sites are named "<group>.<site>".
"""

import math
from typing import Literal, Protocol

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_sws.inference.hyperpriors import (
    Beta,
    Dirichlet,
    Free,
    Gamma,
    Normal,
    free_positive,
    free_real,
    free_simplex,
)
from pyro_sws.inference.priors.initialization import Initialization, InitialSlabs, initialize
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture


class SlabSpec(Protocol):
    """The fields that families with a spike and slabs share; see SpikeAndSlabs."""

    @property
    def zero_proportion(self) -> float | Beta: ...
    @property
    def spike_precision(self) -> float | Gamma | Free: ...
    @property
    def slab_precision(self) -> float | Gamma | Free: ...
    @property
    def slab_means(self) -> Normal | Free: ...
    @property
    def initialization(self) -> Initialization | tuple[float, ...]: ...
    @property
    def start_deviation(self) -> float: ...


def sample(group: Group, site: str, density: dist.TorchDistribution) -> Tensor:
    """A hyperparameter of the group; plate dimensions that Pyro's Predictive puts in front go."""
    return pyro.sample(f"{group.name}.{site}", density).reshape(density.event_shape)


def sample_slabs(group: Group, spec: SlabSpec, slabs: int) -> tuple[Tensor, Tensor]:
    """Sites ``means`` and ``slab_precisions``, each (J,)."""
    free = spec.slab_means == "free"
    density = free_real(group, slabs) if free else spec.slab_means.over(group, (slabs,))  # type: ignore[union-attr]
    means = sample(group, "means", density)
    return means, sample_precision(group, "slab_precisions", spec.slab_precision, (slabs,))


def sample_precision(
    group: Group, site: str, spec: float | Gamma | Free, size: tuple[int, ...] = ()
) -> Tensor:
    """A precision, or several; no site where the spec is a number."""
    if isinstance(spec, Gamma):
        return sample(group, site, spec.over(group, size))
    if spec == "free":
        return sample(group, site, free_positive(group, size))
    return group.constant(spec).expand(size)


def sample_shares(group: Group, spec: Dirichlet | Free | Literal["equal"], slabs: int) -> Tensor:
    """Site ``slab_shares`` (J,), unless they are "equal"."""
    if isinstance(spec, Dirichlet):
        return sample(group, "slab_shares", spec.over(group, slabs))
    if spec == "free":
        return sample(group, "slab_shares", free_simplex(group, slabs))
    return group.constant(1 / slabs).expand(slabs)


def sample_zero(group: Group, spec: float | Beta) -> Tensor:
    """Site ``zero_proportion`` (), where it has a hyperprior."""
    if isinstance(spec, Beta):
        return sample(group, "zero_proportion", spec.over(group))
    return group.constant(spec)


def with_spike(
    group: Group, spec: SlabSpec, means: Tensor, precisions: Tensor, shares: Tensor
) -> Mixture:
    """Sites ``zero_proportion`` and ``spike_precision``; the spike, at 0, comes first.

    Without a spike where the zero proportion is fixed at 0.
    """
    if spec.zero_proportion == 0:
        return Mixture(means, precisions, shares)
    zero = sample_zero(group, spec.zero_proportion)
    spike = sample_precision(group, "spike_precision", spec.spike_precision)
    return spike_and_slabs(zero, spike, means, precisions, shares)


def spike_and_slabs(
    zero: Tensor, spike: Tensor, means: Tensor, precisions: Tensor, shares: Tensor
) -> Mixture:
    """The spike at 0, of proportion ``zero``, and slabs whose ``shares`` divide up the rest."""
    return Mixture(
        means=torch.cat([means.new_zeros(1), means]),
        precisions=torch.cat([spike.view(1), precisions]),
        proportions=torch.cat([zero.view(1), (1 - zero) * shares]),
    )


def initial_slabs(spec: SlabSpec, group: Group, weights: Tensor, slabs: int) -> InitialSlabs:
    """The spec's start over the group's trained weights (N,), in double precision."""
    spike = spec.zero_proportion != 0
    values = weights.detach().double()
    return initialize(spec.initialization, values, slabs, spec.start_deviation, spike)


def initial_values(spec: SlabSpec, group: Group, slabs: InitialSlabs) -> dict[str, Tensor]:
    """Starting values of the sites that ``sample_slabs`` and ``with_spike`` have."""
    values = {"means": slabs.means}
    if not isinstance(spec.slab_precision, int | float):
        values["slab_precisions"] = slabs.deviations**-2
    if spec.zero_proportion != 0:
        if not isinstance(spec.spike_precision, int | float):
            values["spike_precision"] = slabs.spike_deviation**-2
        if isinstance(spec.zero_proportion, Beta):
            values["zero_proportion"] = group.constant(spec.zero_proportion.mean)
    return named(group, values)


def named(group: Group, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The values by the names of the group's sites, in its dtype and on its device."""
    return {f"{group.name}.{s}": v.to(group.device, group.dtype) for s, v in values.items()}


def check_slab_spec(spec: SlabSpec, slabs: int, what: str = "slabs", spike: bool = False) -> None:
    """Check the fields; raise ValueError for one that cannot be. ``spike``: there must be one."""
    check_fields(spec)
    if slabs < 1:
        raise ValueError(f"{what} must be at least 1, got {slabs}")
    zero = spec.zero_proportion
    if isinstance(zero, int | float) and not (0 < zero < 1 or zero == 0 and not spike):
        raise ValueError(f"zero_proportion must be in {'(' if spike else '['}0, 1), got {zero}")
    check_positive(spec, "spike_precision", "slab_precision", "start_deviation")
    if isinstance(spec.initialization, tuple):
        given = len(spec.initialization)
        if given != slabs:
            raise ValueError(f"initialization gives {given} means for {slabs} slabs; give as many")
        if not all(map(math.isfinite, spec.initialization)):
            raise ValueError(f"initialization must be finite means, got {spec.initialization}")


def check_positive(spec: object, *names: str) -> None:
    """Raise ValueError for a field that is a number and not positive."""
    for name in names:
        value = getattr(spec, name)
        if isinstance(value, int | float) and not 0 < value < math.inf:
            wanted = "finite" if value > 0 else "positive"
            raise ValueError(f"{name} must be {wanted}, got {value}")
