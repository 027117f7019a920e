"""Every prior that the contracts are held against: each family, variants, two from outside."""

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch.distributions import transform_to

import pyro_sws as sws
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.priors import (
    DirichletProcess,
    GaussianPrior,
    Grid,
    Scaled,
    ScaleMixture,
    SparseDirichlet,
    SpikeAndSlabs,
    Structured,
    Ternary,
)
from pyro_sws.inference.priors.initialization import INITIALIZATIONS
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture


@dataclass(frozen=True)
class RowScaled:
    """A family from outside the package: a scale a row and a zero proportion a tensor."""

    slabs: int = 3

    def __call__(self, group):
        means = pyro.sample(
            f"{group.name}.means",
            dist.Normal(group.constant(0.0), 1.0).expand([self.slabs]).to_event(1),
        ).reshape(-1)
        zeros = {
            name: 0.9 if len(shape) > 1 else 0.5  # biases are rarely 0
            for name, shape in group.shapes.items()
        }
        rows = sum(shape[0] for shape in group.shapes.values())
        scales = pyro.sample(
            f"{group.name}.scales",
            dist.Gamma(group.constant(50.0), 50.0).expand([rows]).to_event(1),
        ).reshape(-1)
        precisions = group.constant(400.0).repeat(self.slabs + 1)
        return RowScaledPrior(
            Mixture(torch.cat([group.constant(0.0).view(1), means]), precisions, precisions / 1e9),
            group,
            zeros,
            scales,
        )

    def start(self, group, weights):
        rows = sum(shape[0] for shape in group.shapes.values())
        return {
            f"{group.name}.means": torch.linspace(-0.5, 0.5, self.slabs, dtype=group.dtype),
            f"{group.name}.scales": torch.ones(rows, dtype=group.dtype),
        }


@dataclass(frozen=True)
class RowScaledPrior:
    """Its density: nothing in the package knows about rows or tensors' own proportions."""

    mixture: Mixture
    group: Group
    zeros: dict
    scales: torch.Tensor

    def parts(self):
        """Of each tensor: its place, its mixture, and the scale of each of its weights."""
        row = 0
        for name, part in self.group.slices.items():
            shape = self.group.shapes[name]
            each = int(np.prod(shape[1:]))
            scale = self.scales[row : row + shape[0]].repeat_interleave(each)
            row += shape[0]
            zero, slabs = self.zeros[name], len(self.mixture) - 1
            shares = scale.new_tensor([zero] + [(1 - zero) / slabs] * slabs)
            yield part, replace(self.mixture, proportions=shares), scale

    def log_prob(self, flat, indices=None):
        at = torch.arange(self.group.size)[slice(None) if indices is None else indices]
        total = flat.new_zeros(())
        for part, mixture, scale in self.parts():
            here = (at >= part.start) & (at < part.stop)
            own = scale[at[here] - part.start]
            total = total + mixture.total_log_prob(flat[here] / own) - own.log().sum()
        return total

    def assign(self, flat):
        return torch.cat([mixture.assign(flat[p] / s) for p, mixture, s in self.parts()])

    def codebook(self, part):
        return self.mixture.levels

    def scale(self, part):
        return next(scale for p, _, scale in self.parts() if p == part)

    def proportions(self, part):
        return next(mixture.level_proportions for p, mixture, _ in self.parts() if p == part)

    def sample(self, size):
        return torch.cat([mixture.sample(s.shape) * s for _, mixture, s in self.parts()])


def by_hand(group, slabs=3):
    """A family that is a function: slabs under a Normal, all of one width, and a learned spike."""
    one = group.constant(1.0)
    name = group.name
    means = pyro.sample(f"{name}.means", dist.Normal(0 * one, one).expand([slabs]).to_event(1))
    precision = pyro.sample(f"{name}.slab_precision", dist.Gamma(50 * one, 0.5)).reshape(())
    zero = pyro.sample(f"{name}.zero_proportion", dist.Beta(20 * one, 5.0)).reshape(())
    return sws.MixturePrior(
        Mixture(
            torch.cat([0 * one.view(1), means.reshape(-1)]),
            torch.cat([1e3 * one.view(1), precision.expand(slabs)]),
            torch.cat([zero.view(1), ((1 - zero) / slabs).expand(slabs)]),
        )
    )


# Where a default is 0.999, one weight in a thousand would be a slab's: 0.6 lets both be seen.
THREE = SpikeAndSlabs(3, 0.6)
VARIANTS: dict[str, Any] = {
    "every hyperprior": SpikeAndSlabs(
        3, Beta(20.0, 5.0), Gamma(50.0, 0.5), Gamma(8.0, 0.3), Dirichlet(2.0), Normal(0.5)
    ),
    "no spike": SpikeAndSlabs(3, 0.0, slab_precision="free"),
    "fixed": SpikeAndSlabs(2, 0.6, 900.0, 100.0, "equal", initialization=(-0.3, 0.3)),
    **{f"from {way}": replace(THREE, initialization=cast(Any, way)) for way in INITIALIZATIONS},
    "structured, widths": Structured(THREE, width_deviation=0.5),
    "structured, rows": Structured(replace(THREE, zero_proportion=Beta(3.0, 2.0)), by=("row",)),
    "scaled, rows": Scaled(THREE, by="row"),
    "dirichlet_process, five": DirichletProcess(5, Gamma(3.0, 2.0), 0.6),
    "sparse_dirichlet, dense": SparseDirichlet(4, 8.0, Beta(6.0, 4.0)),
    "grid, powers of two": Grid(3, "powers_of_two", 0.6, slab_shares=Dirichlet(2.0)),
    "ternary, half zero": Ternary(0.5, "free", slab_shares="equal"),
    "student_t": ScaleMixture("student_t", 3.0, nodes=5, slabs=3, zero_proportion=0.6),
    "horseshoe": ScaleMixture("horseshoe", floor=0.1, slabs=3, zero_proportion=0.6),
    "gaussian, learned": GaussianPrior(Gamma(3.0, 0.1), steps=4, reach=3.0),
}
OUTSIDERS = {"row_scaled": RowScaled(), "custom": sws.Custom(by_hand, {"slabs": 2})}
PRIORS = {**{name: family() for name, family in sws.PRIORS.items()}, **VARIANTS, **OUTSIDERS}

GROUP = Group("all", {"a": (4, 3), "conv": (3, 2, 2, 1), "b": (3,)}, torch.float64)
WEIGHTS = torch.linspace(-0.4, 0.6, GROUP.size, dtype=torch.float64)


def traced(prior, group, point):
    with pyro_step():
        return poutine.trace(poutine.condition(prior, data=point)).get_trace(group)


def density(prior, group, point):
    """The WeightPrior at a point."""
    return traced(prior, group, point).nodes["_RETURN"]["value"]


def log_joint(prior, group, point, weights):
    """log p(weights, hyperparameters) at a point, in nats."""
    trace = traced(prior, group, point)
    return trace.log_prob_sum() + trace.nodes["_RETURN"]["value"].log_prob(weights)


def supports(prior, group, point):
    """What maps the whole real line, or space, to a site's support; by site."""
    nodes = traced(prior, group, point).nodes
    return {site: transform_to(nodes[site]["fn"].support) for site in point}


def somewhere(prior, group, weights, distance=0.2):
    """A point at which nothing is special: the start, moved at random in unconstrained space."""
    generator = torch.Generator().manual_seed(0)
    start = prior.start(group, weights)
    point = {}
    for site, transform in supports(prior, group, start).items():
        free = transform.inv(start[site])
        moves = torch.randn(free.shape, generator=generator, dtype=free.dtype)
        point[site] = transform(free + distance * moves)
    return point
