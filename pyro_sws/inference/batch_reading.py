"""What of a batch a network is given, and what are its targets: by its form, or by functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from pyro_sws.weights.structures import Forward, Structure, shape_of

Targets = str | Callable[[Any], Any]
LABELS = "labels"  # of a mapping's targets, as Hugging Face names them
TOKENS = "input_ids"
IGNORED = -100  # a label that does not count, there


@dataclass(frozen=True)
class Reading:
    """How a batch is read as (inputs, targets).

    Without functions a batch is a pair (inputs, targets), a longer tuple whose last part is the
    targets, or a mapping with "labels". ``targets`` is the name of a mapping's targets, or a
    function of the batch that returns them; ``forward(net, batch)`` returns the outputs for a
    batch, whatever that is. Inputs that are a tuple or list are a network's positional arguments,
    and those that are a mapping its keywords.
    """

    forward: Forward | None = None
    targets: Targets | None = None

    def __post_init__(self) -> None:
        if self.forward is not None and not callable(self.forward):
            raise TypeError(
                f"forward must be a function of network and batch, got {self.forward!r}"
            )
        if not isinstance(self.targets, str | None) and not callable(self.targets):
            raise TypeError(
                "targets must be a name in a mapping or a function of the batch, got "
                f"{self.targets!r}"
            )

    def __call__(self, batch: Any, what: str) -> tuple[Any, Any]:
        """Inputs and targets, a tensor or Structure each. Raises TypeError for what is none."""
        if type(batch) is tuple and len(batch) == 2 and all(map(_is_part, batch)):
            read_already = any(isinstance(part, Structure) for part in batch)
            if read_already or (self.forward is None and not callable(self.targets)):
                return batch
        inputs, targets, forward = self._parts(batch, what)
        kinds = f"({type(inputs).__name__}, {type(targets).__name__})"
        return (
            _part(inputs, "inputs", what, kinds, forward),
            _part(targets, "targets", what, kinds),
        )

    def _parts(self, batch: Any, what: str) -> tuple[Any, Any, Forward | None]:
        if self.forward is not None:
            return batch, self._targets(batch, what), self.forward
        if isinstance(batch, Mapping):
            return self._of_mapping(batch, what)
        if not isinstance(batch, tuple | list) or len(batch) < 2:
            kind = type(batch).__name__
            raise TypeError(
                f"{what} must be a pair (inputs, targets), got {kind}; of other batches say what "
                "is what by forward=lambda net, batch: ... and targets=lambda batch: ..."
            )
        inputs = batch[0] if len(batch) == 2 else tuple(batch[:-1])
        return inputs, self._targets(batch, what), None

    def _targets(self, batch: Any, what: str) -> Any:
        if callable(self.targets):
            return self.targets(batch)
        if isinstance(batch, Mapping):
            name = self.targets or LABELS
            if name not in batch:
                _no_targets(batch, name, what)
            return batch[name]
        if isinstance(batch, tuple | list) and len(batch) > 1 and self.targets is None:
            return batch[-1]
        raise TypeError(
            f"{what} is {shape_of(batch)}; say by targets=lambda batch: ... what its targets are"
        )

    def _of_mapping(self, batch: Mapping, what: str) -> tuple[Any, Any, Forward | None]:
        targets = self._targets(batch, what)
        if self.targets is None and _next_tokens(batch):
            return batch, targets[:, 1:], _next_token_outputs
        if self.targets is None:
            return batch, targets, _outputs_without_labels
        rest = {key: value for key, value in batch.items() if value is not targets}
        if len(rest) == len(batch):
            raise TypeError(
                f"{what} is {shape_of(batch)}, and targets= makes others of it; say by "
                "forward=lambda net, batch: ... what the network is given"
            )
        return next(iter(rest.values())) if len(rest) == 1 else rest, targets, None


@dataclass(frozen=True, eq=False)
class Read:
    """A re-iterable of batches as they are read: each a pair of a tensor or Structure."""

    batches: Iterable
    reading: Reading

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for i, batch in enumerate(self.batches):
            yield self.reading(batch, f"batch {i}")

    def __len__(self) -> int:
        return len(self.batches)  # type: ignore[arg-type]


def read_by(batches: Iterable | None, reading: Reading) -> Any:
    """The batches, with how they are read where that is not by their form."""
    return batches if batches is None or reading == Reading() else Read(batches, reading)


def behind(batches: Iterable) -> Iterable:
    """The caller's own batches."""
    return batches.batches if isinstance(batches, Read) else batches


def _is_part(part: Any) -> bool:
    return isinstance(part, Tensor | Structure)


def _part(part: Any, name: str, what: str, kinds: str, forward: Forward | None = None) -> Any:
    """A tensor as it is, unless a function is to be given it; a Structure of all else."""
    if isinstance(part, Structure) or (isinstance(part, Tensor) and forward is None):
        return part
    if not any(isinstance(leaf, Tensor) for leaf in tree_leaves(_as_dict(part))):
        raise TypeError(f"{what} must be a pair of tensors, got {kinds}{made(part)}")
    return Structure(part, f"{name} of {what}", forward)


def made(part: object) -> str:
    """How to make a tensor of it, for an error; "" for what is no array and no list."""
    array = isinstance(part, np.ndarray | list | tuple)
    return "; give torch.as_tensor(...) of it" if array else "; a loader needs a batch_size"


def _as_dict(part: Any) -> Any:
    return dict(part) if isinstance(part, Mapping) else part


def _no_targets(batch: Mapping, name: str, what: str) -> NoReturn:
    raise TypeError(
        f"{what} must be a pair (inputs, targets) or a mapping with {name!r}, got "
        f"{type(batch).__name__} {shape_of(batch)}; say which of it are the targets, such as "
        'targets="label"'
    )


def _next_tokens(batch: Mapping) -> bool:
    """Whether labels are the tokens themselves, so that each output is for the token after it.

    Models of Hugging Face that predict the next token shift such labels in their loss.
    """
    labels, tokens = batch[LABELS], batch.get(TOKENS)
    if not isinstance(labels, Tensor) or not isinstance(tokens, Tensor):
        return False
    if labels.shape != tokens.shape or labels.dim() != 2 or labels.shape[1] < 2:
        return False
    counted = labels != IGNORED
    return bool(counted.any()) and torch.equal(labels[counted], tokens[counted])


def without_labels(net: nn.Module, batch: Mapping) -> dict[str, Any]:
    """What the network is given of a batch: all but the labels, unless its inputs are made of them.

    A decoder's are, where the batch has none for it.
    """
    config = getattr(net, "config", None)
    if getattr(config, "is_encoder_decoder", False) and "decoder_input_ids" not in batch:
        return dict(batch)
    return {key: value for key, value in batch.items() if key != LABELS}


def _outputs_without_labels(net: nn.Module, batch: Mapping) -> Any:
    return net(**without_labels(net, batch))


def _next_token_outputs(net: nn.Module, batch: Mapping) -> Tensor:
    outputs = _outputs_without_labels(net, batch)
    return (outputs["logits"] if isinstance(outputs, Mapping) else outputs)[:, :-1]
