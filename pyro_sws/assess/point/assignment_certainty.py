"""How sure each weight is of the value that it snaps to, by its responsibilities. Torch.

They are those of codebook values, not of components: several components of one value count as one.
All of it holds for a point estimate: it is about which value a weight is of, given the weights and
the mixture, and not about how far either is known.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, runtime_checkable

import torch
from torch import Tensor

from pyro_sws.weights.density.blocks import block_size, slices
from pyro_sws.weights.posterior import Posterior, weights_site
from pyro_sws.weights.quantize import CODEBOOK_DTYPES, check_codebook_dtype, rounded
from pyro_sws.weights.weight_prior import WeightPrior

SURE = 0.9  # a weight whose most probable value has less lies between two
TIED = 0.1  # a margin below it: two values are nearly as probable as each other
WIDENED = (
    "components are {:g} times as wide as fitted, as refinement has them: a responsibility is then "
    "no probability under the fitted mixture, and weights look less sure than they were"
)


class CertaintyRow(TypedDict):
    """A tensor's weights, or a group's, counted."""

    name: str
    weights: int
    between: int
    tied: int
    mean_entropy_nats: float
    least_margin: float


class Tie(TypedDict):
    """Two codebook values that are nearly tied for so many weights."""

    values: list[float]
    weights: int


class CertaintySummary(TypedDict):
    """``certainty`` of diagnostics.json."""

    sure: float
    tied: float
    groups: list[CertaintyRow]
    tensors: list[CertaintyRow]
    ties: dict[str, list[Tie]]
    left_out: list[str]
    widening: float
    note: str | None


@runtime_checkable
class SoftPrior(WeightPrior, Protocol):
    """A density that says how probable each codebook value is, given a weight."""

    def responsibilities(self, flat: Tensor, indices: slice | Tensor | None = None) -> Tensor:
        """p(codebook value k | weight); (n,) -> (n, K)."""
        ...


@dataclass(frozen=True, eq=False)
class AssignmentCertainty:
    """A tensor's assignments, weight by weight; the first five in the tensor's shape."""

    assignment: Tensor  # index in ``values`` of the most probable one, int64
    runner_up: Tensor  # the next; of a single value that one itself
    responsibility: Tensor  # of the value that is assigned
    margin: Tensor  # that, less the runner-up's; 1 where there is a single value
    entropy_nats: Tensor  # of the responsibilities
    values: Tensor  # the codebook's before scaling, as stored (K,)
    expected: Tensor  # how many weights each value has: responsibilities, added up (K,)
    proportions: Tensor  # how probable the prior makes each value (K,)

    @property
    def between(self) -> Tensor:
        """Which weights lie between values: none of them has a responsibility of ``SURE``."""
        return self.responsibility < SURE

    @property
    def tied(self) -> Tensor:
        """Which weights have two values nearly tied: a margin below ``TIED``."""
        return self.margin < TIED

    @property
    def assigned(self) -> Tensor:
        """How many weights snap to each value (K,)."""
        return torch.bincount(self.assignment.reshape(-1), minlength=len(self.values))


@dataclass(frozen=True, eq=False)
class Assignments:
    """The certainty of each tensor that a mixture snaps, and which groups are left out.

    Under ``widening`` other than 1 responsibilities mean something else; ``note`` says what.
    """

    tensors: Mapping[str, AssignmentCertainty]
    groups: Mapping[str, tuple[str, ...]]  # group -> its tensors
    left_out: tuple[str, ...]  # groups whose prior has no responsibilities: a grid that rounds
    widening: float = 1.0

    @property
    def note(self) -> str | None:
        return None if self.widening == 1 else WIDENED.format(self.widening)

    def of_group(self, name: str) -> list[AssignmentCertainty]:
        return [self.tensors[tensor] for tensor in self.groups[name]]

    def to_dict(self) -> CertaintySummary:
        """As JSON: a row for each group and each tensor, and the pairs of values nearly tied."""
        return {
            "sure": SURE,
            "tied": TIED,
            "groups": [_row(name, self.of_group(name)) for name in self.groups],
            "tensors": [_row(name, [tensor]) for name, tensor in self.tensors.items()],
            "ties": {name: ties(self.of_group(name)) for name in self.groups},
            "left_out": list(self.left_out),
            "widening": self.widening,
            "note": self.note,
        }


@torch.no_grad()
def assignment_certainty(
    posterior: Posterior, codebook_dtype: str = "float16", *, widening: float = 1.0
) -> Assignments:
    """Each weight's responsibilities, at the posterior's point, between the values to be stored.

    ``posterior`` is the one that is quantised: merged, and refined where it was. ``widening``, that
    of ``Refined``, changes nothing but what the result says of itself. Where two values are tied
    to rounding, ``quantize`` may take the other one; where a ``signal_to_noise`` makes weights 0,
    that is another rule than this one. Raises ValueError for an unknown dtype, and means that it
    cannot hold.
    """
    check_codebook_dtype(codebook_dtype)
    tensors: dict[str, AssignmentCertainty] = {}
    groups: dict[str, tuple[str, ...]] = {}
    left_out = []
    for name, group in posterior.groups.items():
        prior = rounded(posterior.priors[name], CODEBOOK_DTYPES[codebook_dtype])
        if not isinstance(prior, SoftPrior):
            left_out.append(name)
            continue
        flat = posterior.point[weights_site(name)].reshape(-1)
        groups[name] = tuple(group.shapes)
        for tensor, part in group.slices.items():
            tensors[tensor] = _certainty(prior, flat, part, group.shapes[tensor])
    return Assignments(tensors, groups, tuple(left_out), widening)


def ties(tensors: Sequence[AssignmentCertainty]) -> list[Tie]:
    """Pairs of values that are nearly tied, and for how many weights; the most frequent first."""
    counts: Counter[tuple[float, float]] = Counter()
    for each in tensors:
        pairs = torch.stack([each.assignment[each.tied], each.runner_up[each.tied]], dim=1)
        low, high = each.values[pairs.sort(dim=1).values].T
        counts.update(zip(low.tolist(), high.tolist(), strict=True))
    return [{"values": list(pair), "weights": n} for pair, n in counts.most_common()]


def responsibilities_by_block(
    prior: SoftPrior, flat: Tensor, part: slice
) -> Iterator[tuple[slice, Tensor]]:
    """Of the weights in ``part``: where in the group a block of them lies, and theirs (n, K)."""
    for block in slices(part.stop, block_size(len(prior.mixture)), part.start):
        yield block, prior.responsibilities(flat[block], block)


def _certainty(
    prior: SoftPrior, flat: Tensor, part: slice, shape: tuple[int, ...]
) -> AssignmentCertainty:
    count = part.stop - part.start
    assignment, runner_up = (flat.new_empty(count, dtype=torch.int64) for _ in range(2))
    top, margin, entropy = (flat.new_empty(count) for _ in range(3))
    values = prior.codebook(part)
    expected = torch.zeros(len(values), dtype=torch.float64, device=flat.device)
    for block, shares in responsibilities_by_block(prior, flat, part):
        at = slice(block.start - part.start, block.stop - part.start)
        best = shares.topk(min(2, len(values)), dim=-1)
        assignment[at], runner_up[at] = best.indices[:, 0], best.indices[:, -1]
        top[at] = best.values[:, 0]
        margin[at] = best.values[:, 0] - best.values[:, 1] if len(values) > 1 else 1.0
        entropy[at] = torch.special.entr(shares).sum(-1)
        expected += shares.double().sum(0)
    return AssignmentCertainty(
        assignment.view(shape),
        runner_up.view(shape),
        top.view(shape),
        margin.view(shape),
        entropy.view(shape),
        values,
        expected,
        prior.proportions(part),
    )


def _row(name: str, tensors: Sequence[AssignmentCertainty]) -> CertaintyRow:
    weights = sum(each.assignment.numel() for each in tensors)
    entropy = math.fsum(float(each.entropy_nats.double().sum()) for each in tensors)
    return {
        "name": name,
        "weights": weights,
        "between": sum(int(each.between.sum()) for each in tensors),
        "tied": sum(int(each.tied.sum()) for each in tensors),
        "mean_entropy_nats": entropy / weights,
        "least_margin": min(float(each.margin.min()) for each in tensors),
    }
