"""A likelihood of the weights themselves, a network's curvature: no inputs, outputs or targets."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor

from pyro_sws.weights.curvature import Block, Curvature
from pyro_sws.weights.group import Group
from pyro_sws.weights.network import listed

LOGGER = logging.getLogger("pyro_sws")


@dataclass(frozen=True, eq=False)
class OfWeights:
    """A ``Curvature`` as a joint's likelihood: ``cost`` takes the place of outputs and targets.

    It has every member of a ``Likelihood``; those that would read outputs raise ValueError.
    """

    curvature: Curvature
    score_name = "curvature"
    score_unit = "nats"

    def cost(self, weights: Mapping[str, Tensor]) -> Tensor:
        """-log p of weights by tensor name, but for a constant, in nats an example; a scalar."""
        return self.curvature.cost(weights)

    def diagonal(self, name: str, like: Tensor) -> Tensor:
        """Second derivatives of ``cost`` in each weight of a tensor, of its shape."""
        block = self.curvature.blocks.get(name)
        if block is None:
            return torch.zeros_like(like)
        products = block.rows[:, :, None] * block.diagonal[:, None, :]
        return block.layout.tensor(products, tuple(like.shape))

    def start(self) -> dict[str, float]:
        return {}

    def __call__(self, outputs: Any) -> NoReturn:
        self._refuse()

    def check(self, outputs: Any, targets: Any) -> NoReturn:
        self._refuse()

    def losses(self, outputs: Any, targets: Any) -> NoReturn:
        self._refuse()

    def score(self, mean_loss: float) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            "a curvature is a likelihood of weights: it has no outputs, and scores and draws no "
            "targets; for that make a joint of the same network and prior with a likelihood of "
            "targets, such as joint(net, prior, 'categorical', data_size)"
        )

    def placed(self, groups: Mapping[str, Group], names: set[str]) -> "OfWeights":
        """The same where the groups are and in their dtype; of tensors in no group, nothing.

        ``names`` are those of all the network's tensors. Logs a warning that names the tensors
        without a block. Raises ValueError for blocks of other tensors or shapes, for numbers that
        are not finite or rows below 0, and where no block is of a tensor in a group.
        """
        blocks = self.curvature.blocks
        if unknown := [name for name in blocks if name not in names]:
            raise ValueError(
                f"curvature has blocks of {listed(unknown)}, which the network does not have; it "
                f"has {listed(sorted(names))}"
            )
        of = {name: group for group in groups.values() for name in group.shapes}
        own = {n: _placed(n, blocks[n], group) for n, group in of.items() if n in blocks}
        if not own:
            raise ValueError(
                f"curvature has no block of a tensor that a prior covers, which are "
                f"{listed(list(of))}: a fit could only forget their weights"
            )
        if without := [name for name in of if name not in blocks]:
            LOGGER.warning(
                "curvature has no block of %s: only the prior moves them", listed(without)
            )
        return OfWeights(replace(self.curvature, blocks=own))


def _placed(name: str, block: Block, group: Group) -> Block:
    at = _part(name, "weights", block.at, [tuple(group.shapes[name])])
    groups, rows, columns = block.layout.matrix(at).shape
    moments = _part(name, "moments", block.moments, [(groups, columns, columns), (groups, columns)])
    curvatures = _part(name, "rows", block.rows, [(groups, rows)])
    if bad := int((curvatures < 0).sum()):
        raise ValueError(f"curvature of {name!r}: {bad} of its rows are below 0; give none that is")
    place = group.device, group.dtype
    return replace(block, at=at.to(*place), moments=moments.to(*place), rows=curvatures.to(*place))


def _part(name: str, part: str, tensor: Tensor, shapes: Sequence[tuple[int, ...]]) -> Tensor:
    """The tensor itself, checked."""
    if tuple(tensor.shape) not in shapes:
        raise ValueError(
            f"curvature of {name!r}: its {part} are {tuple(tensor.shape)}, and must be "
            f"{' or '.join(map(str, shapes))}"
        )
    if bad := int((~tensor.isfinite()).sum()):
        raise ValueError(f"curvature of {name!r}: {bad} numbers of its {part} are not finite")
    return tensor.detach()
