"""Outputs that are not finite are no predictions: which examples have them, and whose fault it is.

A class would be read out of them all the same (argmax of NaN is 0, NaN > 0 is False), and a score,
a certificate or a description be made of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pyro_sws.inference.batches import Part
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.weights.structures import tensors_in


class NotFiniteError(ValueError):
    """A network's outputs, or the log-densities of targets under them, are not finite."""


@dataclass(frozen=True)
class NotFinite:
    """How many examples of some data are not finite, each counted where it is so first."""

    inputs: int = 0  # neither these nor the outputs are
    targets: int = 0
    outputs: int = 0
    densities: int = 0  # outputs are finite, but not the targets' log-density under them
    examples: int = 0  # all there are
    batch: int | None = None  # of several, the first with some of what the error is of; from 1

    def __bool__(self) -> bool:
        return self.inputs + self.targets + self.outputs + self.densities > 0

    @property
    def of_data(self) -> bool:
        """Whether some of it is the data's own doing."""
        return self.inputs + self.targets > 0

    @staticmethod
    def total(counts: "Iterable[NotFinite]") -> "NotFinite":
        rows = [(c.inputs, c.targets, c.outputs, c.densities, c.examples) for c in counts]
        kinds = list(zip(*rows, strict=True))
        told = next((kind for kind in kinds[:-1] if any(kind)), ())
        first = next((number for number, count in enumerate(told, 1) if count), None)
        sums = NotFinite(*map(sum, kinds))
        return replace(sums, batch=first) if len(rows) > 1 else sums

    def error(
        self, what: str, stage: str | None = None, hint: str = "", met: str = ""
    ) -> NotFiniteError:
        """What to raise; ``what`` is the data, ``stage`` which network it was, ``met`` when."""
        of = f"of {self.examples} examples"
        of += "" if self.batch is None else f" (first in batch {self.batch})"
        met = f"; met in {met}" if met else ""
        if self.inputs:
            said = f"the inputs are not finite in {self.inputs} {of}, nor what a network makes of "
            return NotFiniteError(f"{what}: {said}them; mend or leave out those examples{met}")
        if self.targets:
            said = f"the targets are not finite in {self.targets} {of}"
            return NotFiniteError(f"{what}: {said}; mend or leave out those examples{met}")
        network = "the network" if stage is None else f"the network {stage}"
        if self.outputs:
            said = f"the outputs of {network} are not finite in {self.outputs} {of}"
        else:
            said = f"the log-density of targets under {network} is not finite in {self.densities}"
            said = f"{said} {of}: its outputs overflow there, or rule the targets out"
        return NotFiniteError(f"{what}: {said}: no score is made of them{hint}{met}")


def count_outputs(
    inputs: Part, targets: Part, outputs: Tensor, likelihood: Likelihood
) -> NotFinite:
    """Of one batch (B, ...) each: the examples whose outputs are not finite, by cause."""
    good = _all(defined(outputs, likelihood), len(inputs))
    good_targets = finite_in_all(targets, len(inputs))
    if bool((good & good_targets).all()):
        return NotFinite(examples=len(inputs))
    bad, good_inputs = ~good, finite_in_all(inputs, len(inputs))
    of_inputs = bad & ~good_inputs
    of_targets = ~good_targets & ~of_inputs
    return NotFinite(
        inputs=int(of_inputs.sum()),
        targets=int(of_targets.sum()),
        outputs=int((bad & ~of_inputs & ~of_targets).sum()),
        examples=len(inputs),
    )


def defined(outputs: Tensor, likelihood: Likelihood) -> Tensor:
    """Which outputs are finite, or mean something to the likelihood all the same; bool."""
    own = getattr(likelihood, "defined", torch.isfinite)
    return own(outputs)


def count_densities(values: Iterable[Tensor], examples: int) -> NotFinite:
    """Of one batch whose outputs are finite: those with a figure that is not, of any of these."""
    bad = torch.stack([~_finite(each.detach(), examples).cpu() for each in values]).any(0)
    return NotFinite(densities=int(bad.sum()), examples=examples)


def finite_in_all(part: Part, examples: int) -> Tensor:
    """Whether each example is finite in all of its tensors; (B,) bool."""
    each = [_finite(tensor, examples) for tensor in tensors_in(part)]
    return torch.stack(each).all(0)


def _finite(tensor: Tensor, examples: int) -> Tensor:
    """Whether each example is finite everywhere; (B, ...) -> (B,) bool."""
    return _all(tensor.isfinite(), examples)


def _all(good: Tensor, examples: int) -> Tensor:
    if good.dim() == 0 or len(good) != examples:  # of a likelihood that has summed them
        return good.all().expand(examples)
    return good.reshape(examples, -1).all(1)
