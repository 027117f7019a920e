"""The closed forms on rows of weights as one function that torch.compile turns into a kernel."""

import functools
import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_sws.weights.density.blocks import LOG_2, SMALLEST_EXPONENT, Components, DensityResult

# The kernel's sums over a row stay short: exact, and a plain loop in what Inductor writes.
ROW = 1024

# So many rows' buffers (numbers of all components) stay in cache and are reused by the allocator.
# No power of two: buffers so far apart would evict each other, at half the speed.
ROWS_AT_ONCE = {"cpu": 52, "cuda": 1024}

# The kernel is unrolled over the components: more would take minutes to compile.
MOST_COMPONENTS = 32

# Never enable_unsafe_math_opt_flag: linked by gcc < 13, it makes the process flush denormals.
OPTIONS: dict[str, dict[str, str | int | bool | Callable]] = {
    "cpu": {
        "cpp.enable_floating_point_contract_flag": "fast",
        "cpp.max_horizontal_fusion_size": 1000,
    },
}

# Numbers of components, dtypes and devices each make a kernel of the same function.
MOST_KERNELS = 256

_log = logging.getLogger("pyro_sws")
_failures: dict[str, str] = {}
_compiled: set[tuple[int, bool, bool, torch.dtype, str]] = set()


def row_sums(
    w: Tensor,
    offsets: Tensor | None,
    means: Tensor,
    scales: Tensor,
    constants: Tensor,
    summed: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """log2 densities (R, C) or (R,), their gradients in nats (R, C), sums of the moments (3 J, R).

    w (R, C) and the first component's offsets in nats, if any; the rest (J,). With offsets also its
    responsibilities (R, C). The formulas of blocks.add_block, unrolled for the compiler.
    """
    smallest = SMALLEST_EXPONENT[w.dtype] / LOG_2
    j = range(len(means))
    residuals = [(w - means[k]) * scales[k] for k in j]
    joints = [constants[k] - residuals[k] * residuals[k] for k in j]
    if offsets is not None:
        joints[0] = joints[0] + offsets * (1 / LOG_2)
    top = functools.reduce(torch.maximum, joints)
    densities = [torch.exp2((joint - top).clamp_min(smallest)) for joint in joints]
    firsts = [densities[k] * residuals[k] for k in j]
    normaliser = functools.reduce(torch.add, densities)
    slope = functools.reduce(torch.add, [firsts[k] * scales[k] for k in j])
    share = 1 / normaliser
    counts = [(densities[k] * share).sum(1) for k in j]
    seconds = [(firsts[k] * residuals[k] * share).sum(1) for k in j]
    moments = counts + [(firsts[k] * share).sum(1) for k in j] + seconds
    values = top + normaliser.log2()
    gradient = slope * share * (-2 * LOG_2)
    first = None if offsets is None else densities[0] * share
    return values.sum(1) if summed else values, gradient, torch.stack(moments), first


def add_rows(
    result: DensityResult, w: Tensor, components: Components, offsets: Tensor | None = None
) -> int:
    """Add as many of w's first weights as make whole rows; how many those were.

    Raises what the compiler raises.
    """
    done = 0
    parts = _groups(_rows(w))
    tilts = [None] * len(parts) if offsets is None else _groups(_rows(offsets))
    for part, tilt in zip(parts, tilts, strict=True):
        summed = result.values is None
        values, gradient, moments, first = _call(part, components, summed, tilt)
        here = slice(done, done + part.numel())
        result.total.add_(values.sum(dtype=torch.float64))
        if result.values is not None:
            torch.mul(values.view(-1), LOG_2, out=result.values[here])
        if result.w_gradient is not None:
            result.w_gradient[here] = gradient.view(-1)
        if result.sums is not None:
            result.sums.add_(moments.sum(1, dtype=torch.float64).view(3, -1))
        if result.first is not None and first is not None:
            result.first[here] = first.view(-1)
        done = here.stop
    return done


def _rows(w: Tensor) -> Tensor:
    """The first weights of w (N,) in whole rows; none rather than one, a size that specialises."""
    rows = len(w) // ROW
    return w[: rows * ROW if rows > 1 else 0].view(-1, ROW)


def _groups(rows: Tensor) -> list[Tensor]:
    """The rows in groups that fit the cache, none of which is of one row."""
    groups = -(-len(rows) // ROWS_AT_ONCE.get(rows.device.type, ROWS_AT_ONCE["cpu"]))
    return list(rows.tensor_split(groups)) if groups else []


def failure(components: int, dtype: torch.dtype, device: torch.device) -> str | None:
    """Why weights of this kind cannot be compiled, or None; compiles if that is not yet known."""
    if components > MOST_COMPONENTS:
        return f"{components} components, and a kernel is compiled for up to {MOST_COMPONENTS}"
    if device.type in _failures or (components, True, False, dtype, device.type) in _compiled:
        return _failures.get(device.type)
    try:
        with torch.no_grad():
            ones = [torch.ones(components, dtype=dtype, device=device) for _ in range(3)]
            _call(torch.zeros(2, ROW, dtype=dtype, device=device), Components(*ones))
    except Exception as error:  # whatever stops the compiler, the portable way remains
        remember_failure(device.type, error)
    return _failures.get(device.type)


def remember_failure(device: str, error: Exception) -> None:
    """For the rest of the process, no compiling for this device; said once in the log.

    Running out of memory says nothing about the compiler: that is raised again.
    """
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        raise error
    reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    if not _failures:
        _log.warning("torch.compile is not used for the weights' density: %s", reason)
    _failures.setdefault(device, reason)


def _call(
    rows: Tensor, components: Components, summed: bool = True, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """row_sums, compiled."""
    kind = (len(components), summed, offsets is not None, rows.dtype, rows.device.type)
    kernel = _kernel(rows.device.type)
    # Detached, and no two the same: what is compiled depends on both, and one kernel is enough.
    tensors = (rows, offsets, components.means, components.scales, components.constants)
    arguments = (*(None if t is None else t.detach() for t in tensors), summed)
    if kind in _compiled:
        return kernel(*arguments)
    from torch._dynamo import config, mark_dynamic

    limit = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    for rows_of in arguments[: 1 if offsets is None else 2]:
        mark_dynamic(rows_of, 0)
    with warnings.catch_warnings(), config.patch({limit: MOST_KERNELS}):
        warnings.simplefilter("ignore")
        sums = kernel(*arguments)
    _compiled.add(kind)
    return sums


@functools.cache
def _kernel(device: str) -> Callable[..., tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    return torch.compile(row_sums, fullgraph=True, options=OPTIONS.get(device))
