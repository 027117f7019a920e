"""What a method gives: lines of files, each file with the network that it decodes to."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, eq=False)
class Made:
    """A file: how it was made, its length, and the network that it holds."""

    setting: str
    bytes: int
    net: nn.Module
    seconds: float
    peak_megabytes: float | None  # of memory, beyond what the process held before
    predicted_nats: float | None = None  # a prediction, that a method says the file loses


Line = Iterator[Made]  # from the finest to the coarsest, each made when it is asked for
