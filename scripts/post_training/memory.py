"""The most memory that a process held while something ran. Standard library; Linux, else None."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
FORGET_THE_PEAK = "5"  # what the kernel wants written there


def peak_megabytes(call: Callable[[], Any]) -> tuple[Any, float | None]:
    """The call's result, and the resident memory that it took beyond what there was before."""
    try:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before would be used again, unseen
        RESET.write_text(FORGET_THE_PEAK)
        before = _kilobytes("VmRSS")
    except (OSError, AttributeError):
        return call(), None
    result = call()
    return result, round((_kilobytes("VmHWM") - before) * 1024 / 1e6, 1)


def _kilobytes(field: str) -> int:
    lines = STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))
