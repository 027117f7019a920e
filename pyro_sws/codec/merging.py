"""Parts of a checkpoint as one: their tensors, codebooks and layouts together. Numpy only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyro_sws.codec.envelope import Part, Table
from pyro_sws.codec.errors import FormatError
from pyro_sws.codec.symbols import FLOATS, Quantized

VALUES_FREE = 1 << 20  # of codebooks, beside one for each byte: they may take hardly any room


def merged(parts: Sequence[Quantized], aliases: Mapping[str, int]) -> Quantized:
    """All tensors of all parts; further names of one are tensors of their own."""
    books, called = merged_books([part.codebooks for part in parts])
    by_tensor: dict[str, dict[str, Any]] = {"symbols": {}, "raw": {}, "scales": {}}
    of: dict[str, str] = {}
    order: list[str] = []  # of all tensors
    for part, names in zip(parts, called, strict=True):
        of |= {tensor: names[book] for tensor, book in part.codebook_of.items()}
        for each, values in by_tensor.items():
            values |= getattr(part, each)
        order += [*part.symbols, *part.raw]
    for name, place in aliases.items():
        for values in (of, *by_tensor.values()):
            if order[place] in values:
                values[name] = values[order[place]]
    return Quantized(
        by_tensor["symbols"], books, of, raw=by_tensor["raw"], scales=by_tensor["scales"]
    )


def merged_books(
    parts: Sequence[Mapping[str, np.ndarray]],
) -> tuple[dict[str, np.ndarray], list[dict[str, str]]]:
    """All codebooks, and of each part what its own are called there.

    A codebook keeps its name; where an earlier part has one of that name, it is "part <i>: <name>".
    Raises FormatError where that is taken, too.
    """
    together: dict[str, np.ndarray] = {}
    called = []
    for i, books in enumerate(parts):
        called.append({name: f"part {i}: {name}" if name in together else name for name in books})
        if taken := [name for name in called[-1].values() if name in together]:
            raise FormatError(f"the codebook {taken[0]!r} is in the .sws file twice")
        together |= {called[-1][name]: values for name, values in books.items()}
    return together, called


@dataclass
class Met:
    """What parts before had: names, further ones too, and how many codebook values may follow."""

    names: set[str]
    values_left: int

    @staticmethod
    def nothing(table: Table) -> "Met":
        """Before the first part."""
        return Met(set(table.aliases), VALUES_FREE + table.size)

    def check(self, part: Part, dtypes: Mapping[str, str], books: Mapping[str, np.ndarray]) -> None:
        """Take in a part, by its tensors' dtypes as they are stored, and its codebooks.

        Raises FormatError where the table, or another part, is at odds with it.
        """
        if len(dtypes) != len(part.dtypes):
            raise FormatError(
                f"the part at byte {part.start} has {len(dtypes)} tensors; its table says "
                f"{len(part.dtypes)}"
            )
        if twice := [name for name in dtypes if name in self.names]:
            raise FormatError(f"the tensor {twice[0]!r} is in the .sws file twice")
        for (name, stored), dtype in zip(dtypes.items(), part.dtypes, strict=True):
            if dtype is not None and stored not in FLOATS:
                raise FormatError(f"{name!r} holds {stored}; its table says {dtype}")
        self.names.update(dtypes)
        self.values_left -= sum(map(len, books.values()))
        if self.values_left < 0:
            raise FormatError("the codebooks of the .sws file have more values than it has bytes")
