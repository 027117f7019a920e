"""Steps whose loss, gradient or outcome is not finite: where, in which tensors, of whose doing."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pyro_sws.inference.finite import NotFiniteError, finite_in_all
from pyro_sws.weights.group import Group
from pyro_sws.weights.posterior import weights_site

MEND = "mend or leave out those examples"
NO_DERIVATIVE = (
    "the network, likelihood or prior has no finite derivative there, as sqrt at 0 has none; let "
    "it keep away from such a point"
)


class NotFiniteStepError(FloatingPointError):
    """The loss of a step, or what steps led to, is not finite; ``where`` names step and batch."""

    def __init__(self, message: str, where: str):
        super().__init__(message)
        self.where = where


class NotFiniteGradientError(NotFiniteStepError):
    """Of finite data and a finite loss a gradient that is not: the network's doing, no rate's."""


def check_loss(
    loss: float, where: str, batch: tuple, remedy: str, bad: str = "", what: str = "loss"
) -> None:
    """Raise NotFiniteStepError for a loss that is not finite; ``bad`` names values that are not."""
    if math.isfinite(loss):
        return
    of_data = in_batch(batch)
    named = f"; not finite: {bad}" if bad else ""
    raise NotFiniteStepError(
        f"the {what} became {loss} in {where}{of_data}{named}; {MEND if of_data else remedy}", where
    )


def check_gradients(
    parameters: Mapping[str, Tensor],
    loss: float,
    where: str,
    batch: tuple,
    groups: Mapping[str, Group] | None = None,
) -> None:
    """Raise an error where a parameter's gradient is not finite; one look for all of them.

    NotFiniteError, a ValueError, where the batch's data are not; else NotFiniteGradientError.
    The largest entry is looked at, and no sum of squares: that could itself overflow.
    """
    gradients = {
        name: p.grad for name, p in parameters.items() if p.grad is not None and p.grad.numel()
    }
    if not gradients or _all_finite(gradients):
        return
    of_data = in_batch(batch)
    message = (
        f"the gradient of {not_finite_names(gradients, groups)} is not finite in {where}, where "
        f"the loss is {loss:g}{of_data}; "
    )
    if of_data:
        raise NotFiniteError(message + MEND)
    raise NotFiniteGradientError(message + NO_DERIVATIVE, where)


def check_values(
    values: Mapping[str, Tensor],
    where: str,
    remedy: str,
    groups: Mapping[str, Group] | None = None,
) -> None:
    """Raise NotFiniteStepError where steps led to values that are not finite; by name."""
    if bad := not_finite_names(values, groups):
        raise NotFiniteStepError(f"{bad} became infinite or NaN in {where}; {remedy}", where)


def not_finite_names(
    values: Mapping[str, Tensor], groups: Mapping[str, Group] | None = None
) -> str:
    """The names of values with entries that are not finite; of a group's weights the tensors'."""
    bad = {name: ~value.isfinite() for name, value in values.items()}
    return ", ".join(
        f"{name}{_tensors(name, entries, groups or {})}"
        for name, entries in bad.items()
        if entries.any()
    )


def in_batch(batch: tuple) -> str:
    """What of a batch's inputs or targets is not finite, to add to a message; "" where nothing."""
    said = [_in_part(name, part) for name, part in zip(("inputs", "targets"), batch, strict=False)]
    return "".join(said)


def _in_part(name: str, part: Any) -> str:
    if part is None:
        return ""
    count = int((~finite_in_all(part, len(part))).sum())
    of = f"{count} of {len(part)} examples"
    return f"; of its batch, the {name} are not finite in {of}" if count else ""


def _all_finite(tensors: Mapping[str, Tensor]) -> bool:
    largest = [torch.linalg.vector_norm(t, math.inf).isfinite() for t in tensors.values()]
    return bool(torch.stack(largest).all())


def _tensors(name: str, bad: Tensor, groups: Mapping[str, Group]) -> str:
    """Which of the tensors under a site of flat weights it is."""
    for group in groups.values():
        if weights_site(group.name) in name and len(bad) == group.size:
            named = [tensor for tensor, part in group.slices.items() if bad[part].any()]
            return f" (in {', '.join(map(repr, named))})"
    return ""
