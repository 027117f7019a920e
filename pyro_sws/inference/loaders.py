"""The examples behind a DataLoader's draws: which there are, and each of them once."""

import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from pyro_sws.weights.structures import tensors_in

# Where one draw in 20 is changed, two draws differ 1 time in 10; all of these are alike 1 in 27.
LOOKED_AT = 32


def once_each(loader: DataLoader) -> DataLoader:
    """The examples that the loader draws from, each once and in order, in batches of its size.

    The loader itself where a pass is that already, or where its draws are not known: of an
    IterableDataset, of a sampler that is not torch's.
    """
    drawing = _drawing(loader)
    if drawing is None or (indices := _drawn_from(drawing, loader.dataset)) is None:
        return loader
    more: dict[str, Any] = {}
    if loader.num_workers:
        more = {
            "prefetch_factor": loader.prefetch_factor,
            "multiprocessing_context": loader.multiprocessing_context,
        }
    return DataLoader(
        loader.dataset,
        drawing.batch_size,
        sampler=indices,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        **more,
    )


def knows_its_examples(loader: DataLoader) -> bool:
    """Whether indices tell its examples apart, so that equal ones are two; see ``once_each``."""
    return _drawing(loader) is not None


def dataset_length(loader: DataLoader) -> int | None:
    """How many examples its dataset says it has; None where it does not say, or gives batches."""
    if loader.batch_sampler is None:
        return None
    try:
        return len(loader.dataset)  # type: ignore[arg-type]
    except Exception:  # a stream has none, a chain of streams one that raises
        return None


def augments(loader: DataLoader) -> bool:
    """Whether its dataset draws the same example anew each time it is asked.

    False if that is not known: of an IterableDataset, see ``Seen.anew``.
    """
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset):
        return False
    with _generators_kept():
        try:
            count = len(dataset)  # type: ignore[arg-type]
            drawn = [[_example(loader, i % count) for _ in "ab"] for i in range(LOOKED_AT)]
        except Exception:  # what a user's dataset cannot give, the fit will name
            return False
        return any(_differ(one, other) for one, other in drawn)


class _Drawing(NamedTuple):
    """How a loader of a map-style dataset draws."""

    sampler: Any
    batch_size: int | None  # None: an item of the dataset is a batch
    drops: bool  # whether a pass leaves the last, smaller batch out


def _drawing(loader: DataLoader) -> _Drawing | None:
    if isinstance(loader.dataset, IterableDataset):
        return None
    if (batches := loader.batch_sampler) is None:
        drawing = _Drawing(loader.sampler, None, False)
    elif type(batches) is BatchSampler:
        drawing = _Drawing(batches.sampler, batches.batch_size, batches.drop_last)
    else:
        return None
    return drawing if type(drawing.sampler) in _SAMPLERS else None


def _drawn_from(drawing: _Drawing, dataset: Any) -> list[int] | None:
    """The indices, in order; None where a pass of the loader has each of them once."""
    indices, whole = _SAMPLERS[type(drawing.sampler)](drawing.sampler)
    distinct = _distinct(indices, dataset)
    # What is left out of one pass of a random order comes in another.
    random_order = type(drawing.sampler) is not SequentialSampler
    left_out = drawing.drops and random_order and len(indices) % (drawing.batch_size or 1)
    if whole and not left_out and len(distinct) == len(indices):
        return None
    return distinct


def _weighted(sampler: WeightedRandomSampler) -> tuple[Sequence[int], bool]:
    indices = sampler.weights.nonzero().flatten().tolist()
    return indices, not sampler.replacement and sampler.num_samples == len(indices)


def _random(sampler: RandomSampler) -> tuple[Sequence[int], bool]:
    count = len(sampler.data_source)
    return range(count), not sampler.replacement and sampler.num_samples == count


def _listed(sampler: Any) -> tuple[Sequence[int], bool]:
    return list(getattr(sampler, "indices", sampler)), True


def _sequential(sampler: SequentialSampler) -> tuple[Sequence[int], bool]:
    return range(len(sampler.data_source)), True


# Which indices a sampler can draw, and whether a pass is each of them once.
_SAMPLERS: dict[type, Any] = {
    WeightedRandomSampler: _weighted,
    RandomSampler: _random,
    SubsetRandomSampler: _listed,
    SequentialSampler: _sequential,
    list: _listed,
    tuple: _listed,
    range: _listed,
}


def _distinct(indices: Iterable[int], dataset: Any) -> list[int]:
    """The first index of each example: what is pointed to may be so several times."""
    first: dict[tuple[int, int], int] = {}
    for index in map(int, indices):
        first.setdefault(_origin(dataset, index), index)
    return list(first.values())


def _origin(dataset: Any, index: int) -> tuple[int, int]:
    """Where an example lies in the end: the dataset's id, and the index there.

    A Subset and a ConcatDataset, whatever they are of, only point there.
    """
    while isinstance(dataset, Subset | ConcatDataset):
        index = index if index >= 0 else len(dataset) + index
        if isinstance(dataset, Subset):
            dataset, index = dataset.dataset, int(dataset.indices[index])
        else:
            part = bisect_right(dataset.cumulative_sizes, index)
            before = dataset.cumulative_sizes[part - 1] if part else 0
            dataset, index = dataset.datasets[part], index - before
    return id(dataset), index


def _example(loader: DataLoader, index: int) -> Any:
    item = loader.dataset[index]
    return item if loader.batch_sampler is None else loader.collate_fn([item])


def _differ(one: Any, other: Any) -> bool:
    """Whether two drawings of an example, of any structure, have different tensors."""
    ours, theirs = tensors_in(one), tensors_in(other)
    if len(ours) != len(theirs):
        return True
    return not all(map(_equal, ours, theirs))


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


@contextmanager
def _generators_kept() -> Iterator[None]:
    """Python's, numpy's and torch's generators as they were: a dataset may draw from any."""
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
