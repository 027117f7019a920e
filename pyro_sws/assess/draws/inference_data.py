"""Results as one tree of named, labelled arrays, and ArviZ's own form of it. numpy and xarray.

Neither torch nor Pyro is imported here: whoever holds arrays of draws can use ArviZ by this file.
ArviZ 0.23 (the last for Python 3.11) wants an InferenceData, ArviZ 1 an xarray.DataTree. The tree
is ours, built without either, so that a file and an analysis are the same under both.
"""

import os
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from pyro_sws.files import write_whole

SAMPLE_DIMS = ("chain", "draw")
ALONGSIDE = ("log_likelihood", "log_prior", "sample_stats")  # a value for each posterior draw
DRAWN = (
    "posterior",
    "prior",
    "posterior_predictive",
    "prior_predictive",
    *ALONGSIDE,
)
FIXED = ("observed_data", "constant_data", "point_estimate")
ENGINE: Final = "h5netcdf"
# What HDF5's readers raise of a damaged file, beside OSError; which one depends on the place.
DAMAGED = (KeyError, ValueError, RuntimeError, TypeError, AttributeError, IndexError)


def inference_data(
    groups: Mapping[str, Mapping[str, ArrayLike]],
    *,
    inference_method: str,
    tau: float = 1.0,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, ArrayLike] | None = None,
    versions: Mapping[str, str] | None = None,
    created_at: str | None = None,
) -> xr.DataTree:
    """Group -> variable -> array, as a tree; the arrays are shared, not copied.

    Groups of draws (``DRAWN``) have arrays (chain, draw, ...), the others (``FIXED``) arrays of any
    shape. ``dims`` names a variable's further dimensions, in every group that has it; without,
    they are ``<variable>_dim_0`` and so on, as in ArviZ. ``coords`` labels the entries along a
    dimension.

    ``inference_method`` says where the draws come from: "delta" for a point, "nuts", "hmc" or
    "mcmc" for Markov chains (R-hat is for those only), else the guide's name. ``tau`` is the weight
    that the complexity cost had. ``versions`` (library -> version) and ``created_at`` are kept as
    they are given; nothing here reads a clock. Raises ValueError, naming the variable, for a group
    that ArviZ does not know, and for arrays, dims and coords that do not go together.
    """
    dims, labels = (
        dims or {},
        {name: np.asarray(entries) for name, entries in (coords or {}).items()},
    )
    _check_attrs(inference_method, tau)
    _check_groups(groups)
    variables = {name for group in groups.values() for name in group}
    _check_known("dims", dims, variables, "variable")
    datasets = {name: _dataset(name, group, dims, labels) for name, group in groups.items()}
    used = {str(dim) for dataset in datasets.values() for dim in dataset.dims} - {*SAMPLE_DIMS}
    _check_known("coords", labels, used, "dimension")
    _check_alongside(datasets)
    tree = xr.DataTree.from_dict(datasets)
    tree.attrs = {"inference_method": inference_method, "tau": float(tau)}
    tree.attrs |= {f"{name}_version": version for name, version in (versions or {}).items()}
    if created_at is not None:
        tree.attrs["created_at"] = created_at
    return tree


def as_arviz(tree: xr.DataTree) -> Any:  # InferenceData is no type of ArviZ 1
    """The tree as the installed ArviZ takes it: an InferenceData before ArviZ 1, else as it is."""
    az = arviz()
    return az.from_datatree(tree) if before_1(az) else tree


def arviz() -> ModuleType:
    """ArviZ, imported when first needed: 0.23 loads pyplot, and once a day warns of ArviZ 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import arviz
    return arviz


def before_1(az: ModuleType) -> bool:
    """Whether this ArviZ is of the 0.x series, which has InferenceData instead of a DataTree."""
    return int(az.__version__.partition(".")[0]) < 1


def save_netcdf(tree: xr.DataTree, path: str | os.PathLike) -> None:
    """Write the tree to ``path``; on any failure what was there stays. OSError as write_whole."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "tree.nc")
        tree.to_netcdf(file, engine=ENGINE)
        write_whole(path, file.read_bytes())


def load_netcdf(path: str | os.PathLike) -> xr.DataTree:
    """The tree of a file, in memory; the file is closed. Raises OSError for any other file."""
    try:
        with xr.open_datatree(path, engine=ENGINE) as tree:
            return tree.load()
    except DAMAGED as error:
        raise OSError(f"{path}: no netCDF file, or damaged: {error}") from None


def _check_attrs(inference_method: str, tau: float) -> None:
    if not isinstance(inference_method, str) or not inference_method:
        raise ValueError(
            f"inference_method must be a name such as 'delta' or 'nuts', got {inference_method!r}"
        )
    if not 0 < tau < np.inf:
        raise ValueError(f"tau must be a finite number above 0, got {tau}")


def _check_groups(groups: Mapping[str, Mapping[str, ArrayLike]]) -> None:
    for name, group in groups.items():
        if name not in DRAWN + FIXED:
            raise ValueError(f"unknown group {name!r}; choose from {', '.join(DRAWN + FIXED)}")
        if not group:
            raise ValueError(f"group {name!r} has no variables; leave it out")


def _check_known(what: str, given: Iterable[str], known: set[str], kind: str) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{what} has {name!r}, but the {kind}s are {', '.join(sorted(known))}")


def _dataset(
    group: str,
    variables: Mapping[str, ArrayLike],
    dims: Mapping[str, Sequence[str]],
    coords: Mapping[str, np.ndarray],
) -> xr.Dataset:
    arrays: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    first: dict[str, tuple[int, str]] = {}  # dimension -> its length, and the variable that had it
    for name, values in variables.items():
        where, array = f"{group}[{name!r}]", np.asarray(values)
        names = _dims(where, name, array, group in DRAWN, dims)
        for dim, length in zip(names, array.shape, strict=True):
            expected, other = first.setdefault(dim, (length, name))
            if length != expected:
                raise ValueError(
                    f"{where} has shape {array.shape}: {length} along {dim!r}, where "
                    f"{other!r} has {expected}"
                )
        arrays[name] = names, array
    labels = {dim: _labels(group, dim, *first[dim], coords) for dim in first}
    return xr.Dataset(arrays, {dim: own for dim, own in labels.items() if own is not None})


def _dims(
    where: str, name: str, array: np.ndarray, drawn: bool, dims: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """All dimensions of a variable, in the order of its axes."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{where} must hold real numbers or truth values, got {array.dtype}")
    if "/" in name:
        raise ValueError(f"{where}: a name with '/' would be a group of a group; write '.'")
    lead = SAMPLE_DIMS if drawn else ()
    if drawn and (array.ndim < 2 or 0 in array.shape[:2]):
        raise ValueError(
            f"{where} has shape {array.shape}; draws are (chain, draw, ...), at least one of each: "
            "a single draw x is x[None, None]"
        )
    rest = array.ndim - len(lead)
    own = tuple(dims.get(name, (f"{name}_dim_{i}" for i in range(rest))))
    if len(own) != rest:
        after = " after (chain, draw)" if drawn else ""
        raise ValueError(
            f"{where} has {rest} dimensions{after}, shape {array.shape}; dims names {list(own)}"
        )
    if len({*own, *SAMPLE_DIMS, name}) != rest + 3:
        raise ValueError(
            f"dims[{name!r}] is {list(own)}; dimensions must differ from each other, from "
            "'chain' and 'draw', and from the variable"
        )
    return (*lead, *own)


def _labels(
    group: str, dim: str, length: int, name: str, coords: Mapping[str, np.ndarray]
) -> np.ndarray | None:
    """What stands along a dimension: chains and draws are counted, others may go without."""
    if dim in SAMPLE_DIMS:
        return np.arange(length)
    if dim in coords and coords[dim].shape != (length,):
        raise ValueError(
            f"coords[{dim!r}] has shape {coords[dim].shape}, but {group}[{name!r}] has {length} "
            f"entries along {dim!r}"
        )
    return coords.get(dim)


def _check_alongside(datasets: Mapping[str, xr.Dataset]) -> None:
    if "posterior" not in datasets:
        return
    expected = _counts(datasets["posterior"])
    for name in ALONGSIDE:
        if name in datasets and _counts(datasets[name]) != expected:
            raise ValueError(
                f"group {name!r} has {_counts(datasets[name])} chains and draws, the posterior "
                f"{expected}; it must have a value for each posterior draw"
            )


def _counts(dataset: xr.Dataset) -> tuple[int, ...]:
    return tuple(dataset.sizes[dim] for dim in SAMPLE_DIMS)
