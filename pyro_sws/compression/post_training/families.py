"""What a prior says of the values that its group's weights take after training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pyro_sws.compression.post_training.choose import Problem
from pyro_sws.compression.post_training.codebook import MOST, Codebook
from pyro_sws.compression.post_training.free_values import revalued
from pyro_sws.compression.post_training.tensor import Chosen, choose, descent, rescaled
from pyro_sws.inference.fit import posterior_at
from pyro_sws.inference.joint import Joint
from pyro_sws.inference.priors import Prior, Scaled
from pyro_sws.inference.priors.shared import is_shared
from pyro_sws.weights.curvature import Block
from pyro_sws.weights.group import Group
from pyro_sws.weights.tilted_prior import TiltedPrior
from pyro_sws.weights.weight_prior import MixturePrior, WeightPrior

ROUNDS = 3  # of values given the symbols, and symbols given the values


@dataclass(frozen=True, eq=False)
class Values:
    """A group's values: a codebook that its tensors share, and whose scale each of them has.

    As they are said, ``book`` holds for all of a group's tensors but for ``relative``: by tensor,
    factors in its own shape.
    """

    book: Codebook
    free: bool = False  # whether levels are found from the weights
    own_scale: bool = False  # by tensor; else all of a group have the same
    scaled: bool = True  # whether a file has scales; else they are part of the values
    relative: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def apart(self) -> bool:
        """Whether each tensor's symbols are chosen by themselves."""
        return self.own_scale and not self.free

    def of(self, tensor: str, block: Block) -> Codebook:
        """A tensor's codebook, at any scale."""
        book, relative = self.book, self.relative.get(tensor)
        if book.levels is not None:
            book = replace(book, levels=book.levels.to(block.at.device))
        if relative is not None:
            factors = block.layout.matrix(relative.to(block.at.device))
            book = replace(book, relative=_narrowed(factors))
        return book


def choose_values(
    values: Values,
    problems: Sequence[Problem],
    books: Sequence[Codebook],
    rate: float,
    descents: int,
    before: Sequence[Chosen] | None,
) -> list[Chosen]:
    """Symbols and codebooks of tensors that are chosen together; see ``Values``.

    ``before``: what was chosen of them at another rate.
    """
    parts = [slice(i, i + 1) for i in range(len(problems))] if values.own_scale else [slice(None)]
    chosen: list[Chosen] = []
    for part in parts:
        last = None if before is None else before[part][0].book
        if last is not None and values.free:  # it began a step apart, and sets out so again
            last = last.rescaled(last.scale * last.spacing)
        chosen += choose(problems[part], books[part], rate, descents, last)
    if not values.free:
        return chosen

    def scaled(chosen: Sequence[Chosen]) -> list[Chosen]:
        return [own for part in parts for own in rescaled(problems[part], chosen[part])]

    for _ in range(ROUNDS):
        chosen = scaled(revalued(problems, chosen, rate))
        chosen = scaled(descent(problems, chosen, rate))
    return chosen


def values_of(model: Joint) -> dict[str, Values]:
    """What each group's prior says, by group name.

    Raises ValueError for a prior whose values are no codebook's, and for sites that groups share.
    """
    start = model.start()
    densities = posterior_at(model, start).priors
    for site in start:
        if is_shared(site):
            raise ValueError(
                f"post-training finds each group's values by themselves, and site {site!r} is "
                "several groups'; give one group to all that share, or a prior without such sites"
            )
    return {
        name: _values(name, group, model.priors[name], densities[name])
        for name, group in model.groups.items()
    }


def _values(name: str, group: Group, prior: Prior, density: WeightPrior) -> Values:
    if isinstance(prior, Scaled) and prior.shape.initialization == "multiples":
        # Factors by row need a table of levels; a step that is alone is divided by.
        book = Codebook(1.0) if prior.by == "tensor" else Codebook.even(2 * MOST, zero=True)
        return Values(book, own_scale=True, relative=_factors(group, density))
    if not isinstance(density, MixturePrior | TiltedPrior):
        raise ValueError(
            f"post-training takes weights to the values of a mixture, and the prior of group "
            f"{name!r} is {prior!r}, which gathers them at none; give one that does, such as "
            "Grid() or SpikeAndSlabs(), or leave prior= away"
        )
    levels = density.mixture.levels.detach().float()
    zero = bool((levels == 0).any())
    scales, own = getattr(density, "scales", None), _factors(group, density)
    scaled = scales is not None
    if getattr(density, "fixed_levels", False):
        below = int((levels < 0).sum()) if zero else int(levels.abs().argmin())
        kept = slice(max(0, below - MOST), below + MOST + 1)
        book = Codebook(1.0, levels[kept], min(below, MOST))
        differ = scales is not None and bool((scales != scales[0]).any())
        return Values(book, own_scale=differ, relative=own)
    book = Codebook.even(min(len(levels) - zero, MOST), zero)
    return Values(book, free=True, own_scale=scaled, scaled=scaled, relative=own)


def _factors(group: Group, density: WeightPrior) -> dict[str, Tensor]:
    """Scales over a tensor's mean one, of tensors in which they differ."""
    factors = {}
    for name, part in group.slices.items():
        scale = density.scale(part)
        if scale is not None and scale.min() < scale.max():
            factors[name] = (scale / scale.mean()).detach().float().view(group.shapes[name])
    return factors


def _narrowed(factors: Tensor) -> Tensor:
    """With one column, or row, or group, where all are alike."""
    for dim in range(factors.dim()):
        one = factors.narrow(dim, 0, 1)
        if torch.equal(one.expand_as(factors), factors):
            factors = one
    return factors
