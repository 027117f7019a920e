"""How sure each weight is of the value that it snaps to, by its responsibilities. Torch.

They are those of codebook values, not of components: several components of one value count as one.
All of it holds for a point estimate: it is about which value a weight is of, given the weights and
the mixture, and not about how far either is known.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


@dataclass(frozen=True, eq=False)
class Certainty:
    """A tensor's snaps, weight by weight; the first five in the tensor's shape."""

    level: Tensor  # index in ``values`` of the most probable one, int64
    runner_up: Tensor  # the next; of a single value that one itself
    responsibility: Tensor  # of ``level``
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
        return torch.bincount(self.level.reshape(-1), minlength=len(self.values))


@dataclass(frozen=True, eq=False)
class Snaps:
    """The certainty of each tensor that a mixture snaps, and who is left out.

    Under ``widening`` other than 1 responsibilities mean something else; ``note`` says what.
    """

    tensors: Mapping[str, Certainty]
    groups: Mapping[str, tuple[str, ...]]  # group -> its tensors
    left_out: tuple[str, ...]  # groups whose prior has no responsibilities: a grid that rounds
    widening: float = 1.0

    @property
    def note(self) -> str | None:
        return None if self.widening == 1 else WIDENED.format(self.widening)

    def of_group(self, name: str) -> list[Certainty]:
        return [self.tensors[tensor] for tensor in self.groups[name]]

    def to_dict(self) -> dict[str, Any]:
        """As JSON: a row for each group and each tensor, and the pairs of values nearly tied."""
        return {
            "sure": SURE,
            "tied": TIED,
            "groups": [_row(name, self.of_group(name)) for name in self.groups],
            "tensors": [_row(name, [found]) for name, found in self.tensors.items()],
            "ties": {name: ties(self.of_group(name)) for name in self.groups},
            "left_out": list(self.left_out),
            "widening": self.widening,
            "note": self.note,
        }


@torch.no_grad()
def certainty(
    posterior: Posterior, codebook_dtype: str = "float16", *, widening: float = 1.0
) -> Snaps:
    """Each weight's responsibilities, at the posterior's point, between the values to be stored.

    ``posterior`` is the one that is quantised: merged, and refined where it was. ``widening``, that
    of ``Refined``, changes nothing but what the result says of itself. Where two values are tied
    to rounding, ``quantize`` may take the other one; where a ``signal_to_noise`` makes weights 0,
    that is another rule than this one. Raises ValueError for an unknown dtype, and means that it
    cannot hold.
    """
    check_codebook_dtype(codebook_dtype)
    tensors: dict[str, Certainty] = {}
    groups: dict[str, tuple[str, ...]] = {}
    left_out = []
    for name, group in posterior.groups.items():
        prior = rounded(posterior.priors[name], CODEBOOK_DTYPES[codebook_dtype])
        if not hasattr(prior, "responsibilities"):
            left_out.append(name)
            continue
        flat = posterior.point[weights_site(name)].reshape(-1)
        groups[name] = tuple(group.shapes)
        for tensor, part in group.slices.items():
            tensors[tensor] = _certainty(prior, flat, part, group.shapes[tensor])
    return Snaps(tensors, groups, tuple(left_out), widening)


def ties(found: Sequence[Certainty]) -> list[dict[str, Any]]:
    """Pairs of values that are nearly tied, and for how many weights; the most frequent first."""
    counts: Counter[tuple[float, float]] = Counter()
    for each in found:
        pairs = torch.stack([each.level[each.tied], each.runner_up[each.tied]], dim=1)
        low, high = each.values[pairs.sort(dim=1).values].T
        counts.update(zip(low.tolist(), high.tolist(), strict=True))
    return [{"values": list(pair), "weights": n} for pair, n in counts.most_common()]


def level_responsibilities(prior: Any, flat: Tensor, part: slice) -> Iterator[tuple[slice, Tensor]]:
    """Of the weights in ``part``, block by block: its place in the group and (n, K)."""
    for place in slices(part.stop, block_size(len(prior.mixture)), part.start):
        yield place, prior.responsibilities(flat[place], place)


def _certainty(prior: WeightPrior, flat: Tensor, part: slice, shape: Any) -> Certainty:
    count = part.stop - part.start
    level, runner_up = (flat.new_empty(count, dtype=torch.int64) for _ in range(2))
    top, margin, entropy = (flat.new_empty(count) for _ in range(3))
    values = prior.codebook(part)
    expected = torch.zeros(len(values), dtype=torch.float64, device=flat.device)
    for place, shares in level_responsibilities(prior, flat, part):
        at = slice(place.start - part.start, place.stop - part.start)
        best = shares.topk(min(2, len(values)), dim=-1)
        level[at], runner_up[at] = best.indices[:, 0], best.indices[:, -1]
        top[at] = best.values[:, 0]
        margin[at] = best.values[:, 0] - best.values[:, 1] if len(values) > 1 else 1.0
        entropy[at] = torch.special.entr(shares).sum(-1)
        expected += shares.double().sum(0)
    return Certainty(
        level.view(shape),
        runner_up.view(shape),
        top.view(shape),
        margin.view(shape),
        entropy.view(shape),
        values,
        expected,
        prior.proportions(part),
    )


def _row(name: str, found: Sequence[Certainty]) -> dict[str, Any]:
    weights = sum(each.level.numel() for each in found)
    entropy = math.fsum(float(each.entropy_nats.double().sum()) for each in found)
    return {
        "name": name,
        "weights": weights,
        "between": sum(int(each.between.sum()) for each in found),
        "tied": sum(int(each.tied.sum()) for each in found),
        "mean_entropy_nats": entropy / weights,
        "least_margin": min(float(each.margin.min()) for each in found),
    }
