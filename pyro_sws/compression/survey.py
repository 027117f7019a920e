"""One walk through the training data before the fit: how much there is, a batch, a sample of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_sws.inference.batches import Batch, Batches, check_reiterable, pairs, unaugmented
from pyro_sws.inference.isolation import forked_rng

EXAMPLES = 10_000  # in a sample, about
ROWS = 1000  # the fewest examples in a batch of the sample


@dataclass(frozen=True, eq=False)
class Survey:
    """What one walk through the training data shows; the examples are without augmentation."""

    size: int  # training examples, counted or as they were given
    first: Batch
    sample: tuple[Batch, ...]  # drawn evenly; () unless it was asked for


def survey(
    batches: Iterable,
    size: int | None = None,
    *,
    seed: int = 0,
    sampled: bool = True,
    examples: int = EXAMPLES,
) -> Survey:
    """Look at the data once; at one batch only, where ``size`` is known and no sample is wanted.

    Every example is in the sample with the same probability: about ``examples`` of them are.
    Raises TypeError for a one-shot iterator, ValueError for no batches and for fewer than one
    example, in the data or in the sample.
    """
    check_reiterable(batches, "train")
    if size is not None and size < 1:
        raise ValueError(f"data_size must be at least 1 example, got {size}")
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    known = len(batches.inputs) if size is None and isinstance(batches, Batches) else size
    counted, first, kept = 0, None, _Kept(examples, known)
    with forked_rng(seed, torch.device("cpu")):
        for batch in pairs(unaugmented(batches), "train"):
            counted += len(batch[0])
            first = first or batch
            if sampled:
                kept.draw(batch, counted)
            elif known is not None:
                break
    if first is None:
        raise ValueError("train has no batches; give at least one (inputs, targets) pair")
    total = counted if known is None else known
    sample = kept.within(total) or [(first[0][:1], first[1][:1])]
    return Survey(total, first, tuple(_larger(sample)) if sampled else ())


class _Kept:
    """Examples kept by their random numbers, while the size of the data may still be unknown."""

    def __init__(self, examples: int, size: int | None):
        self.examples, self.size = examples, size
        self.pieces: list[tuple[Tensor, Batch]] = []  # random numbers, examples

    def draw(self, batch: Batch, seen: int) -> None:
        """Draw a number for each example of the batch; the data has at least ``seen`` examples."""
        numbers = torch.rand(len(batch[0]))
        small = numbers < self.examples / (self.size or seen)
        if small.any():
            self.pieces.append((numbers[small], _chosen(batch, small)))

    def within(self, size: int) -> list[Batch]:
        """The sample, now that the size of the data is known."""
        fraction = self.examples / size
        masks = [(numbers < fraction, batch) for numbers, batch in self.pieces]
        return [batch if m.all() else _chosen(batch, m) for m, batch in masks if m.any()]


def _chosen(batch: Batch, mask: Tensor) -> Batch:
    inputs, targets = batch
    return inputs[mask.to(inputs.device)], targets[mask.to(targets.device)]


def _larger(pieces: Iterable[Batch]) -> Iterator[Batch]:
    """The same examples in batches of ROWS or more, as far as their shapes agree."""
    pack: list[Batch] = []
    for piece in pieces:
        rows = sum(len(inputs) for inputs, _ in pack)
        if pack and (rows >= ROWS or _shapes(piece) != _shapes(pack[0])):
            yield _joined(pack)
            pack = []
        pack.append(piece)
    if pack:
        yield _joined(pack)


def _shapes(batch: Batch) -> list[torch.Size]:
    return [part.shape[1:] for part in batch]


def _joined(pack: Sequence[Batch]) -> Batch:
    inputs, targets = zip(*pack, strict=True)
    return torch.cat(inputs), torch.cat(targets)
