"""Text as windows of characters: the plays of "tinyshakespeare". Numpy and torch.

The file is Karpathy's, 1,115,394 characters of 65 kinds; files.py says where it is looked for.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .files import DataSet, Download, locate, read, sha256
from .splits import Splits

CHARACTERS = 65  # distinct ones
WINDOW = 64  # characters that a network sees at once
FILE = "tinyshakespeare.txt"
TEXT = DataSet(
    f"{FILE}, the input.txt of char-rnn's tinyshakespeare",
    ("text",),
    {
        FILE: Download(
            "https://raw.githubusercontent.com/karpathy/char-rnn/"
            "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            sha256,
        )
    },
)


def shakespeare(
    test: float = 0.05,
    validation: float = 0.05,
    window: int = WINDOW,
    data_dir: str | Path | None = None,
) -> Splits:
    """Codes (N, window) int64, and each character's next one, of the same shape.

    In the order of the text: what is trained on, then the share ``validation``, then the share
    ``test``. Codes are ranks among the text's characters. Raises ValueError for another text,
    for shares that leave nothing to train on, and for a window longer than a part.
    """
    if not (0 < test < 1 and 0 <= validation < 1 and test + validation < 1):
        raise ValueError(
            f"test={test} and validation={validation}: give shares of the text, the first more "
            "than 0, that leave some to train on"
        )
    text = read(locate(TEXT, data_dir)[FILE]).decode()
    known = sorted(set(text))
    if len(known) != CHARACTERS:
        raise ValueError(
            f"{FILE} has {len(known)} distinct characters, not {CHARACTERS}: another text, or "
            "damaged; fetch it again"
        )
    codes = {character: code for code, character in enumerate(known)}
    coded = np.array([codes[character] for character in text])
    first = int((1 - test - validation) * len(coded))
    second = first + int(validation * len(coded))
    parts = {"train": coded[:first], "validation": coded[first:second], "test": coded[second:]}
    there = {name: part for name, part in parts.items() if len(part)}
    most = min(map(len, there.values())) - 1
    if not 1 <= window <= most:
        raise ValueError(f"window={window}: give 1 to {most}, as the shortest part has")
    return {name: windows(part, window) for name, part in there.items()}


def windows(codes: np.ndarray, window: int = WINDOW) -> tuple[Tensor, Tensor]:
    """Windows side by side, without overlap, and the same one character later."""
    count = (len(codes) - 1) // window
    inputs, targets = (codes[i : i + count * window].reshape(count, window) for i in (0, 1))
    return torch.from_numpy(inputs.copy()), torch.from_numpy(targets.copy())
