"""A group: the tensors that share one prior, laid end to end in one flat vector. Torch only."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """Names and shapes of a group's tensors, in order, and where each lies in the flat vector."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Tensor name -> its part of the flat vector."""
        slices, start = {}, 0
        for name, shape in self.shapes.items():
            slices[name] = slice(start, start + prod(shape))
            start += prod(shape)
        return slices

    @property
    def size(self) -> int:
        """Number of weights in the group."""
        return sum(prod(shape) for shape in self.shapes.values())

    def flatten(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The group's tensors as one vector (size,), in the group's dtype and on its device."""
        return self.joined({name: tensors[name].detach() for name in self.shapes})

    def joined(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """As ``flatten``, but a gradient of the vector reaches the tensors."""
        parts = [tensors[name].reshape(-1) for name in self.shapes]
        return torch.cat(parts).to(dtype=self.dtype, device=self.device)

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of ``flat`` by tensor name; singleton dimensions before the last are dropped."""
        flat = flat.reshape(self.size)  # Pyro's Predictive puts a plate dimension in front
        # One split: slice by slice, the backward pass would fill a whole vector for each tensor.
        parts = flat.split([prod(shape) for shape in self.shapes.values()])
        pairs = zip(self.shapes.items(), parts, strict=True)
        return {name: part.view(shape) for (name, shape), part in pairs}

    def constant(self, value: float) -> Tensor:
        """A scalar in the group's dtype, on its device."""
        return torch.tensor(value, dtype=self.dtype, device=self.device)
