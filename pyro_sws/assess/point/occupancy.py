"""Which of a mixture's values hold weights, how many values that amounts to, and what is amiss."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch
from scipy.special import entr
from torch import Tensor

from pyro_sws.assess.point.assignment_certainty import AssignmentCertainty, Assignments
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.quantize import CODEBOOK_DTYPES

SHOWN = 5  # values that a warning names; it counts the others


class CountsByValue(TypedDict):
    """How many weights each of K values has, by three counts."""

    prior: list[float]  # what the prior expects
    expected: list[float]  # responsibilities, added up
    assigned: list[int]


class EffectiveNumbers(TypedDict):
    """``effective_number`` of each of the three counts."""

    prior: float
    expected: float
    assigned: float


class Occupancy(CountsByValue):
    """``occupancy`` of diagnostics.json, of a group."""

    values: list[float]
    effective: EffectiveNumbers
    effective_without_zero: EffectiveNumbers
    by_tensor: dict[str, CountsByValue]


def occupancy(assignments: Assignments) -> dict[str, Occupancy]:
    """By group: its values, how many weights each holds, and how many values that amounts to.

    Three counts of each value: what the prior expects (``prior``), responsibilities added up
    (``expected``), and assignments (``assigned``). ``effective`` is ``effective_number`` of each,
    once of all values and once of those other than 0, as where nearly all weights are 0 the former
    is about 1 whatever the others do. ``by_tensor`` has the counts tensor by tensor. Values are as
    stored and before scaling.
    """
    return {name: _of_group(assignments, name) for name in assignments.groups}


def effective_number(counts: np.ndarray) -> float:
    """exp of the entropy in nats of the shares of counts (K,): K of K equal ones; 0 of none.

    Hill 1973: the number of equally common values that are as diverse.
    """
    counts = np.asarray(counts, float)
    total = counts.sum()
    return float(np.exp(entr(counts / total).sum())) if total > 0 else 0.0


def occupancy_warnings(
    assignments: Assignments,
    posterior: Posterior,
    codebook_dtype: str = "float16",
    annealed: bool = False,
) -> dict[str, list[str]]:
    """By group, a sentence each: values without weights, widths at the floor, overlaps.

    ``posterior`` and ``codebook_dtype`` are those that ``assignments`` were made of. Widths are
    judged as they were fitted, without the widening of a refinement.

    A width is at the floor where the rounding of the mean may shift it by more: half the spacing of
    ``codebook_dtype`` there. Two components overlap where their means are no further apart than
    twice the smaller deviation: their mixture then has one peak, in whatever proportions they are
    (Behboodian 1970). Where widths were ``annealed``, as a walk's are, that is meant, and no fault.
    """
    dtype = CODEBOOK_DTYPES[codebook_dtype]
    by_group = {}
    for name in assignments.groups:
        mixture = _as_fitted(posterior.priors[name].mixture, assignments.widening)
        dead = _dead(assignments.of_group(name))
        overlaps = () if annealed else _overlapping(mixture)
        by_group[name] = [*dead, *_at_floor(mixture, dtype), *overlaps]
    return by_group


@dataclass(frozen=True, eq=False)
class _Counts:
    """The three counts of a tensor's weights, or a group's; (K,) each."""

    prior: np.ndarray
    expected: np.ndarray
    assigned: np.ndarray

    def lists(self) -> CountsByValue:
        return {
            "prior": self.prior.tolist(),
            "expected": self.expected.tolist(),
            "assigned": self.assigned.tolist(),
        }

    def effective(self, among: np.ndarray | slice = slice(None)) -> EffectiveNumbers:
        return {
            "prior": effective_number(self.prior[among]),
            "expected": effective_number(self.expected[among]),
            "assigned": effective_number(self.assigned[among]),
        }


def _of_group(assignments: Assignments, name: str) -> Occupancy:
    tensors = assignments.of_group(name)
    each = [_counts(tensor) for tensor in tensors]
    total = _Counts(
        np.sum([counts.prior for counts in each], axis=0),
        np.sum([counts.expected for counts in each], axis=0),
        np.sum([counts.assigned for counts in each], axis=0),
    )
    values = tensors[0].values.double().cpu().numpy()
    return {
        "values": values.tolist(),
        **total.lists(),
        "effective": total.effective(),
        "effective_without_zero": total.effective(values != 0),
        "by_tensor": {
            tensor: counts.lists()
            for tensor, counts in zip(assignments.groups[name], each, strict=True)
        },
    }


def _counts(tensor: AssignmentCertainty) -> _Counts:
    shares = tensor.proportions.double() / tensor.proportions.double().sum()
    counts = tensor.assignment.numel() * shares, tensor.expected, tensor.assigned
    return _Counts(*(each.cpu().numpy() for each in counts))


def _as_fitted(mixture: Mixture, widening: float) -> Mixture:
    if len(mixture) == 1:  # alone it was not widened
        return mixture
    return Mixture(mixture.means, mixture.precisions * widening**2, mixture.proportions)


def _dead(tensors: Sequence[AssignmentCertainty]) -> Iterator[str]:
    assigned = torch.stack([each.assigned for each in tensors]).sum(0)
    expected = torch.stack([each.expected for each in tensors]).sum(0)
    values, dead = tensors[0].values, assigned == 0
    if dead.any():
        yield (
            f"{int(dead.sum())} of {len(values)} values hold no weight: {_named(values[dead])}; "
            f"{float(expected[dead].sum()):.2g} weights are expected there. They are left out of "
            "the file; fewer slabs would do"
        )


def _at_floor(mixture: Mixture, dtype: torch.dtype) -> Iterator[str]:
    means = mixture.means.detach().cpu()
    stored = means.to(dtype).numpy()
    half = torch.from_numpy(np.abs(np.spacing(stored)).astype(float)) / 2
    exact = torch.from_numpy(stored.astype(float)) == means.double()  # such as 0, or a grid's
    low = ~exact & (mixture.deviations.detach().cpu().double() < half)
    if low.any():
        name = str(dtype).removeprefix("torch.")
        yield (
            f"{int(low.sum())} of {len(means)} components are narrower than {name} can place their "
            f"means: those at {_named(means[low])}; rounding may shift a mean past its weights. "
            "Give their precisions a hyperprior that bounds them"
            + (", or codebook_dtype='float32'" if name != "float32" else "")
        )


def _overlapping(mixture: Mixture) -> Iterator[str]:
    apart = (mixture.means.unsqueeze(1) - mixture.means).abs()
    smaller = torch.minimum(mixture.deviations.unsqueeze(1), mixture.deviations)
    # Components of one mean are one value, and may well be of several widths.
    pairs = (apart > 0) & (apart <= 2 * smaller)
    first, second = pairs.triu(1).nonzero().T
    if len(first):
        ratio = (apart / smaller)[first, second]
        nearest = int(ratio.argmin())
        i, j = first[nearest], second[nearest]
        yield (
            f"{len(first)} pair{'s' * (len(first) > 1)} of components overlap: the nearest, at "
            f"{mixture.means[i]:.4g} and {mixture.means[j]:.4g}, are {ratio[nearest]:.2g} "
            "deviations apart, and only 2 or more leave a valley between them. Merge them "
            "(merge_by = 'description'), or have fewer slabs"
        )


def _named(values: Tensor) -> str:
    shown = ", ".join(f"{value:.4g}" for value in values[:SHOWN].tolist())
    return shown + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")
