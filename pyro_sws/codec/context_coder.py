"""The context model's state from one tensor to the next, and its tables for each."""

from functools import cache

import numpy as np

from pyro_sws.codec import contexts, mixing, prediction
from pyro_sws.codec.loops import Integers, Loops
from pyro_sws.codec.stream import Stream
from pyro_sws.codec.tensor_layout import Matrix, matrix, units

FIELDS = 10  # arrays over the columns
MOST_LEVELS = 1024
SLOTS_FREE, SLOTS_PER_WEIGHT = 1 << 15, 64  # so that tables cost no more time than the weights do


def may_have_contexts(size: int, levels: int, more: int = 0) -> bool:
    """Whether the model's tables are in proportion to a tensor of so many weights."""
    allowed = SLOTS_FREE + SLOTS_PER_WEIGHT * size
    return levels <= MOST_LEVELS and contexts.slots_needed(levels, more) <= allowed


class ContextModel:
    """Weights that learn on through all tensors, and how busy the units of earlier ones are."""

    def __init__(self, loops: Loops, expecting: bool = False) -> None:
        """``expecting``: with contexts of what is expected, as format 4 may have."""
        self.loops = loops
        self.more = contexts.EXPECTED_INPUTS * expecting
        self._earlier: list[np.ndarray] = []
        self.weights: Integers = loops.integers(contexts.first_weights(self.more))

    def allows(self, size: int, levels: int) -> bool:
        return may_have_contexts(size, levels, self.more)

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
        zero_or_none = -1 if zero is None else zero
        plan = (seen.rows, seen.columns, seen.width, zero_or_none, levels, seen.taps, self.more)
        length = seen.columns + 2 * contexts.padding(seen.width)
        fields = (*(make(length) for _ in range(FIELDS)), make(seen.width + 2))
        inputs = contexts.ZERO_INPUTS + contexts.DIRECT + self.more
        slots = contexts.slots_needed(levels - (zero is not None), self.more)
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
            self._guess(seen),
        )
        stream.check()

    def _guess(self, seen: Matrix) -> tuple[Integers, ...]:
        """What ``prediction.py`` works on; next to nothing where nothing is expected."""
        taps, columns = (seen.taps, seen.columns) if self.more else (1, 1)
        order, features = prediction.ORDER, prediction.FEATURES
        lengths = (order, taps * order**2, taps * features, taps, order**2, columns // taps, taps)
        return *map(self.loops.integers, lengths), _sizes(self.loops)

    def _link(self, feeder: np.ndarray | None, columns: int) -> Integers:
        """The class of each column's feeding unit; a unit has as many columns as any other."""
        if feeder is None:
            return self.loops.integers(columns)
        counted = np.array(contexts.classes()[0])
        classes = counted[np.minimum(feeder, contexts.COUNTED)]
        return self.loops.integers(np.repeat(classes, columns // len(feeder)).tolist())


@cache
def _sizes(loops: Loops) -> Integers:
    return loops.integers(prediction.sizes_table())


@cache
def _constants(loops: Loops) -> tuple:
    counted, bits = contexts.classes()
    tables = tuple(loops.integers(table) for table in mixing.tables())
    return tables, loops.integers(counted), loops.integers(bits)
