"""Networks that divide by their own weights: a row, or a tensor, that snaps to 0 gives 0 / 0.

Weight norm, spectral norm, cosine layers without a least norm: found by trying, not by name.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from pyro_sws.inference.batches import Part, moved
from pyro_sws.inference.evaluation import device_dtype
from pyro_sws.inference.finite import defined
from pyro_sws.inference.first_batch import fewest, starting_weights
from pyro_sws.inference.isolation import forked_rng, pyro_step
from pyro_sws.inference.joint import Joint
from pyro_sws.weights.structures import tensors_in

EXAMPLES = 2  # that are run for each tensor
MOST_ROWS = 5  # that are named


def zero_divisors(model: Joint, inputs: Part) -> list[str]:
    """A sentence for each covered tensor that the network cannot have at 0, and what to do.

    ``inputs`` (B, ...), of which a few are run, once for each tensor, with all of it at 0. None are
    found where the inputs, or the network's outputs as it is, are not finite.
    """
    device, dtype = device_dtype(model)
    ((inputs, _),) = moved([(inputs, inputs)], "inputs", device, dtype)
    few = inputs[: fewest(model, inputs, EXAMPLES)]
    weights = starting_weights(model)
    with forked_rng(0, device), torch.no_grad():
        if not all(x.isfinite().all() for x in tensors_in(few)) or not _finite(model, weights, few):
            return []  # 0 times an infinite input is NaN, whatever divides
        return [
            f"{name} is divided by its own size ({_how(model, name)}): where {_what(model, name)} "
            "snaps to 0 the outputs are 0 / 0; remove that parametrisation before compressing, or "
            "leave the tensor out of the prior"
            for name, values in weights.items()
            if not _finite(model, weights | {name: torch.zeros_like(values)}, few)
        ]


def zero_rows(weights: Mapping[str, Tensor]) -> str:
    """What an error says of the rows (first dimension) of matrices that are 0; "" for none."""
    found = list(_zero_rows(weights))
    if not found:
        return ""
    shown = ", ".join(found[:MOST_ROWS])
    more = f" and {len(found) - MOST_ROWS} more tensors" if len(found) > MOST_ROWS else ""
    return (
        f"; rows of zeros are in {shown}{more}: a layer that divides by the size of its rows, such "
        "as weight_norm, makes 0 / 0 of them"
    )


def _zero_rows(weights: Mapping[str, Tensor]) -> Iterator[str]:
    for name, values in weights.items():
        if values.dim() < 2:
            continue
        rows = (values.flatten(1) == 0).all(1).nonzero().flatten().tolist()
        if rows:
            shown = ", ".join(map(str, rows[:MOST_ROWS])) + ", ..." * (len(rows) > MOST_ROWS)
            yield f"{name} ({len(rows)} of {len(values)}: {shown})"


def _finite(model: Joint, weights: Mapping[str, Tensor], inputs: Part) -> bool:
    with pyro_step():
        return bool(defined(model.outputs(weights, inputs), model.likelihood).all())


def _how(model: Joint, name: str) -> str:
    """The mechanism, as far as torch's names tell it."""
    place, _, tensor = name.rpartition(".")
    if place.endswith(".parametrizations.weight") or ".parametrizations." in f".{place}":
        return "a parametrization such as weight_norm or spectral_norm"
    hooks = model.net.get_submodule(place)._forward_pre_hooks.values()
    known = sorted(type(hook).__name__ for hook in hooks)
    return ", ".join(known) if known else "in the network's own code"


def _what(model: Joint, name: str) -> str:
    return "a row of it, or all of it," if _dimensions(model, name) > 1 else "all of it"


def _dimensions(model: Joint, name: str) -> int:
    shapes = {n: shape for group in model.groups.values() for n, shape in group.shapes.items()}
    return len(shapes[name])
