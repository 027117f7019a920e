"""Raw tensors in fewer bytes: what no prior covers, rounded before a fit, the error known. Torch.

The network that is fitted has the rounded values, so that all that is measured of it is measured
with them. Statistics of folded batch norms take no room anyway, and stay.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from pyro_sws.codec.folded_norms import Shapes, split_raw, statistics_last
from pyro_sws.codec.raw_values import on_even_steps, on_patterns

ROUNDINGS = ("float16", "int8", "exact")
HALF_ERROR = 2.0**-11  # of each value, relative: float16's in its normal range
# Of eight bits. A variance is divided by: where all values have one sign, each is as exact as that.
ONE_SIGN_ERROR = 2.0**-5  # of each value, relative
BOTH_SIGNS_ERROR = 2.0**-4  # of the median magnitude: beside an outlier all others would be 0
LEAST = 9  # elements: eight bits a value, and where the grid lies, are then less than sixteen


def check_rounding(rounding: str) -> None:
    """Raise ValueError for an unknown way to round raw tensors."""
    if not isinstance(rounding, str) or rounding not in ROUNDINGS:
        raise ValueError(f"unknown raw {rounding!r}; choose from {', '.join(ROUNDINGS)}")


def rounded_raw(raw: Mapping[str, Tensor], coded: Shapes, rounding: str) -> dict[str, Tensor]:
    """The raw tensors that change, in the dtype in which a file is to have them.

    Args:
        raw: all raw tensors, floats in a dtype that numpy has.
        coded: shapes of the tensors that are not raw.
        rounding: "float16": floats of more than two bytes become float16 where each value keeps to
            HALF_ERROR; others stay. "int8": they become float32s of a grid of 256 values, which a
            file has in a byte each, where ONE_SIGN_ERROR or BOTH_SIGNS_ERROR is kept, and else as
            with "float16". "exact": none changes.
    """
    check_rounding(rounding)
    if rounding == "exact":
        return {}
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in raw.items()}
    own, _ = split_raw(statistics_last(arrays, coded), coded)
    found = {}
    for name, values in own.items():
        if values.dtype.kind != "f" or values.itemsize <= 2:
            continue
        stored = in_eight_bits(values) if rounding == "int8" else None
        stored = in_half(values) if stored is None else stored
        if stored is not None:
            found[name] = torch.from_numpy(stored).to(raw[name].device)
    return found


def in_half(values: np.ndarray) -> np.ndarray | None:
    """As float16; None where one of the values loses more than HALF_ERROR of itself."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        stored = values.astype(np.float16)
        same = (stored == values) | (np.isnan(stored) & np.isnan(values))
        error = np.abs(stored.astype(np.float64) - values)
        near = np.isfinite(stored) & (error <= HALF_ERROR * np.abs(values.astype(np.float64)))
    return stored if (same | near).all() else None


def in_eight_bits(values: np.ndarray) -> np.ndarray | None:
    """As float32s of the better one of two grids; None where neither is good, or worth it."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        single = np.ascontiguousarray(values.astype(np.float32))
    if single.size < LEAST or not np.isfinite(single).all():
        return None
    tried = [on_even_steps(single)]
    if (single > 0).all():
        tried.append(on_patterns(single))
    one_sign = bool((values >= 0).all() or (values <= 0).all())
    kept = [(_error(values, stored, one_sign), i) for i, stored in enumerate(tried)]
    error, best = min(kept)
    allowed = ONE_SIGN_ERROR if one_sign else BOTH_SIGNS_ERROR
    return tried[best] if error <= allowed else None


def _error(values: np.ndarray, stored: np.ndarray, relative: bool) -> float:
    """The largest: of each value itself, or of the median magnitude of those that are not 0."""
    wide = values.astype(np.float64)
    errors, sizes = np.abs(stored - wide), np.abs(wide)
    if not relative:
        return float(errors.max() / np.median(sizes[sizes > 0]))
    if (errors[sizes == 0] > 0).any():
        return np.inf
    return float((errors[sizes > 0] / sizes[sizes > 0]).max(initial=0.0))
