"""One shape of mixture, and a positive scale by tensor or row: layers differ in width by 10x."""

from dataclasses import dataclass, field
from math import prod
from typing import Literal

import pyro.distributions as dist
import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_sws.inference.priors.sites import check_positive, named, sample
from pyro_sws.inference.priors.spike_and_slabs import SpikeAndSlabs
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.weight_prior import MixturePrior


@dataclass(frozen=True)
class Scaled:
    """w / scale has the density of ``shape``; each tensor's, or row's, scale is its trained size.

    The scale is taken from the weights that a fit sets out from, whose root mean square over
    ``deviation`` it is, and stays there under every guide of GUIDES, whatever is drawn of the
    weights later: a scale that is learned beside the weights slides along the rescaling symmetry of
    networks with ReLU (one layer times c, the next over c), towards ever smaller weights. For the
    same reason the *standardised* weight is scored: the Jacobian, -sum log scale, is cancelled by
    the scales' improper density prod scale^n. So the cost of a network, and of all that it is
    rescaled to layer by layer, is one number; but it is no code length. Nothing holds a scale that
    has spread: a guide of one's own must have a point mass at the site, as AutoDelta has.

    Site ``scales`` (tensors,), or (rows,) where ``by`` is "row" and a tensor has rows; the others
    are those of ``shape``, whose numbers are in units of standardised weights.
    """

    __pydantic_config__ = {"extra": "forbid"}
    shape: SpikeAndSlabs = field(default_factory=SpikeAndSlabs)
    by: Literal["tensor", "row"] = "tensor"  # the file stores 16 bits a scale: rows cost
    # About that of LeNet-300-100's weights: the shape's defaults mean what they mean elsewhere.
    deviation: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self)
        check_positive(self, "deviation")

    def __call__(self, group: Group) -> MixturePrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        counts = self._counts(group)
        scales = sample(group, "scales", Standardising(counts)).detach()
        weights_each = counts.to(torch.int64)
        return MixturePrior(
            self.shape(group).mixture,
            scales.repeat_interleave(weights_each, output_size=group.size),
        )

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """The trained weights' root mean squares over ``deviation``, and the shape's own start."""
        counts = self._counts(group).to(torch.int64)
        owner = torch.arange(len(counts), device=weights.device).repeat_interleave(counts)
        squares = torch.zeros(len(counts), dtype=torch.float64, device=weights.device)
        squares.index_add_(0, owner, weights.double().square())
        scales = (squares / counts).sqrt() / self.deviation
        typical = weights.double().square().mean().sqrt() / self.deviation
        # What is all zero, such as a fresh bias, has no size of its own.
        scales = torch.where(
            scales > 0, scales, typical if typical > 0 else torch.ones_like(typical)
        )
        standardised = weights / scales[owner].to(weights.dtype)
        return self.shape.start(group, standardised) | named(group, {"scales": scales})

    def _counts(self, group: Group) -> Tensor:
        """How many weights each scale covers, in the group's dtype."""
        counts: list[int] = []
        for shape in group.shapes.values():
            rows = shape[0] if self.by == "row" and len(shape) > 1 else 1
            counts += [prod(shape) // rows] * rows
        return torch.tensor(counts, dtype=group.dtype, device=group.device)


class Standardising(dist.TorchDistribution):
    """The improper density prod_k scales[k]^counts[k]: with it, w / scale is what is scored.

    Its draws are ones; a scale has no distribution to be drawn from. The entropy of a guide with
    spread would grow with the scales for ever, and no gradient of the model hold against it.
    """

    is_held = True  # where it starts: guides have a point mass there

    support = constraints.independent(constraints.positive, 1)
    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, counts: Tensor):
        self.counts = counts
        super().__init__(torch.Size(), counts.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        # Without a gradient scales would grow for ever: the density has none to hold against it.
        # It is 0 rather than none, since several ranks wait for every site's.
        return (self.counts * value.detach().log()).sum(-1) + 0 * value.sum(-1)

    def expand(self, batch_shape, _instance=None):
        return self

    def sample(self, sample_shape=()):
        return self.counts.new_ones(torch.Size(sample_shape) + self.event_shape)
