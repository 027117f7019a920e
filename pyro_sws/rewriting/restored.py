"""What a network's own code leaves behind in it is taken away again, without a copy. Torch only."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pyro_sws.weights.held import held_tensors


@contextmanager
def restored(net: nn.Module) -> Iterator[None]:
    """Afterwards every module's attributes, and what its buffers hold, are as they were.

    Neither modules nor parameters are copied: code that writes into parameters leaves a trace.
    """
    modules = [m for m in net.modules() if not isinstance(m, torch.jit.ScriptModule)]
    kept = [tensor for tensor in held_tensors(net) if not tensor.is_leaf]  # none can be copied
    stays = {id(x): x for x in (*net.modules(), *net.parameters(), *net.buffers(), *kept)}
    attributes = copy.deepcopy([module.__dict__ for module in modules], stays)
    buffers = [(buffer, buffer.detach().clone()) for buffer in net.buffers()]
    try:
        yield
    finally:
        for module, saved in zip(modules, attributes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(saved)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
