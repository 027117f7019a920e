"""The first batch, before a fit: whether what the network returns is what the likelihood takes."""

import logging
from typing import Any

import torch
from torch import Tensor

from pyro_sws.inference.batches import Batch, Part, moved
from pyro_sws.inference.evaluation import STAGES, device_dtype, not_finite
from pyro_sws.inference.finite import count_outputs
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.network import listed
from pyro_sws.weights.structures import form, tensors_in, value_of

LOGGER = logging.getLogger("pyro_sws")
EXAMPLES = 512  # of the batch that are run: their graph is kept


def check_first_batch(model: Joint, batch: Batch, what: str, fitted: bool = False) -> None:
    """Raise ValueError for outputs that are not finite, or mean something else (see Likelihood).

    Of a batch that is to be ``fitted``, also where no gradient of the outputs reaches a weight; one
    that does not reach some is logged as a warning. ``batch`` is on the model's device. Takes
    nothing from the caller's generator.
    """
    examples = fewest(model, batch[0], EXAMPLES)
    inputs, targets = (part[:examples] for part in batch)
    weights = {name: w.clone().requires_grad_() for name, w in starting_weights(model).items()}
    with forked_rng(0, device_dtype(model)[0]), torch.enable_grad():
        with pyro_step():
            outputs = model.outputs(weights, inputs)
        if found := count_outputs(inputs, targets, outputs, model.likelihood):
            raise found.error(f"{what}, first batch", STAGES["before"])
        targets = value_of(targets)
        model.likelihood.check(outputs.detach(), targets)
        if hasattr(model.likelihood, "check_reading"):
            model.likelihood.check_reading(outputs, targets)
        if fitted:
            _check_gradients(model, weights, outputs)


def fewest(model: Joint, inputs: Part, examples: int) -> int:
    """So many of the inputs, or all of them where the network takes no fewer, as of a fixed batch.

    ``inputs`` (B, ...) are where the model is and in its dtype.
    """
    if len(inputs) <= examples:
        return len(inputs)
    try:
        with forked_rng(0, inputs.device), pyro_step(), torch.no_grad():
            model.outputs({}, inputs[:examples])
    except ValueError:
        return len(inputs)
    return examples


def _check_gradients(model: Joint, weights: dict[str, Tensor], outputs: Tensor) -> None:
    """A fit could only forget weights without one: of an unused layer, or of which copies are used.

    ``compress`` tells which, and refuses copies; this is one gradient.
    """
    without = list(weights)
    if outputs.requires_grad:
        found = torch.autograd.grad(outputs.sum(), list(weights.values()), allow_unused=True)
        gradients = dict(zip(weights, found, strict=True))
        without = [name for name, g in gradients.items() if g is None]
        if sparse := [n for n, g in gradients.items() if g is not None and g.is_sparse]:
            raise ValueError(
                f"the gradient of {listed(sparse)} is sparse, which no fit takes; forward must not "
                "say sparse=True where it looks rows up: the outputs are the same"
            )
    if len(without) == len(weights):
        raise ValueError(
            f"no gradient of the outputs of {type(model.net).__name__} reaches a weight, as under "
            "no_grad or where forward computes with copies; let it read its own parameters"
        )
    if without:
        LOGGER.warning(
            "no gradient of the first batch's outputs reaches %s: only the prior moves them where "
            "no other batch uses them; or forward computes with copies, and a file would be wrong",
            listed(without),
        )


class TargetCheck:
    """Raises ValueError for a batch that has no score, before the fit.

    That is for targets that outputs cannot have, and for inputs that are not finite, of which the
    network makes what is not, either. The outputs are those of the split's first batch, of which
    one row stands for all: that tells how many classes there are. Targets of another form than the
    first ones are let pass.
    """

    def __init__(self, model: Joint):
        self.model = model
        self.rows: dict[str, tuple[Tensor, Any]] = {}  # by split: (1, ...), targets' form

    @torch.no_grad()
    def __call__(self, what: str, batch: Batch) -> None:
        device, dtype = device_dtype(self.model)
        ((inputs, targets),) = moved([batch], what, device, dtype)
        try:
            if what not in self.rows:
                with forked_rng(0, device), pyro_step():
                    outputs = self.model.outputs({}, inputs)
                self.rows[what] = outputs[:1], form(targets)
            row, first = self.rows[what]
            if form(targets) == first:
                outputs = row.expand(len(targets), *row.shape[1:])
                self.model.likelihood.check(outputs, value_of(targets))
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error.__cause__
        floats = (tensor for tensor in tensors_in(inputs) if tensor.is_floating_point())
        if not all(tensor.isfinite().all() for tensor in floats):
            with forked_rng(0, device):
                found = not_finite(self.model, {}, [batch], self.model.start())
            if found:
                raise found.error(f"{what}, one batch", STAGES["before"])


def starting_weights(model: Joint) -> dict[str, Tensor]:
    """The covered weights from which a fit sets out, by tensor name, where the model computes."""
    own = {**dict(model.net.named_parameters()), **model.initial_weights}
    return {
        name: own[name].detach().to(group.device, group.dtype)
        for group in model.groups.values()
        for name in group.shapes
    }
