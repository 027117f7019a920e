"""The context model's state from one tensor to the next, and its tables for each."""

from functools import cache

import numpy as np

from pyro_sws.codec import contexts, mixing
from pyro_sws.codec.loops import Integers, Loops
from pyro_sws.codec.stream import Stream
from pyro_sws.codec.tensor_layout import matrix, units

FIELDS = 10  # arrays over the columns
MOST_LEVELS = 1024
SLOTS_FREE, SLOTS_PER_WEIGHT = 1 << 15, 64  # so that tables cost no more time than the weights do


def may_have_contexts(size: int, levels: int) -> bool:
    """Whether the model's tables are in proportion to a tensor of so many weights."""
    allowed = SLOTS_FREE + SLOTS_PER_WEIGHT * size
    return levels <= MOST_LEVELS and contexts.slots_needed(levels) <= allowed


class ContextModel:
    """Weights that learn on through all tensors, and how busy the units of earlier ones are."""

    def __init__(self, loops: Loops) -> None:
        self.loops = loops
        self._earlier: list[np.ndarray] = []
        self.weights: Integers = loops.integers(contexts.FIRST_WEIGHTS)

    def copy_weights(self) -> Integers:
        return self.loops.integers(list(self.weights))

    def note(self, symbols: np.ndarray, shape: tuple[int, ...], zero: int | None) -> None:
        """Take notice of a tensor that was coded, with or without contexts."""
        counts = units(shape, np.ones(symbols.shape, bool) if zero is None else symbols != zero)
        if counts is not None:
            self._earlier.append(counts)

    def code(
        self,
        stream: Stream,
        symbols: np.ndarray,
        shape: tuple[int, ...],
        levels: int,
        zero: int | None,
    ) -> None:
        """Code the flat symbols of a tensor of this shape; reading, they are written in place."""
        make = self.loops.integers
        seen = matrix(shape, self._earlier)
        plan = (seen.rows, seen.columns, seen.width, -1 if zero is None else zero, levels)
        length = seen.columns + 2 * contexts.padding(seen.width)
        fields = (*(make(length) for _ in range(FIELDS)), make(seen.width + 2))
        inputs = contexts.ZERO_INPUTS + contexts.DIRECT
        slots = contexts.slots_needed(levels - (zero is not None))
        models = (
            make(slots, -1),
            make(slots),
            self.weights,
            *(make(inputs) for _ in range(3)),
        )
        stream.data = self.loops.code_tensor(
            stream.state,
            stream.data,
            symbols if self.loops.compiled else memoryview(symbols.data),
            plan,
            self._link(seen.feeder, seen.columns),
            make([(1 << 32) // (c + 32) for c in range(seen.columns)]),
            _constants(self.loops),
            models,
            fields,
            make(16),
        )
        stream.check()

    def _link(self, feeder: np.ndarray | None, columns: int) -> Integers:
        """The class of each column's feeding unit; a unit has as many columns as any other."""
        if feeder is None:
            return self.loops.integers(columns)
        counted = np.array(contexts.classes()[0])
        classes = counted[np.minimum(feeder, contexts.COUNTED)]
        return self.loops.integers(np.repeat(classes, columns // len(feeder)).tolist())


@cache
def _constants(loops: Loops) -> tuple:
    counted, bits = contexts.classes()
    tables = tuple(loops.integers(table) for table in mixing.tables())
    return tables, loops.integers(counted), loops.integers(bits)
