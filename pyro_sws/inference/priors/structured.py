"""Zero proportions that differ by tensor, row and column: what carries nothing is cheap to drop."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pyro_sws.inference.hyperpriors import Normal
from pyro_sws.inference.priors.sites import check_positive, named, sample
from pyro_sws.inference.priors.spike_and_slabs import SpikeAndSlabs
from pyro_sws.inference.typed_fields import check_fields
from pyro_sws.weights.group import Group
from pyro_sws.weights.tilted_prior import TiltedPrior

Axis = Literal["tensor", "row", "column"]


@dataclass(frozen=True)
class Structured:
    """log z_i / (1 - z_i) = log z / (1 - z) + tensor effect + row effect + column effect.

    z_i is the zero proportion of weight i, z that of ``shape``, whose slabs all weights share.
    A row is an output unit or channel (a tensor's first dimension), a column an input unit or
    channel (its second); tensors of one dimension have only the tensor's effect. The effects are
    Normal(0, deviation): a unit that few weights use makes its others expect zero too, as they do
    for a coder that looks at rows and columns. Ullrich et al. 2017, sec. 7, name structured
    pruning as future work; the form is that of logistic regression with random effects.

    With ``width_deviation`` the logarithm of the spike's precision has effects of its own.

    Sites, besides those of ``shape``: ``tensor_effects`` (tensors,), ``row_effects`` (rows,) and
    ``column_effects`` (columns,) over the group's tensors, end to end; likewise
    ``tensor_width_effects`` and so on.
    """

    __pydantic_config__ = {"extra": "forbid"}
    shape: SpikeAndSlabs = field(default_factory=SpikeAndSlabs)
    by: tuple[Axis, ...] = ("tensor", "row", "column")
    # In nats of log-odds: with 2, one unit in twenty differs from the rest by more than e^4 = 55.
    deviation: float = 2.0
    width_deviation: float | None = None  # None: the spike is as wide everywhere

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.shape.mean_zero < 1:
            raise ValueError("shape.zero_proportion must be above 0: it is what varies")
        if not self.by or len(set(self.by)) < len(self.by):
            raise ValueError(f"by must name different axes, at least one, got {list(self.by)}")
        check_positive(self, "deviation", "width_deviation")

    def __call__(self, group: Group) -> TiltedPrior:
        """Sample the hyperparameters of this group; return the density that they define."""
        mixture = self.shape(group).mixture
        offsets = self._sampled(group, "effects", self.deviation)
        widths = self.width_deviation
        ratios = None if widths is None else self._sampled(group, "width_effects", widths)
        return TiltedPrior(mixture, offsets, ratios)

    def start(self, group: Group, weights: Tensor) -> dict[str, Tensor]:
        """The shape's, and no effects."""
        kinds = ["effects"] if self.width_deviation is None else ["effects", "width_effects"]
        zeros = {
            f"{axis}_{kind}": torch.zeros(size)
            for kind in kinds
            for axis, size in self._sizes(group).items()
        }
        return self.shape.start(group, weights) | named(group, zeros)

    def _sizes(self, group: Group) -> dict[Axis, int]:
        """How many effects each axis has in this group; none where no tensor has the axis."""
        sizes = {axis: sum(COUNTS[axis](s) for s in group.shapes.values()) for axis in self.by}
        return {axis: size for axis, size in sizes.items() if size}

    def _sampled(self, group: Group, kind: str, deviation: float) -> Tensor:
        """The sum of the axes' effects, weight by weight; (N,)."""
        effects = {
            axis: sample(group, f"{axis}_{kind}", Normal(deviation).over(group, (size,)))
            for axis, size in self._sizes(group).items()
        }
        used = dict.fromkeys(effects, 0)
        parts = []
        for shape in group.shapes.values():
            total = torch.zeros((), dtype=group.dtype, device=group.device)
            for axis, values in effects.items():
                count = COUNTS[axis](shape)
                if count:
                    own = values[used[axis] : used[axis] + count]
                    total = total + own.view(ALONG[axis](count, len(shape)))
                    used[axis] += count
            parts.append(total.expand(shape).reshape(-1))
        return torch.cat(parts)


# Tensors of one dimension have no rows: each would be a single weight.
COUNTS: dict[Axis, Callable[[tuple[int, ...]], int]] = {
    "tensor": lambda shape: 1,
    "row": lambda shape: shape[0] if len(shape) > 1 else 0,
    "column": lambda shape: shape[1] if len(shape) > 1 else 0,
}
# The shape in which so many effects broadcast along a tensor of so many dimensions.
ALONG: dict[Axis, Callable[[int, int], tuple[int, ...]]] = {
    "tensor": lambda count, dims: (1,) * dims,
    "row": lambda count, dims: (count,) + (1,) * (dims - 1),
    "column": lambda count, dims: (1, count) + (1,) * (dims - 2),
}
