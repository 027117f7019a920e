"""One walk through the training data before the fit: how much there is, a batch, a sample of it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from pyro_sws.compression.counting import count, repeated
from pyro_sws.inference.batch_reading import behind
from pyro_sws.inference.batches import (
    Batch,
    Batches,
    check_no_nan,
    check_reiterable,
    pairs,
    unaugmented,
)
from pyro_sws.inference.examples import Once, Seen, shows_all
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.loaders import augments, dataset_length, knows_its_examples
from pyro_sws.weights.structures import form, joined

EXAMPLES = 10_000  # in a sample, about
ROWS = 1000  # the fewest examples in a batch of the sample


@dataclass(frozen=True, eq=False)
class Survey:
    """What one walk through the training data shows; the examples are without augmentation."""

    size: int  # training examples, counted or as they were given
    first: Batch
    sample: tuple[Batch, ...]  # drawn evenly; () unless it was asked for
    seen: Seen  # tells whether another example is one of these
    measured: Iterable  # each example once, as far as that is known: to measure on
    draws: int  # of a pass; more than ``size`` where examples come again
    doubt: str | None = None  # why draws cannot be taken for examples, where they cannot
    repeats: int = 0  # examples that are equal to another one, and more than by chance
    anew: tuple[int, int] = (0, 0)  # of how many examples of another pass this one has not; of all


def survey(
    batches: Iterable,
    size: int | None = None,
    *,
    seed: int = 0,
    sampled: bool = True,
    examples: int = EXAMPLES,
) -> Survey:
    """Look at the data once, and count its examples; ``size`` is what the user says they are.

    Where nothing says that examples stay what they are, the first ones of another pass are looked
    at, too.
    Every example is in the sample with the same probability: about ``examples`` of them are.
    Raises TypeError for a one-shot iterator, ValueError for no batches, for fewer than one example,
    in the data or in the sample, for a size that cannot be, and for targets that are NaN.
    """
    check_reiterable(batches, "train")
    if size is not None and size < 1:
        raise ValueError(f"data_size must be at least 1 example, got {size}")
    plain, seen, own = unaugmented(batches), Seen(), behind(batches)
    known = len(own.inputs) if size is None and isinstance(own, Batches) else size
    with forked_rng(seed, torch.device("cpu")):
        walked = _walked(plain, known, sampled, examples, seen)
    anew = (0, 0)
    if not shows_all(batches):
        with forked_rng(seed + 1, torch.device("cpu")):  # or both passes would be changed alike
            anew = seen.anew(plain, "train")
    draws, first, kept = walked
    counted = count(
        seen,
        trusted=_told_apart(own),
        size=size,
        whole=shows_all(batches),
        most=dataset_length(own) if isinstance(own, DataLoader) else None,
        workers=_readers(own) if anew[0] else 1,
        changed=bool(anew[0]) or _has_fewer(own, size, draws),
    )
    measured = plain if counted.of == 1 else Once(plain, counted.of)
    sample = _sample_of(kept, counted.size, first) if sampled else ()
    repeats = repeated(seen, counted.of)
    doubt = counted.doubt
    return Survey(counted.size, first, sample, seen, measured, draws, doubt, repeats, anew)


def sample_of(
    batches: Iterable, size: int, *, seed: int = 0, examples: int = EXAMPLES
) -> tuple[Batch, ...]:
    """A sample such as a survey's, where the size of the data is known; see ``survey``."""
    check_reiterable(batches, "train")
    with forked_rng(seed, torch.device("cpu")):
        _, first, kept = _walked(unaugmented(batches), size, True, examples, None)
    return _sample_of(kept, size, first)


def _walked(
    plain: Iterable, known: int | None, sampled: bool, examples: int, seen: Seen | None
) -> tuple[int, Batch, "_Kept"]:
    """Draws, the first batch and what is kept of one pass."""
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    draws, first, kept = 0, None, _Kept(examples, known)
    for batch in pairs(plain, "train"):
        check_no_nan(batch[1], "train")
        draws += len(batch[0])
        first = first or batch
        if sampled:
            kept.draw(batch, draws)
        if seen is not None:
            seen.add(batch)
    if first is None:
        raise ValueError("train has no batches; give at least one (inputs, targets) pair")
    return draws, first, kept


def _sample_of(kept: "_Kept", size: int, first: Batch) -> tuple[Batch, ...]:
    return tuple(_larger(kept.within(size) or [(first[0][:1], first[1][:1])]))


def _told_apart(batches: Iterable) -> bool:
    """Whether equal examples are known to be two: each has an index of its own."""
    if isinstance(batches, DataLoader):
        return knows_its_examples(batches)
    return isinstance(batches, Batches)


def _has_fewer(batches: Iterable, size: int | None, draws: int) -> bool:
    """Whether a dataset that changes its examples may give each under several indices."""
    fewer = size is not None and size < draws
    return fewer and isinstance(batches, DataLoader) and augments(batches)


def _readers(batches: Iterable) -> int:
    """How many processes read an IterableDataset, each perhaps all of it."""
    if isinstance(batches, DataLoader) and isinstance(batches.dataset, IterableDataset):
        return max(batches.num_workers, 1)
    return 1


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


def _shapes(batch: Batch) -> list[Any]:
    return [form(part) for part in batch]


def _joined(pack: Sequence[Batch]) -> Batch:
    inputs, targets = zip(*pack, strict=True)
    return joined(inputs), joined(targets)
