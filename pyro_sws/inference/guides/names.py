"""Names of guides in Pyro's parameter store: a guide's own, so that none starts from another's."""

import itertools
import re
import weakref

import pyro
from torch import nn

_NUMBERED = re.compile(r"((?:delta|gaussian)_guide_\d+)\.")
_numbers = {kind: itertools.count() for kind in ("delta_guide", "gaussian_guide")}
_made: dict[str, weakref.ref[nn.Parameter]] = {}  # by name in the store; of this process's guides


def guide_name(kind: str, name: str | None) -> str:
    """The name that is asked for, or one that no other guide of this process has."""
    if name is None:
        return f"{kind}_{next(_numbers[kind])}"
    if not name or _NUMBERED.match(f"{name}."):
        raise ValueError(f"name must be a word of your own, such as 'lenet', got {name!r}")
    return name


def check_store(name: str) -> None:
    """Raise ValueError where the store has loaded values of a guide, and not of the one so named.

    They would lie there unused. What another guide of this process left behind is no such thing.
    """
    if not _NUMBERED.match(f"{name}."):
        return
    loaded = set()
    for key, value in pyro.get_param_store()._params.items():
        owner = _NUMBERED.match(key)
        if owner is not None and (key not in _made or _made[key]() is not value):
            loaded.add(owner[1])
    if loaded and name not in loaded:
        raise ValueError(
            f"Pyro's parameter store has loaded values of {', '.join(sorted(loaded))}; this guide "
            f"is {name} and would not use them. Give guides a name, such as "
            "delta_guide(model, name='lenet'), before saving and the same one after loading; or "
            "call pyro.clear_param_store()"
        )


def remember(name: str, guide: nn.Module) -> None:
    """Note that these parameters are made here, and not loaded."""
    for own, parameter in guide.named_parameters():
        _made[f"{name}.{own.removesuffix('_unconstrained')}"] = weakref.ref(parameter)
