"""Minibatches: tensors shuffled anew each epoch, and the checks that a user's must pass."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Subset, TensorDataset

from pyro_sws.inference.batch_reading import Read, Reading, behind, made
from pyro_sws.inference.loaders import once_each
from pyro_sws.inference.plain_numbers import flag, shown, whole
from pyro_sws.weights.structures import Structure, loose, mapped, shape_of, tensors_in

Part = Tensor | Structure  # of a batch, (B, ...)
Batch = tuple[Part, Part]  # inputs and targets
NO_BATCHES = (str, bytes, Mapping, Tensor, np.ndarray)  # though one can iterate over them
ROUNDING = 0.01  # of an input's range: that much is worth a warning


class Batches:
    """Minibatches of an (inputs, targets) pair; each pass is a new order, from torch's generator.

    Much faster than a DataLoader where the data fits in memory. ``augment`` is given a batch of
    inputs and returns as many, drawn anew each time from torch's generator, such as shifted images:
    what is trained sees those, and what is measured the inputs themselves (see ``plain``).
    ``inputs`` and ``targets`` are (n, ...), of as many examples; a batch has ``size`` of them, the
    last one the rest. Where they are a tuple, a dict or another structure of such tensors, so are
    those of a batch (see ``Structure``). Raises ValueError where n differs or is 0, and for a size
    below 1, TypeError for inputs or targets without tensors.
    """

    def __init__(
        self,
        inputs: Any,
        targets: Any,
        size: int = 128,
        shuffle: bool = True,
        augment: Callable[[Any], Any] | None = None,
    ):
        inputs, targets = _held(inputs, "inputs"), _held(targets, "targets")
        if augment is not None and not callable(augment):
            raise TypeError(f"augment must be a function of inputs, got {shown(augment)}")
        if len(inputs) != len(targets):
            raise ValueError(f"{len(inputs)} inputs but {len(targets)} targets; give as many")
        if len(inputs) == 0:
            raise ValueError("no examples: inputs and targets are empty")
        size = whole("size", size)
        if size < 1:
            raise ValueError(f"size must be at least 1 example a batch, got {size}")
        self.inputs, self.targets, self.size = inputs, targets, size
        self.shuffle = flag("shuffle", shuffle)
        self.augment = augment

    @property
    def plain(self) -> "Batches":
        """The same without augmentation."""
        return Batches(self.inputs, self.targets, self.size, self.shuffle)

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.size)

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for inputs, targets in self._ordered():
            given = loose(inputs)
            yield given if self.augment is None else self.augment(given), loose(targets)

    def _ordered(self) -> Iterator[Batch]:
        if not self.shuffle:
            for begin in range(0, len(self.inputs), self.size):
                part = slice(begin, begin + self.size)
                yield self.inputs[part], self.targets[part]
            return
        # The generator is the CPU's, so that the order is the same on every device.
        order = torch.randperm(len(self.inputs)).to(self.inputs.device)
        for index in order.split(self.size):
            yield self.inputs[index], self.targets[index]


def unaugmented(batches: Iterable) -> Iterable:
    """Each example once and as it is, as far as the batches know them: to measure on."""
    if isinstance(batches, Read):
        return Read(unaugmented(batches.batches), batches.reading)
    if isinstance(batches, DataLoader):
        return once_each(batches)
    return batches.plain if isinstance(batches, Batches) else batches


def check_reiterable(batches: Iterable, what: str) -> None:
    """Raise unless ``batches`` can be walked through again and again."""
    batches = behind(batches)
    pair = _is_a_pair(batches)
    if pair or not isinstance(batches, Iterable) or isinstance(batches, NO_BATCHES):
        kind = "a pair of tensors, which is one batch" if pair else type(batches).__name__
        raise TypeError(
            f"{what} must be a re-iterable of (inputs, targets) batches, such as a list, "
            f"a DataLoader or Batches(inputs, targets); got {kind}"
        )
    if isinstance(batches, Iterator):  # calling iter() on a loader would draw from the generator
        kind = type(batches).__name__
        raise TypeError(
            f"{what} is a one-shot iterator ({kind}) and would be empty from the second epoch on; "
            "give a list, a DataLoader or Batches(inputs, targets)"
        )


def _is_a_pair(batches: Any) -> bool:
    """Whether it is one batch in the place of a list of them; it is not walked through."""
    if not isinstance(batches, tuple | list) or len(batches) != 2:
        return False
    return isinstance(batches[0], Tensor) and isinstance(batches[1], Tensor)


def check_no_nan(targets: Part, what: str) -> None:
    """Raise ValueError for targets that are missing."""
    for each in tensors_in(targets):
        if each.is_floating_point() and each.isnan().any():
            rows = int(each.isnan().reshape(len(each), -1).any(1).sum())
            raise ValueError(
                f"{what} has NaN targets in {rows} of {len(targets)} examples of a batch; leave "
                "those examples out, or fill in what is missing"
            )


def moved(
    batches: Iterable, what: str, device: torch.device, dtype: torch.dtype
) -> Iterator[Batch]:
    """The batches on the device, float tensors in dtype. Raises ValueError for an empty batch."""
    for (batch,) in moved_to_each(batches, what, [(device, dtype)]):
        yield batch


def moved_to_each(
    batches: Iterable, what: str, device_dtypes: Sequence[tuple[torch.device, torch.dtype]]
) -> Iterator[list[Batch]]:
    """Each batch once for each device and dtype, in one pass; copied once where they are equal."""
    for inputs, targets in pairs(batches, what):
        copies = {at: (_to(inputs, *at), _to(targets, *at)) for at in device_dtypes}
        yield [copies[at] for at in device_dtypes]


def pairs(batches: Iterable, what: str) -> Iterator[Batch]:
    """Each batch, read (see ``Reading``) and checked; ``what`` names them in the errors.

    Raises TypeError for what has no inputs or targets, ValueError for an empty batch and for inputs
    and targets of different numbers.
    """
    reading, singly = Reading(), _gives_examples(behind(batches))
    for i, batch in enumerate(batches):
        inputs, targets = reading(batch, f"{what}[{i}]")
        _check_batch(inputs, targets, f"{what}[{i}]", singly)
        if len(inputs) == 0:
            raise ValueError(f"{what}[{i}] is empty: inputs of shape {shape_of(inputs)}")
        if len(inputs) != len(targets):
            raise ValueError(
                f"{what}[{i}] has {len(inputs)} inputs but {len(targets)} targets; give as many"
            )
        yield inputs, targets


def _gives_examples(batches: Iterable) -> bool:
    """Whether it is a DataLoader with batch_size=None that hands out one example at a time."""
    if not isinstance(batches, DataLoader) or batches.batch_sampler is not None:
        return False
    data = batches.dataset
    while isinstance(data, Subset):
        data = data.dataset
    return isinstance(data, TensorDataset) and not isinstance(batches.sampler, BatchSampler)


def _check_batch(inputs: Part, targets: Part, what: str, singly: bool) -> None:
    """Raise ValueError for one example in place of a batch, for sparse and for meta tensors."""
    named = [("inputs", x) for x in tensors_in(inputs)]
    named += [("targets", x) for x in tensors_in(targets)]
    if singly or any(part.dim() == 0 for _, part in named):
        shapes = f"inputs {shape_of(inputs)} and targets {shape_of(targets)}"
        raise ValueError(
            f"{what} is one example, no batch: {shapes}; give batches, as a DataLoader with a "
            "batch_size does"
        )
    for name, part in named:
        if part.is_meta:
            raise ValueError(f"{what}: its {name} are on the meta device and have no values")
        if part.layout != torch.strided:
            layout = str(part.layout).removeprefix("torch.")
            raise ValueError(f"{what}: its {name} are {layout}; give {name}.to_dense()")


def _held(part: Any, name: str) -> Part:
    """The inputs or targets of all data."""
    if isinstance(part, Tensor):
        if not part.dim():
            raise TypeError(f"{name} must be a tensor (n, ...), got {shown(part)}")
        return part
    if not tensors_in(part):
        hint = made(part) if isinstance(part, np.ndarray | list | tuple) else ""
        raise TypeError(f"{name} must be a tensor (n, ...), got {type(part).__name__}{hint}")
    return part if isinstance(part, Structure) else Structure(part, name)


def rounding(inputs: Part, dtype: torch.dtype) -> list[str]:
    """A sentence where inputs (B, ...) of higher precision lose much of their differences in dtype.

    Such as times in seconds since 1970, which float32 rounds to two minutes. A network that centres
    them itself does so after that.
    """
    floats = [x for x in tensors_in(inputs) if x.is_floating_point()]
    worst = max((_rounding(x, dtype) for x in floats if x.dtype != dtype and x.numel()), default=0)
    if worst < ROUNDING:
        return []
    short = str(dtype).removeprefix("torch.")
    return [
        f"inputs are given to the network in {short}, which changes some of them by {worst:.0%} of "
        "their range in the first batch; centre and scale them in the data, before they are rounded"
    ]


def _rounding(tensor: Tensor, dtype: torch.dtype) -> float:
    """The greatest change of a number by its rounding, in ranges of what is at its place."""
    rows = tensor.detach().double().reshape(len(tensor), -1)
    changes = (rows - rows.to(dtype).double()).abs().amax(0)
    relative = changes / (rows.amax(0) - rows.amin(0))
    return relative.nan_to_num(0, 0, 0).max().item()  # 0 of a constant


def _to(part: Part, device: torch.device, dtype: torch.dtype) -> Part:
    return mapped(part, lambda tensor: _tensor_to(tensor, device, dtype))


def _tensor_to(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    if tensor.is_inference():  # autograd takes none
        tensor = tensor.clone()
    return tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
