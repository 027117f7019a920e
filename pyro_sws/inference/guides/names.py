"""Names of guides in Pyro's parameter store: a guide's own, so that none starts from another's."""

import itertools
import re
import weakref

import pyro
from torch import Tensor, nn

_OURS = re.compile(r"((?:delta|gaussian)_guide_[A-Za-z0-9_-]+)\.")
_numbers = {kind: itertools.count() for kind in ("delta_guide", "gaussian_guide")}
_made: dict[str, weakref.ref[nn.Parameter]] = {}  # by name in the store; of this process's guides


def guide_name(kind: str, name: str | None) -> str:
    """The name in the store: of the one that is asked for, or one that no other guide here has."""
    if name is None:
        return f"{kind}_{next(_numbers[kind])}"
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name.isdigit():
        raise ValueError(
            f"name must be letters, digits, '_' or '-' and no number, such as 'lenet', got {name!r}"
        )
    return f"{kind}_{name}"


def check_store(name: str) -> None:
    """Raise ValueError where the store has loaded values of a guide, and not of the one so named.

    They would lie there unused. What another guide of this process left behind, or took up from
    what was loaded, is no such thing.
    """
    loaded = set()
    for key, value in pyro.get_param_store()._params.items():
        owner = _OURS.match(key)
        if owner is not None and (key not in _made or _made[key]() is not value):
            loaded.add(owner[1])
    if loaded and name not in loaded:
        raise ValueError(
            f"Pyro's parameter store has loaded values of {', '.join(sorted(loaded))}, which this "
            f"guide, {name}, would not use. Give guides a name, such as delta_guide(model, "
            "name='lenet'), before saving and the same one after loading, and run those that were "
            "saved first; or call pyro.clear_param_store()"
        )


def check_shape(name: str, site: str, stored: Tensor, own: Tensor) -> None:
    """Raise ValueError where the store's value of a site is not of this guide's model."""
    if stored.shape != own.shape:
        raise ValueError(
            f"Pyro's parameter store has {name}'s {site} of shape {tuple(stored.shape)}, and this "
            f"model's is {tuple(own.shape)}; give the guide another name=, or call "
            "pyro.clear_param_store()"
        )


def remember(name: str, guide: nn.Module) -> None:
    """Note that these parameters are made here, and not loaded."""
    for own, parameter in guide.named_parameters():
        _made[f"{name}.{own.removesuffix('_unconstrained')}"] = weakref.ref(parameter)


def loaded_for(guide: object) -> dict:
    """A state of Pyro's store: copies of what the caller's has for a guide that has not run yet."""
    state: dict = {"params": {}, "constraints": {}}
    name = getattr(guide, "_pyro_name", "")
    if not _OURS.match(f"{name}.") or getattr(guide, "prototype_trace", None) is not None:
        return state
    store = pyro.get_param_store()
    for key, value in store._params.items():
        if key.startswith(f"{name}."):
            state["params"][key] = value.detach().clone().requires_grad_()
            state["constraints"][key] = store._constraints[key]
    return state
