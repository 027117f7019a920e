"""Splits of a data set: what is held out of the training examples. Torch only."""

from torch import Tensor

Splits = dict[str, tuple[Tensor, Tensor]]  # "train", "test", "validation": inputs and targets


def hold_out(train: tuple[Tensor, Tensor], rows: int) -> Splits:
    """The last `rows` of the training set become the validation set; with none, there is none."""
    if rows == 0:
        return {"train": train}
    inputs, targets = train
    return {
        "train": (inputs[:-rows], targets[:-rows]),
        "validation": (inputs[-rows:], targets[-rows:]),
    }


def check_rows(name: str, rows: int, at_least: int, fewer_than: int) -> None:
    if not isinstance(rows, int) or not at_least <= rows < fewer_than:
        allowed = f"a whole number of rows from {at_least} to {fewer_than - 1}"
        raise ValueError(f"{name}={rows!r}: give {allowed}, so that some are left to train on")
