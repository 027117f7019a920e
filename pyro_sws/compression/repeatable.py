"""Whether a network is a function: run again on the same inputs, it computes the same outputs.

One that keeps state between passes, or draws from a generator that no seed here reaches, has other
outputs each time: what is fitted, scored, certified and decoded would be of other networks.
"""

import math
from functools import partial

import torch
from torch import Tensor

from pyro_sws.inference.batches import Part
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint, outputs_of
from pyro_sws.rewriting.restored import restored
from pyro_sws.rewriting.rewrite import SAME, apart

EXAMPLES = 8  # of the batch
PASSES = 8  # a coin that is tossed in each lands the same way in 1 of 128 networks


def check_repeatable(model: Joint, inputs: Part) -> None:
    """Raise ValueError unless the network, run as it is, computes what it did before.

    On a few of the inputs (B, ...), which are where the model is and in its dtype; torch's
    generators start from the same seed each time, so that those who draw by them draw the same. So
    does it once as a fit runs it, with its weights exchanged for equal ones. The network and the
    generators are as they were.
    """
    net, few = model.net, inputs[:EXAMPLES]
    weights = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    with pyro_step(), restored(net), torch.no_grad():
        try:
            exchanged = _seeded(lambda: model.outputs(weights, few), few)
        except ValueError:  # it takes no fewer than a whole batch
            few = inputs
            exchanged = _seeded(lambda: model.outputs(weights, few), few)
        own = partial(outputs_of, net, {}, few, model.likelihood)
        passes = [_seeded(own, few) for _ in range(PASSES)]
    kind = type(net).__name__
    for again in passes:
        if apart := _apart(passes[0], again):
            raise ValueError(
                f"{kind} computes other outputs when it is run again on the same inputs ({apart}): "
                "it keeps state between passes, or draws from another generator than torch's; make "
                "forward a function of inputs and weights"
            )
    if apart := _apart(exchanged, passes[0]):
        raise ValueError(
            f"{kind} computes other outputs with its weights exchanged for equal ones ({apart}); "
            "its forward must read them from its own modules (self.weight)"
        )


def _seeded(run, inputs: Part) -> Tensor:
    with forked_rng(0, inputs.device):
        return run().double().clone()


def _apart(one: Tensor, other: Tensor) -> str:
    """By how much two outputs differ, where it is more than rounding; "" where it is not."""
    if one.shape != other.shape:
        return f"of shape {tuple(other.shape)}, where they were {tuple(one.shape)}"
    if not one.numel():
        return ""
    difference, largest = apart(*(x.nan_to_num(0.0, math.inf, -math.inf) for x in (one, other)))
    if difference <= SAME * largest:
        return ""
    return f"they differ by {difference:g}, where the largest is {largest:g}"
