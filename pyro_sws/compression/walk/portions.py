"""Training data in portions of so many batches: a step of a walk is no epoch."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pyro_sws.inference.batch_reading import behind
from pyro_sws.inference.batches import Batch, Batches, pairs
from pyro_sws.inference.checkpoint import StageState, generators, named, set_generators
from pyro_sws.inference.isolation import forked_rng
from pyro_sws.inference.loaders import augments, knows_its_examples
from pyro_sws.weights.structures import form, joined

CPU = torch.device("cpu")  # whose generator says the order of a pass
FEWEST = 20  # batches that a pass is cut into, where it has fewer and may be cut
SMALLEST = 8  # examples in a batch that was cut


class Portion:
    """A re-iterable whose every pass is the next ``size`` batches, in endless passes of another."""

    def __init__(self, batches: Iterable):
        self.batches, self.size = batches, 1
        self._walk: Iterator[Batch] = iter(())
        self.passes = self.batch = 0  # where it is: the number of the pass, and of its batch
        self._began: dict[str, Tensor] = {}  # generators where this pass did

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
                self._began = generators(CPU)
                self._walk = iter(self.batches)
                batch = next(self._walk)
                self.passes, self.batch = self.passes + 1, 0
            self.batch += 1
            yield batch

    def state(self) -> StageState:
        """Where it is: the pass and its batch, and how the generators were where it began."""
        return StageState(named("pass", self._began), {"pass": self.passes, "batch": self.batch})

    def go_to(self, state: StageState) -> None:
        """Begin that pass anew, and leave out what it had already given."""
        self.passes, self.batch = state.rest["pass"], state.rest["batch"]
        if not self.batch:
            return
        with forked_rng(0, CPU):
            set_generators(StageState(state.part("pass"), {}), CPU)
            self._walk = iter(self.batches)
            for _ in range(self.batch):
                next(self._walk, None)


def cut(batches: Iterable) -> Iterable:
    """Few large batches as many small ones, in a new order at each pass; else as they are.

    One batch is what one writes for a small data set, and would be a step a pass. Where each pass
    changes its examples, they are left as they are; of ``Batches`` the augmentation is kept.
    """
    own = behind(batches)
    if not _is_cuttable(own):
        return batches
    if isinstance(own, Batches):
        smaller = Batches(own.inputs, own.targets, _size(len(own.inputs), own.size))
        smaller.augment = own.augment
        return smaller
    read = list(pairs(batches, "train"))
    parts = [[batch[part] for batch in read] for part in (0, 1)]
    if any(form(part) != form(own[0]) for own in parts for part in own):
        return batches
    inputs, targets = map(joined, parts)
    return Batches(inputs, targets, _size(len(inputs), max(len(x) for x, _ in read)))


def _is_cuttable(batches: Iterable) -> bool:
    """Whether all of the data is there at once, the same in each pass, in few batches."""
    if isinstance(batches, DataLoader):
        fixed = knows_its_examples(batches) and not augments(batches)
        return fixed and len(batches) < FEWEST
    return isinstance(batches, list | tuple | Batches) and len(batches) < FEWEST


def _size(examples: int, longest: int) -> int:
    """Of a batch, where they had so many examples or fewer."""
    return min(max(SMALLEST, examples // FEWEST), longest)
