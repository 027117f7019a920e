"""A group's variables entry by entry: every scalar's label and its draws. numpy and xarray."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import xarray as xr

from pyro_sws.assess.draws.inference_data import SAMPLE_DIMS


@dataclass(frozen=True, eq=False)
class ScalarDraws:
    """E scalars: labels such as "means[2]", and values (chain, draw, E) in doubles."""

    labels: tuple[str, ...]
    values: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """The draws of all chains, one after the other; (S, E)."""
        return self.values.reshape(-1, len(self.labels))


def scalar_draws(
    tree: xr.DataTree, var_names: Sequence[str] | None = None, group: str = "posterior"
) -> ScalarDraws:
    """The scalars of ``var_names``, by default of all variables of the group, in their order.

    Raises ValueError for a group or variable that the tree does not have, and for draws that are
    not finite.
    """
    dataset = group_of(tree, group)
    names = [str(name) for name in dataset.data_vars] if var_names is None else list(var_names)
    labels, values = [], []
    for name in names:
        if name not in dataset.data_vars:
            known = ", ".join(map(str, dataset.data_vars))
            raise ValueError(f"group {group!r} has no variable {name!r}; choose from {known}")
        array = dataset[name].transpose(*SAMPLE_DIMS, ...)
        draws = array.values.astype(float)
        if not np.isfinite(draws).all():
            count = np.count_nonzero(~np.isfinite(draws))
            raise ValueError(f"{group}[{name!r}] has {count} entries that are not finite")
        labels += _labels(name, array)
        values.append(draws.reshape(*draws.shape[:2], -1))
    if not labels:
        raise ValueError(f"no variables of group {group!r} were chosen; name at least one")
    return ScalarDraws(tuple(labels), np.concatenate(values, axis=2))


def group_of(tree: xr.DataTree, group: str) -> xr.Dataset:
    """A group of the tree. Raises ValueError, naming those that are there, where it is absent."""
    if group not in tree.children:
        known = ", ".join(tree.children) or "none"
        raise ValueError(f"the tree has no group {group!r}; its groups: {known}")
    return tree[group].to_dataset()


def check_spread(tree: xr.DataTree, wanted: str) -> None:
    """Raise ValueError, saying what was ``wanted``, where the posterior is a point."""
    sizes = group_of(tree, "posterior").sizes
    chains, draws = (sizes[dim] for dim in SAMPLE_DIMS)
    method = tree.attrs.get("inference_method")
    if method == "delta" or chains * draws == 1:
        raise ValueError(
            f"a point has no spread: {wanted} would mean nothing here (inference_method "
            f"{method!r}, {chains} x {draws} draws); fit with a guide that has draws, or run NUTS"
        )


def _labels(name: str, array: xr.DataArray) -> list[str]:
    """As ArviZ writes them: "means[2]", "weights[0, spike]"."""
    along = [array[dim].values for dim in array.dims[2:]]
    if not along:
        return [name]
    return [f"{name}[{', '.join(map(str, entry))}]" for entry in product(*along)]
