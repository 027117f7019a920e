"""Examples in two parts: what the curvature is learnt from, and what files are judged on."""

from collections.abc import Iterable

from pyro_sws.inference.batches import Batch, pairs

HELD_OUT = 4  # one of so many examples is


def parted(batches: Iterable, most: int) -> tuple[list[Batch], list[Batch]]:
    """About ``most`` examples in all: of each batch the last quarter is judged on.

    Of batches that are smaller than that whole ones are, every fourth; of one example, itself.
    """
    learnt: list[Batch] = []
    judged: list[Batch] = []
    seen = 0
    for i, (inputs, targets) in enumerate(pairs(batches, "train")):
        if seen >= most:
            break
        held = len(inputs) // HELD_OUT
        if held:
            learnt.append((inputs[:-held], targets[:-held]))
            judged.append((inputs[-held:], targets[-held:]))
        else:
            (judged if i % HELD_OUT == HELD_OUT - 1 else learnt).append((inputs, targets))
        seen += len(inputs)
    return learnt, judged or learnt
