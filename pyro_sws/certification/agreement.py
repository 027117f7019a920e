"""How often a file's network answers otherwise than the one it was made of, on fresh inputs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyro.poutine as poutine
import torch
from torch import Tensor, nn

from pyro_sws.assess.report.certificate import holdout_certificate
from pyro_sws.certification.refusal import NotCertifiable
from pyro_sws.inference.batches import moved
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import outputs_of
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.weights.network import copied, float_parameter
from pyro_sws.weights.structures import as_part

SIZE = 1000  # examples in a batch, of inputs that come as one tensor


@dataclass(frozen=True)
class Agreement:
    """With probability 1 - delta over fresh inputs, answers differ for at most this share of all.

    No labels are needed, and neither network is known to be right: by the triangle inequality the
    errors of the two differ by no more.
    """

    bound_percent: float
    disagreements: int
    examples: int
    delta: float


@torch.no_grad()
def agreement_on(
    own: nn.Module,
    other: nn.Module,
    inputs: Iterable,
    likelihood: Likelihood,
    delta: float,
    seed: int,
) -> Agreement:
    """Count the inputs that two networks answer differently, and bound the share of all.

    Raises NotCertifiable for a likelihood without answers, and for outputs that are not finite.
    """
    if not hasattr(likelihood, "mistakes") and likelihood.score_unit != "percent":
        raise NotCertifiable(
            f"{type(likelihood).__name__} has no answers that two networks could agree in; the "
            "bound is for classifiers"
        )
    own, examples, different = copied(own).eval(), 0, 0
    parameter = float_parameter(own)
    with forked_rng(seed, parameter.device):
        parts = ((part, torch.zeros(len(part))) for part in input_parts(inputs))
        for part, _ in moved(parts, "unlabelled", parameter.device, parameter.dtype):
            with pyro_step():
                outputs = [
                    outputs_of(net, {}, part, likelihood) for net in (own, other.to(part.device))
                ]
            answers = [_answers(likelihood, each, len(part)) for each in outputs]
            different += int((answers[0] != answers[1]).reshape(len(part), -1).any(1).sum())
            examples += len(part)
    if not examples:
        raise ValueError("unlabelled has no inputs; give at least one")
    found = holdout_certificate(different, examples, delta)
    return Agreement(found.bound_percent, different, examples, delta)


def _answers(likelihood: Likelihood, outputs: Tensor, examples: int) -> Tensor:
    if outputs.isnan().any() or (outputs == torch.inf).any():
        raise NotCertifiable("outputs on unlabelled inputs are not finite, and no answers")
    start = {site: torch.as_tensor(value) for site, value in likelihood.start().items()}
    return poutine.condition(likelihood, data=start)(outputs).mode


def input_parts(inputs: Iterable) -> Iterator[Any]:
    """Inputs by batches, without labels where those are with them."""
    if isinstance(inputs, Tensor):
        yield from inputs.split(SIZE)
        return
    for i, batch in enumerate(inputs):
        if isinstance(batch, tuple | list):  # inputs alone, or with labels that are not looked at
            batch = batch[0]
        yield as_part(batch, f"inputs of batch {i}")
