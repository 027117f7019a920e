"""Count what one small compression does more than once: copies, passes over data, encodings.

    python scripts/counted_work.py      # seconds; writes docs/results/counted_work.json

A fit of 3 epochs and a refinement of 2, with validation and test data. Passes are counted by the
batches themselves, network copies at ``copy.deepcopy``, encodings and decodings at the codec. Most
encodings are those of the search for an order of the units, which is part of the code; they are
counted apart.
"""

import argparse
import copy
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import pyro_sws as sws
from pyro_sws.codec import container
from pyro_sws.compression import execute as driver

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by path: neighbours too

from scripts.shared.provenance import provenance
from scripts.shared.results import RESULTS, write_json

EXAMPLES, FEATURES, CLASSES, BATCH = 200, 6, 3, 20
ENDS = {"train": 120, "validation": 160, "test": EXAMPLES}  # of each split, one after another
EPOCHS, REFINED = 3, 2


class Walked(list[tuple[Tensor, Tensor]]):
    """Batches that count their passes."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]], count: Callable[[], None]):
        super().__init__(batches)
        self._count = count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._count()
        return super().__iter__()


def counted() -> dict[str, int]:
    """What one compression does, by kind: how often."""
    counts: Counter[str] = Counter()
    searching = [False]

    def counting(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            counts[f"{name} in the search" if searching[0] else name] += 1
            return work(*arguments, **more)

        return counted

    def search(*arguments: Any, **more: Any) -> Any:
        searching[0] = True
        try:
            return rewrite(*arguments, **more)
        finally:
            searching[0] = False

    def copying(value: Any, memo: Any = None, *more: Any) -> Any:
        if isinstance(value, nn.Module) and not memo:
            counts["network copies"] += 1
        return deepcopy(value, memo, *more)

    deepcopy, rewrite = copy.deepcopy, driver.rewrite
    with ExitStack() as patches:
        for name in ("encode", "decode"):
            own = getattr(container, name)
            for module in _bound(name, own):
                patches.enter_context(patch.object(module, name, counting(f"{name}s", own)))
        patches.enter_context(patch.object(driver, "rewrite", search))
        patches.enter_context(patch.object(copy, "deepcopy", copying))
        net, splits = _given(counts)
        sws.compress(
            net,
            splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            prior=sws.SpikeAndSlabs(slabs=4),
            tau=0.001,
            epochs=EPOCHS,
            refinement=sws.Refinement(epochs=REFINED),
        )
    return dict(sorted(counts.items()))


def _bound(name: str, function: Callable) -> list[Any]:
    """The package's modules in which this function goes by its name."""
    modules = [m for key, m in list(sys.modules.items()) if key.partition(".")[0] == "pyro_sws"]
    return [module for module in modules if vars(module).get(name) is function]


def _given(counts: Counter[str]) -> tuple[nn.Module, dict[str, Walked]]:
    """A network that was trained a little, and its data."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(EXAMPLES, FEATURES, generator=generator)
    targets = inputs[:, :CLASSES].argmax(1)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(FEATURES, 16), nn.ReLU(), nn.Linear(16, CLASSES))
    adam = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(200):
        adam.zero_grad()
        nn.functional.cross_entropy(net(inputs), targets).backward()
        adam.step()
    splits, first = {}, 0
    for name, end in ENDS.items():
        rows = [(inputs[i : i + BATCH], targets[i : i + BATCH]) for i in range(first, end, BATCH)]

        def passed(name: str = name) -> None:
            counts[f"passes over {name}"] += 1

        splits[name], first = Walked(rows, passed), end
    return net, splits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS / "counted_work.json")
    arguments = parser.parse_args()
    counts = counted()
    for name, count in counts.items():
        print(f"{count:3}  {name}")
    write_json(arguments.out, {**provenance(), "counts": counts})


if __name__ == "__main__":
    main()
