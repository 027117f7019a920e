"""Training data in portions of so many batches: a step of a walk is no epoch."""

from collections.abc import Iterable, Iterator

import torch

from pyro_sws.inference.batches import Batch, Batches, unaugmented

FEWEST = 20  # batches that a pass is cut into, where it has fewer and may be cut
SMALLEST = 8  # examples in a batch that was cut


class Portion:
    """A re-iterable whose every pass is the next ``size`` batches, in endless passes of another."""

    def __init__(self, batches: Iterable):
        self.batches, self.size = batches, 1
        self._walk: Iterator[Batch] = iter(())

    def of(self, size: int) -> "Portion":
        """The same, with ``size`` batches from now on."""
        self.size = size
        return self

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.size):
            batch = next(self._walk, None)
            if batch is None:
                self._walk = iter(self.batches)
                batch = next(self._walk)
            yield batch


def cut(batches: Iterable) -> Iterable:
    """A list of few large batches as many small ones, in a new order at each pass; else as it is.

    A list of one batch is what one writes for a small data set, and would be a step a pass.
    """
    if not isinstance(batches, list | tuple) or len(batches) >= FEWEST:
        return batches
    parts = [[batch[part] for batch in unaugmented(batches)] for part in (0, 1)]
    if any(part.shape[1:] != own[0].shape[1:] for own in parts for part in own):
        return batches
    inputs, targets = (torch.cat(own) for own in parts)
    size = max(SMALLEST, len(inputs) // FEWEST)
    longest = max(len(batch[0]) for batch in batches)
    return Batches(inputs, targets, min(size, longest))
