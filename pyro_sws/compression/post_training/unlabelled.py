"""Inputs without labels: the network's own predictions stand in for them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyro.poutine as poutine
import torch
from torch import Tensor, nn

from pyro_sws.inference.batch_reading import LABELS, Reading, behind
from pyro_sws.inference.batches import Batches, check_reiterable, moved
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import outputs_of
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.weights.network import check_values, copied, float_parameter
from pyro_sws.weights.structures import Structure

SIZE = 256  # examples in a batch, of inputs that come as one tensor


@dataclass(frozen=True, eq=False)
class Predicted:
    """Batches (inputs, targets) whose targets are what the network itself predicts."""

    batches: Sequence[tuple[Any, Tensor]]

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def with_targets(
    net: nn.Module, inputs: Any, reading: Reading, likelihood: Likelihood, most: int, seed: int
) -> Iterable:
    """The batches, where they have targets; else as ``predicted`` makes them."""
    with forked_rng(seed, torch.device("cpu")):  # a pass through shuffled batches draws an order
        if has_targets(inputs, reading):
            return inputs
        return predicted(net, inputs, reading, likelihood, most)


def has_targets(inputs: Any, reading: Reading) -> bool:
    """Whether batches have targets: a pair, labels under their name, or ``targets=`` is given."""
    if isinstance(inputs, Tensor):
        return False
    if reading.targets is not None or isinstance(behind(inputs), Batches):
        return True
    check_reiterable(inputs, "inputs")
    batch = next(iter(inputs), None)
    if isinstance(batch, Mapping):
        return LABELS in batch
    return isinstance(batch, tuple | list) and len(batch) > 1


def predicted(
    net: nn.Module, inputs: Iterable, reading: Reading, likelihood: Likelihood, most: int
) -> Predicted:
    """About ``most`` of the inputs, in batches, each with what the network itself predicts of it.

    That is the mode of p(targets | outputs). Raises TypeError for a likelihood that has none, such
    as a ``Loss``, and what the network raises.
    """
    check_values(net)
    own = copied(net).eval()
    start = {site: torch.tensor(value) for site, value in likelihood.start().items()}
    batches: list[tuple[Any, Tensor]] = []
    examples = 0
    for part in _parts(inputs, reading):
        if examples >= most:
            break
        with torch.no_grad(), pyro_step():
            parameter = float_parameter(own)
            dummy = torch.zeros(len(part))
            ((moved_part, _),) = moved([(part, dummy)], "inputs", parameter.device, parameter.dtype)
            outputs = outputs_of(own, {}, moved_part, likelihood)
            try:
                targets = poutine.condition(likelihood, data=start)(outputs).mode
            except (AttributeError, NotImplementedError, TypeError) as error:
                raise TypeError(
                    f"{type(likelihood).__name__} predicts no targets by itself ({error}); give "
                    "pairs (inputs, targets)"
                ) from None
        batches.append((part, targets.cpu()))
        examples += len(part)
    if not batches:
        raise ValueError("inputs have no batches; give at least one")
    return Predicted(batches)


def _parts(inputs: Iterable, reading: Reading) -> Iterator[Any]:
    if isinstance(inputs, Tensor):
        yield from inputs.split(SIZE)
        return
    for i, batch in enumerate(inputs):
        if isinstance(batch, tuple | list) and len(batch) == 1 and reading.forward is None:
            batch = batch[0]  # inputs alone, as of a TensorDataset, which may be several
        if isinstance(batch, Tensor) and reading.forward is None:
            yield batch
        else:
            yield Structure(batch, f"inputs of batch {i}", reading.forward)
