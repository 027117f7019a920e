"""Which draws are the same example: examples told apart by their bytes."""

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pyro_sws.inference.batch_reading import behind
from pyro_sws.inference.batches import Batch, Batches, check_no_nan, pairs, unaugmented
from pyro_sws.inference.loaders import augments, knows_its_examples
from pyro_sws.weights.structures import tensors_in

LOOKED_AT = (
    64  # of another pass: where it changes one example in 20, all are as before 1 time in 27
)
DIGEST = 16  # bytes an example: among 10^9 of them two meet by chance once in 10^20 data sets


def digests(batch: Batch) -> np.ndarray:
    """A digest of each example's inputs and targets: (n,) of 16 bytes."""
    tensors = [tensor for part in batch for tensor in tensors_in(part)]
    parts = [bytes_by_row(tensor) for tensor in tensors]
    kind = repr([(tensor.dtype, tuple(tensor.shape[1:])) for tensor in tensors]).encode()
    base, made = hashlib.blake2b(kind, digest_size=DIGEST), bytearray()
    for rows in zip(*parts, strict=True):
        hashed = base.copy()
        for row in rows:
            hashed.update(row)
        made += hashed.digest()
    return np.frombuffer(bytes(made), dtype=f"V{DIGEST}")


def bytes_by_row(part: Tensor) -> np.ndarray:
    """The bytes of each row of a tensor (n, ...): (n, bytes) uint8."""
    rows = part.detach().cpu().reshape(len(part), -1).contiguous()
    return rows.view(torch.uint8).numpy() if rows.shape[1] else np.zeros((len(part), 0), np.uint8)


@dataclass(eq=False)
class Seen:
    """The examples of one pass, told apart; 16 bytes each."""

    parts: list[np.ndarray] = field(default_factory=list)
    fractions: bool = False  # whether an input is no whole number: then equal draws are no chance

    def add(self, batch: Batch) -> None:
        """Take note of a batch."""
        self.parts.append(digests(batch))
        floats = [x for x in tensors_in(batch[0]) if x.is_floating_point()]
        self.fractions = self.fractions or any(bool((x != x.round()).any()) for x in floats)

    def counts(self) -> np.ndarray:
        """How often each distinct example came."""
        return np.unique(np.concatenate(self.parts), return_counts=True)[1]

    def shared(
        self, batches: Iterable, what: str, check: Callable[[str, Batch], None] | None = None
    ) -> tuple[int, "Seen"]:
        """How many of these other examples are among those seen, and all that they are.

        ``check`` is given ``what`` and each batch. Raises ValueError for targets that are NaN.
        """
        theirs = Seen()
        for batch in pairs(batches, what):
            check_no_nan(batch[1], what)
            if check is not None:
                check(what, batch)
            theirs.add(batch)
        return theirs.among(self), theirs

    def among(self, others: "Seen") -> int:
        """How many of these are among the others, too."""
        if not self.parts:
            return 0
        theirs = np.concatenate(others.parts)
        return int(np.isin(np.concatenate(self.parts), theirs).sum())

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def anew(self, batches: Iterable, what: str) -> tuple[int, int]:
        """How many of the first LOOKED_AT examples, or more, of another pass were not seen.

        And how many these are. Where there are some, a pass changes its examples, or draws others.
        """
        ours, found, count = np.unique(np.concatenate(self.parts)), 0, 0
        for batch in pairs(batches, what):
            theirs = digests(batch)
            found += int((~np.isin(theirs, ours)).sum())
            count += len(theirs)
            if count >= LOOKED_AT:
                break
        return found, count


def check_data_size(batches: Iterable, size: int, draws: int) -> None:
    """Raise ValueError where ``batches`` show all the data, and it is not of ``size`` examples.

    ``draws`` are those of one pass. Examples may come several times: any number from those that are
    distinct up to all is possible. It is not known of batches of one's own, a stream, a sampler of
    one's own, nor where a dataset changes its examples each time.
    """
    if size == draws or not shows_all(batches):
        return
    own = behind(batches)
    if isinstance(own, DataLoader) and augments(own):
        return
    seen = Seen()
    for batch in pairs(unaugmented(batches), "batches"):
        seen.add(batch)
    counts = seen.counts()
    shown, distinct = int(counts.sum()), len(counts)
    if not distinct <= size <= shown:
        among = "" if distinct == shown else f", {distinct:,} of them distinct"
        raise ValueError(
            f"data_size = {size:,}, but a pass through batches shows {shown:,} examples{among}; "
            "give joint their number"
        )


def shows_all(batches: Iterable) -> bool:
    """Whether a pass shows all the data that there is, and not a sample of a stream."""
    batches = behind(batches)
    if isinstance(batches, DataLoader):
        return knows_its_examples(batches)
    return isinstance(batches, list | tuple | Batches)


@dataclass(frozen=True, eq=False)
class Once:
    """Batches without the repeats: one of every ``of`` draws of an example, or one of all.

    A re-iterable; a pass remembers the examples that it has seen.
    """

    batches: Iterable
    of: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        seen: Counter[bytes] = Counter()
        for inputs, targets in pairs(self.batches, "train"):
            fresh = torch.tensor(
                [self._is_new(seen, d) for d in digests((inputs, targets)).tolist()]
            )
            if fresh.all():
                yield inputs, targets
            elif fresh.any():
                yield inputs[fresh.to(inputs.device)], targets[fresh.to(targets.device)]

    def _is_new(self, seen: Counter, digest: bytes) -> bool:
        seen[digest] += 1
        return (seen[digest] - 1) % (self.of or math.inf) == 0
