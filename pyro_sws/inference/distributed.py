"""One process or several: which examples and weights a rank works on, and how they meet."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from pyro_sws.inference.typed_fields import check_fields


@dataclass(frozen=True)
class Ranks:
    """This process among ``count`` that fit one model together; alone by default.

    Every rank walks through the same batches and holds all parameters. It takes its part of each
    batch and of each group's weights, scaled so that the *mean* over the ranks of their -ELBOs, and
    of their gradients, is that of one process: each example and each weight counts once.
    """

    rank: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 <= self.rank < self.count:
            raise ValueError(f"rank must be in 0..{self.count - 1}, got {self.rank}")

    @staticmethod
    def here() -> "Ranks":
        """Those of torch.distributed's default process group. Raises ValueError without one."""
        if not (dist.is_available() and dist.is_initialized()):
            raise ValueError("no process group; call torch.distributed.init_process_group first")
        return Ranks(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def examples(self, batch: Sequence[Any]) -> tuple[list[Any], float]:
        """This rank's part of a batch, and what its error cost is to be multiplied by.

        Every ``count``-th example; where a batch has too few, one of them, multiplied by 0.
        """
        if self.count == 1:
            return list(batch), 1.0
        part = [each[self.rank :: self.count] for each in batch]
        if len(part[0]) == 0:
            return [each[:1] for each in batch], 0.0
        return part, self.count * len(part[0]) / len(batch[0])

    def weights(self, size: int) -> slice:
        """This rank's part of a group's flat weights."""
        return slice(self.rank * size // self.count, (self.rank + 1) * size // self.count)

    def parallel(self, module: nn.Module, *, some_unused: bool = False) -> nn.Module:
        """The module; with several ranks, one whose gradients are the mean over them.

        ``some_unused``: in some steps not every parameter gets a gradient.
        """
        if self.count == 1:
            return module
        if self.count != dist.get_world_size():
            raise ValueError(
                f"ranks say {self.count} processes, and the process group has "
                f"{dist.get_world_size()}; use Ranks.here()"
            )
        return DistributedDataParallel(module, find_unused_parameters=some_unused)

    def mean(self, values: Tensor) -> list[float]:
        """Means over the ranks of a vector's entries, the same on every rank."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.count
        return values.tolist()

    def agree(self, net: nn.Module) -> None:
        """Give ``net`` the first rank's tensors: the same sums may round otherwise elsewhere."""
        if self.count > 1:
            for tensor in net.state_dict().values():
                dist.broadcast(tensor, 0)


@contextmanager
def join_ranks(device: str | None = None) -> Iterator[Ranks]:
    """The ranks that torchrun started, joined in a process group inside; alone without torchrun."""
    if int(os.environ.get("WORLD_SIZE") or 1) == 1:
        yield Ranks()
        return
    cuda = (device or "cpu").startswith("cuda")
    if cuda and device != "cuda":
        raise ValueError(f"device: {device!r} would be every rank's; use 'cuda', its own for each")
    if cuda and not torch.cuda.is_available():
        raise ValueError("device: cannot compute on 'cuda'; use 'cpu', or leave it out")
    if cuda:  # "cuda" then means this rank's own
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks.here()
        dist.barrier()  # no rank leaves while another may still speak to it
    finally:
        gc.collect()  # modules that hold on to the group go before it, or its threads outlive it
        dist.destroy_process_group()
