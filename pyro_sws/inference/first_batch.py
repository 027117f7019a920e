"""The first batch, before a fit: whether what the network returns is what the likelihood takes."""

import torch
from torch import Tensor

from pyro_sws.inference.batches import Batch
from pyro_sws.inference.evaluation import STAGES, device_dtype
from pyro_sws.inference.finite import count_outputs
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint

EXAMPLES = 512  # of the batch that are run: their graph is kept


def check_first_batch(model: Joint, batch: Batch, what: str) -> None:
    """Raise ValueError for outputs that are not finite, or mean something else (see Likelihood).

    ``batch`` is on the model's device. Takes nothing from the caller's generator.
    """
    inputs, targets = (part[:EXAMPLES] for part in batch)
    weights = {name: w.clone().requires_grad_() for name, w in starting_weights(model).items()}
    with forked_rng(0, device_dtype(model)[0]), torch.enable_grad():
        with pyro_step():
            outputs = model.outputs(weights, inputs)
        if found := count_outputs(inputs, targets, outputs):
            raise found.error(f"{what}, first batch", STAGES["before"])
        model.likelihood.check(outputs.detach(), targets)
        if hasattr(model.likelihood, "check_reading"):
            model.likelihood.check_reading(outputs, targets)


def starting_weights(model: Joint) -> dict[str, Tensor]:
    """The covered weights from which a fit sets out, by tensor name, where the model computes."""
    own = {**dict(model.net.named_parameters()), **model.initial_weights}
    return {
        name: own[name].detach().to(group.device, group.dtype)
        for group in model.groups.values()
        for name in group.shapes
    }
