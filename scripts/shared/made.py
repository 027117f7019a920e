"""Made examples, drawn at random, of the shapes that networks of models/ take: for smoke runs."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from models.shakespeare import CHARACTERS, WINDOW
from models.splits import Splits
from models.spoken_digits import BANDS, FRAMES
from pyro_sws.inference.isolation import forked_rng

Example = tuple[Tensor, Tensor]
EXAMPLES = {"train": 96, "validation": 48, "test": 48}
CLASSES = 10  # of digits, written and spoken, and of CIFAR-10
CIFAR = 3, 32, 32
# Recipe -> the function here that makes its data, and its arguments.
RECIPES = {
    "diabetes": "table",
    "protein": "table, inputs = 9",
    "resnet_20": "images",
    "shakespeare_gru": "text",
    "shakespeare_transformer": "text",
    "spoken_digits_cnn": "sounds",
    "spoken_digits_gru": "sounds",
    "wide_resnet_16_4": "images",
}


def instead(recipe: str) -> str:
    """The change of a recipe that puts made data in the place of its own."""
    function, comma, arguments = RECIPES[recipe].partition(",")
    return f'data={{source = "{Path(__file__).resolve()}:{function}"{comma}{arguments}}}'


def sounds(data_dir: str | None = None) -> Splits:
    return made(partial(labelled, (BANDS, FRAMES), CLASSES))


def text(data_dir: str | None = None) -> Splits:
    return made(written)


def table(inputs: int = 10, data_dir: str | None = None) -> Splits:
    return made(partial(measured, inputs))


def images(data_dir: str | None = None) -> Splits:
    return made(partial(labelled, CIFAR, CLASSES))


def made(make: Callable[[int], Example]) -> Splits:
    """The same at every call."""
    with forked_rng(0, torch.device("cpu")):
        return {name: make(examples) for name, examples in EXAMPLES.items()}


def labelled(shape: tuple[int, ...], classes: int, examples: int) -> Example:
    """So many random inputs of a shape, and labels."""
    return torch.randn(examples, *shape), torch.randint(classes, (examples,))


def measured(inputs: int, examples: int) -> Example:
    """So many random inputs, and the first of them as a target."""
    values = torch.randn(examples, inputs)
    return values, values[:, :1]


def written(examples: int) -> Example:
    """So many windows of random characters, and each one's next."""
    codes = torch.randint(CHARACTERS, (examples, WINDOW + 1))
    return codes[:, :-1], codes[:, 1:]
