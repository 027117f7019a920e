"""The plain C loop of c_loop.c, compiled with the machine's compiler and called by ctypes."""

import ctypes
import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".c")
OPTIONS = ("-O3", "-march=native", "-ffast-math", "-fPIC")
BLOCK = 256  # as in the source


class CLoop:
    """(w, means, precisions, log_proportions) -> value and gradients, as the other ways."""

    def __init__(self, library: Path):
        self._call = ctypes.CDLL(str(library)).density
        self._call.restype = ctypes.c_double

    def __call__(
        self, w: Tensor, means: Tensor, precisions: Tensor, log_proportions: Tensor
    ) -> tuple[Tensor, ...]:
        constants = log_proportions + 0.5 * (precisions / (2 * math.pi)).log()
        w_gradient = torch.empty_like(w)
        sums = torch.empty(3, len(means), dtype=torch.float64)
        scratch = w.new_empty(len(means), BLOCK)
        value = self._call(
            _address(w),
            ctypes.c_int64(len(w)),
            _address(means),
            _address(precisions),
            _address(constants),
            ctypes.c_int(len(means)),
            _address(w_gradient),
            _address(sums),
            _address(scratch),
        )
        count, first, second = sums
        gradients = precisions * first, 0.5 * (count / precisions - second), count
        return torch.tensor(value, dtype=w.dtype), w_gradient, *(g.to(w.dtype) for g in gradients)


def _address(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def compile_loop(folder: Path) -> Mapping[torch.dtype, CLoop]:
    """The loop by dtype; empty, and said so, where there is no compiler."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        print("no C compiler: the row c_loop is left out")
        return {}
    loops = {}
    for dtype, defined in {torch.float32: (), torch.float64: ("-DDOUBLE",)}.items():
        library = folder / f"density_{dtype.itemsize}.so"
        compiled = library.with_suffix(".o")
        subprocess.run(
            [compiler, *OPTIONS, *defined, "-c", str(SOURCE), "-o", str(compiled)], check=True
        )
        # Linked without -ffast-math: with it gcc < 13 makes the whole process flush denormals, and
        # that would speed up the ways beside which the loop is measured.
        subprocess.run([compiler, "-shared", str(compiled), "-o", str(library), "-lm"], check=True)
        loops[dtype] = CLoop(library)
    if (torch.tensor([1e-40]) * 1 == 0).item():
        raise RuntimeError("the process flushes denormals: no way would be measured as it is")
    return loops
