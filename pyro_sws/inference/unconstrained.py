"""Sites as one flat vector without constraints: their values, and the Jacobian of getting there."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import Transform, biject_to

FARTHEST = 40.0  # where a point starts at most: a proportion may have underflown to 0


@dataclass(frozen=True, eq=False)
class Unconstrained:
    """Vectors u (..., D) in which sites lie one after the other, each as its transform takes it."""

    transforms: Mapping[str, Transform]  # site -> from unconstrained space
    shapes: Mapping[str, torch.Size]  # site -> shape of its part of u

    def constrained(self, u: Tensor) -> dict[str, Tensor]:
        """Site name -> value; u (..., D), the dimensions before the last kept."""
        return {site: self.transforms[site](part) for site, part in self.parts(u).items()}

    def with_jacobian(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The values at u (D,), and log |d values / du|, a scalar."""
        values, jacobian = {}, u.new_zeros(())
        for site, part in self.parts(u).items():
            values[site] = self.transforms[site](part)
            whole = self.transforms[site].log_abs_det_jacobian(part, values[site]).sum()
            jacobian = jacobian + whole
        return values, jacobian

    def parts(self, u: Tensor) -> dict[str, Tensor]:
        """Site name -> its part of u (..., D), in the shape that it has there: a view."""
        parts = u.split([shape.numel() for shape in self.shapes.values()], dim=-1)
        return {
            site: part.reshape(u.shape[:-1] + shape)
            for (site, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def unconstrained(
    sites: Mapping[str, TorchDistributionMixin], values: Mapping[str, Tensor]
) -> tuple[Unconstrained, Tensor]:
    """The space of the sites, given as their distributions, and the vector of their values there.

    Raises ValueError for a site that is not continuous, and for a value outside its support.
    """
    transforms = {site: _transform(site, fn) for site, fn in sites.items()}
    starts = {site: _start(site, transforms[site], values[site]) for site in sites}
    parts = [start.reshape(-1) for start in starts.values()]
    start = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
    return Unconstrained(transforms, {site: u.shape for site, u in starts.items()}), start


def _transform(site: str, fn: TorchDistributionMixin) -> Transform:
    try:
        return biject_to(fn.support)
    except NotImplementedError:
        raise ValueError(
            f"{site!r} has support {fn.support}, which no continuous variable maps to; this is for "
            "continuous hyperparameters only"
        ) from None


def _start(site: str, transform: Transform, value: Tensor) -> Tensor:
    start = transform.inv(value)
    if start.isnan().any():
        raise ValueError(f"the point's {site!r} lies outside its support: {value}")
    return start.clamp(-FARTHEST, FARTHEST)
