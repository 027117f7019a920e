"""Where a model computes, and in which precision: checked before anything is moved there."""

import torch

from pyro_sws.inference.plain_numbers import shown


def check_device(device: torch.device | str | None) -> None:
    """Raise ValueError where nothing can be computed on the device."""
    try:
        meta = torch.empty(0, device=device).is_meta
        reason = "its tensors have no values"
    except (RuntimeError, AssertionError, TypeError) as error:
        meta, reason = True, str(error).splitlines()[0]
    if meta:
        raise ValueError(
            f"device: cannot compute on {device!r} ({reason}); use 'cpu', or leave it out"
        )


def check_dtype(dtype: torch.dtype | None) -> None:
    """Raise ValueError for a precision that no fit can be in."""
    if dtype is not None and dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {shown(dtype)}")
