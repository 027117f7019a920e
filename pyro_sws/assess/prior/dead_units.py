"""Dead units: rectified ones that are 0 on every input, seen by hooks while a network runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

RECTIFIERS = (nn.ReLU, nn.ReLU6)  # 0 for all that is negative; a leaky one lets something through
CHANNELS_FIRST = (nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)


@dataclass
class Units:
    """Which rectified units were ever above 0, over all batches that have gone by."""

    alive: list[Tensor] = field(default_factory=list)  # by call in a pass; a module may have many
    call: int = 0
    dim: int = 1  # where the last layer has its units

    def new_pass(self, module: nn.Module, args: object) -> None:
        self.call, self.dim = 0, 1

    def layer(self, module: nn.Module, args: object) -> None:
        self.dim = 1 if isinstance(module, CHANNELS_FIRST) else -1

    def rectified(self, module: nn.Module, args: object, output: Tensor) -> None:
        units = output.movedim(self.dim, -1).flatten(0, -2)
        alive = (units != 0).any(0)
        if self.call == len(self.alive):
            self.alive.append(alive)
        else:
            self.alive[self.call] |= alive
        self.call += 1

    @property
    def dead_share(self) -> float | None:
        """Of all rectified units; None where there are none."""
        if not self.alive:
            return None
        alive = torch.cat(self.alive)
        return int((~alive).sum()) / len(alive)


@contextmanager
def watch_units(net: nn.Module) -> Iterator[Units]:
    """The units of the ``nn.ReLU`` and ``nn.ReLU6`` modules that run inside the context.

    A channel of a convolution is one unit. Functional calls such as ``torch.relu`` pass unseen.
    """
    units = Units()
    hooks = [net.register_forward_pre_hook(units.new_pass)]
    for module in net.modules():
        if isinstance(module, RECTIFIERS):
            hooks.append(module.register_forward_hook(units.rectified))
        elif isinstance(module, CHANNELS_FIRST + CHANNELS_LAST):
            hooks.append(module.register_forward_pre_hook(units.layer))
    try:
        yield units
    finally:
        for hook in hooks:
            hook.remove()
