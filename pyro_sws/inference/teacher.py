"""What a network says of each example, computed once where a fit asks for it many times."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_sws.inference.batches import Part
from pyro_sws.inference.examples import bytes_by_row
from pyro_sws.weights.structures import tensors_in

MOST_BYTES = 2**28  # of outputs that are kept


class Teacher:
    """The network's outputs for a batch (B, ...), from a table where it has been asked before.

    Examples are told apart by a hash of their bytes. The first ones are kept, as many as there are
    in the data and fit into MOST_BYTES: where they are drawn anew each time, as with augmentation,
    the table is full after a pass and seldom of use. On the CPU alone; elsewhere the network is
    faster than the table.
    """

    def __init__(self, outputs: Callable[[Part], Tensor], examples: int):
        self.outputs, self.examples = outputs, examples
        self._rows: dict[int, int] = {}
        self._table: Tensor | None = None

    @torch.no_grad()
    def __call__(self, inputs: Part) -> Tensor:
        if inputs.device.type != "cpu" or not len(inputs):
            return self.outputs(inputs)
        keys = _hashes(inputs)
        entries = [self._rows.get(key, -1) for key in keys]
        if self._table is not None and min(entries) >= 0:
            return self._table[torch.tensor(entries)]
        found = self.outputs(inputs)
        if len(found) == len(inputs):
            self._keep(keys, found)
        return found

    def _keep(self, keys: list[int], found: Tensor) -> None:
        if self._table is None:
            size = found[0].numel() * found.element_size()
            rows = min(self.examples, MOST_BYTES // max(1, size))
            self._table = found.new_empty(rows, *found.shape[1:])
        if self._table.shape[1:] != found.shape[1:]:
            return
        for key, row in zip(keys, found, strict=True):
            entry = len(self._rows)
            if key not in self._rows and entry < len(self._table):
                self._table[entry] = row
                self._rows[key] = entry


def _hashes(inputs: Part) -> list[int]:
    """Of each example's bytes, in all of its tensors."""
    first, *more = (bytes_by_row(tensor) for tensor in tensors_in(inputs))
    if not more:
        return [hash(row.tobytes()) for row in first]
    each = zip(first, *more, strict=True)
    return [hash(tuple(row.tobytes() for row in rows)) for rows in each]
