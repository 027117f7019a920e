"""A search over the recipe of a few weights, validation data held out, the test split a trap."""

from small_recipe import write_recipe

HELD_OUT = """
import torch

class Trap:
    def refuse(self, *args):
        raise AssertionError("the test split was looked at")

    __len__ = __iter__ = __getitem__ = __getattr__ = __bool__ = __eq__ = refuse

def points(count=60):
    inputs = torch.randn(count + 20, 4, generator=torch.Generator().manual_seed(0))
    targets = inputs[:, :3].argmax(1)
    return {
        "train": (inputs[20:], targets[20:]),
        "validation": (inputs[:20], targets[:20]),
        "test": (inputs[:20], targets[:20]),
    }

def guarded():
    return points() | {"test": Trap()}

def nothing_held_out():
    return {"train": points()["train"]}
"""
SPACE = {
    "tau": {"low": 0.001, "high": 0.1, "log": True},
    "prior.0.slabs": {"low": 2, "high": 8},
    "rates.weights": {"low": 0.01, "high": 0.1, "log": True},
}
TRAINED = {  # well enough for trials to differ
    "data": "held_out.py:guarded",
    "epochs": 4,
    "pretraining": {"epochs": 10, "batch_size": 20, "rate": 0.03},
}


def write_search(folder, space=SPACE, search=None, **changes):
    """The path of a recipe with [search]."""
    changes = {**TRAINED, "search": {"space": space, **(search or {})}, **changes}
    path = write_recipe(folder, **changes)
    (folder / "held_out.py").write_text(HELD_OUT)
    return path
