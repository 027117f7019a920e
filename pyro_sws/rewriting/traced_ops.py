"""Traced operations: which axes each ties together, keeps, mixes or fixes. Torch only.

ATen's operations, into which every network decomposes. The table is explicit: what is not in it
fixes the order of all that it touches, and nobody guesses.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pyro_sws.rewriting.axes import Axis, joined, product, regroup, split, tie

INPUT, OUTPUT, PLACES = "an input", "an output", "places, which have an order"
NATURAL = frozenset({INPUT, OUTPUT, PLACES})  # reasons that every network has

Axes = tuple[Axis, ...]


class NotUnderstoodError(Exception):
    """An operation whose arguments go beyond what its rule knows."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A tensor of the trace."""

    axes: Axes
    live: bool = True  # it depends on the inputs
    origin: str | None = None  # the stored tensor that it is, or is a view of
    uniform: bool = False  # all of its elements are one number

    def anew(self) -> "Seen":
        """For one more use: a uniform tensor ties nothing of one use to another's."""
        return replace(self, axes=_unlike(self.axes)) if self.uniform else self


@dataclass(frozen=True, eq=False)
class Call:
    """One operation with its arguments, tensors as ``Seen``."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: list[tuple[int, ...]]  # of its results
    used: frozenset[int]  # the results that anything takes
    reads: "Reads"

    def get(self, position: int, name: str, default: Any = None) -> Any:
        """An argument by its place or name."""
        if len(self.args) > position:
            return self.args[position]
        return self.kwargs.get(name, default)

    @property
    def tensors(self) -> list[Seen]:
        return [value for value in flat((self.args, self.kwargs)) if isinstance(value, Seen)]

    def only_first(self) -> None:
        """Raise NotUnderstoodError where results besides the first are taken."""
        if self.used - {0}:
            raise NotUnderstoodError


@dataclass(frozen=True, eq=False)
class Reads:
    """Which axes of stored tensors are summed over against something that depends on inputs."""

    stored: dict[str, Axes]
    reached: list[Axis] = field(default_factory=list)  # of tensors that depend on inputs
    warm: set[tuple[str, int]] = field(default_factory=set)
    cold: list[tuple[Axes, set[tuple[str, int]]]] = field(default_factory=list)

    def contract(self, one: Seen, i: int, other: Seen, j: int) -> None:
        """Sum over an axis that two tensors have."""
        first, second = one.axes[i], other.axes[j]
        tie(first, second)
        places = self._places(one, first) | self._places(other, second)
        if one.live and other.live:
            first.mix()
        elif not (one.live or other.live):
            # As by a recurrence's first state, which is a constant: the next may be another's sum.
            self.cold.append(((*one.axes, *other.axes), places))
        elif places:
            self.warm.update(places)
        else:
            first.mix()

    def settle(self) -> None:
        """Fix what is summed over against constants alone: other inputs may do more with it."""
        for axes, places in self.cold:
            for axis in axes if not places or not places <= self.warm else ():
                axis.pin("a product of constants")

    def _places(self, seen: Seen, axis: Axis) -> set[tuple[str, int]]:
        own = self.stored.get(seen.origin or "", ())
        return {(str(seen.origin), k) for k, other in enumerate(own) if other is axis}


def flat(value: Any) -> Iterator[Any]:
    """The leaves of nested tuples, lists and dicts."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for each in value:
            yield from flat(each)
    else:
        yield value


def apply(call: Call) -> list[Axes]:
    """The axes of an operation's results; what is not understood fixes all that it touches."""
    rule = RULES.get(call.name) or RULES.get(call.name.removesuffix("_"))
    changes_stored = call.name.endswith("_") and _first(call).origin is not None
    if rule is not None and not changes_stored:
        try:
            found = rule(call)
            results = found if isinstance(found, list) else [found]
            sizes = [tuple(axis.size for axis in axes) for axes in results]
            if all(i < len(sizes) and sizes[i] == call.shapes[i] for i in call.used):
                return [*results, *(fixed(s, call.name) for s in call.shapes[len(results) :])]
        except NotUnderstoodError:
            pass
    for seen in call.tensors:
        for axis in seen.axes:
            axis.pin(call.name)
    return [fixed(shape, call.name) for shape in call.shapes]


def keeps_origin(call: Call) -> bool:
    """Whether the result is the first tensor's own elements."""
    return call.name in VIEWS


def is_uniform(call: Call) -> bool:
    """Whether all of the result is one number."""
    if call.name in UNIFORM:
        return True
    return call.name in VIEWS and bool(call.tensors) and all(t.uniform for t in call.tensors)


def fixed(shape: Sequence[int], why: str) -> Axes:
    """Axes in a fixed order."""
    return tuple(Axis(size, why) for size in shape)


def _first(call: Call) -> Seen:
    return next(iter(call.tensors), Seen(()))


def _tensor(call: Call, position: int = 0) -> Seen:
    value = call.args[position] if len(call.args) > position else None
    if not isinstance(value, Seen):
        raise NotUnderstoodError
    return value


def _dim(call: Call, position: int = 1, default: int = 0) -> int:
    """A dimension of the first tensor, counted from the front."""
    dim = call.get(position, "dim", default)
    if not isinstance(dim, int):
        raise NotUnderstoodError
    return dim % max(1, len(_tensor(call).axes))


def _broadcast(tensors: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Axes of the same place, counted from the last, are tied unless they are of size 1."""
    found = []
    for back, size in zip(range(len(shape), 0, -1), shape, strict=True):
        here = [axes[-back] for axes in tensors if len(axes) >= back and axes[-back].size == size]
        for other in here[1:]:
            tie(here[0], other)
        found.append(here[0] if here else Axis(size))
    return tuple(found)


def _elementwise(call: Call) -> list[Axes]:
    axes = _broadcast([seen.axes for seen in call.tensors], call.shapes[0])
    return [axes] * len(call.shapes)


def _uniform(call: Call) -> Axes:
    """Every element is the same number, so that any order is."""
    return tuple(Axis(size) for size in call.shapes[0])


def _unlike(axes: Axes) -> Axes:
    return tuple(Axis(axis.size) for axis in axes)


def _reshape(call: Call) -> Axes:
    axes, shape = _tensor(call).axes, call.shapes[0]
    if [a.size for a in axes if a.size != 1] == [size for size in shape if size != 1]:
        kept = iter([axis for axis in axes if axis.size != 1])
        return tuple(next(kept) if size != 1 else Axis(1) for size in shape)
    return tuple(regroup(axes, shape))


def _permute(call: Call) -> Axes:
    axes = _tensor(call).axes
    if call.name.startswith("permute"):
        return tuple(axes[dim] for dim in call.args[1])
    one, other = (0, -1) if call.name in ("t", "t_") else call.args[1:3]
    order = list(axes)
    if order:
        order[one], order[other] = order[other], order[one]
    return tuple(order)


def _expand(call: Call) -> Axes:
    return _broadcast([_tensor(call).axes], call.shapes[0])


def _repeat(call: Call) -> Axes:
    axes, times = _tensor(call).axes, call.args[1]
    axes = (*(Axis(1) for _ in times[len(axes) :]), *axes)
    return tuple(product([Axis(n), axis]) for n, axis in zip(times, axes, strict=True))


def _select(call: Call) -> Axes:
    axes, dim = list(_tensor(call).axes), _dim(call)
    axes.pop(dim).pin("an index")
    return tuple(axes)


def _slice(call: Call) -> Axes:
    axes, dim = list(_tensor(call).axes), _dim(call)
    size = axes[dim].size
    start, end, step = slice(*(call.get(p, n) for p, n in _SLICE)).indices(size)
    if step != 1:
        raise NotUnderstoodError
    end = max(start, end)
    if end - start < size:
        axes[dim] = split(axes[dim], [start, end - start, size - end])[1]
    return tuple(axes)


_SLICE = ((2, "start"), (3, "end"), (4, "step"))


def _split(call: Call) -> list[Axes]:
    axes, dim = _tensor(call).axes, _dim(call, 2)
    sizes = [shape[dim] for shape in call.shapes]
    parts = split(axes[dim], sizes)
    return [(*axes[:dim], part, *axes[dim + 1 :]) for part in parts]


def _unbind(call: Call) -> list[Axes]:
    return [_select(call)] * len(call.shapes)


def _glu(call: Call) -> Axes:
    axes, dim = _tensor(call).axes, _dim(call, 1, -1)
    one, other = split(axes[dim], [axes[dim].size // 2] * 2)
    tie(one, other)
    return (*axes[:dim], one, *axes[dim + 1 :])


def _cat(call: Call) -> Axes:
    tensors = [seen.axes for seen in call.args[0] if [a.size for a in seen.axes] != [0]]
    dim = call.get(1, "dim", 0) % len(call.shapes[0])
    for axes in tensors[1:]:
        for k, (one, other) in enumerate(zip(tensors[0], axes, strict=True)):
            if k != dim:
                tie(one, other)
    whole = joined([axes[dim] for axes in tensors])
    return (*tensors[0][:dim], whole, *tensors[0][dim + 1 :])


def _stack(call: Call) -> Axes:
    tensors = [seen.axes for seen in call.args[0]]
    dim = call.get(1, "dim", 0) % len(call.shapes[0])
    axes = _broadcast(tensors, [axis.size for axis in tensors[0]])
    return (*axes[:dim], Axis(len(tensors), PLACES), *axes[dim:])


def _pad(call: Call) -> Axes:
    axes, widths = list(_tensor(call).axes), call.args[1]
    for k in range(len(widths) // 2):
        if any(widths[2 * k : 2 * k + 2]):
            axes[-1 - k].pin("padding")
            axes[-1 - k] = Axis(call.shapes[0][-1 - k], "padding")
    return tuple(axes)


def _spatial(call: Call) -> list[Axes]:
    """Pooling and resizing: what is done to each image is the same for all."""
    axes, count = _tensor(call).axes, next(n for n in (3, 2, 1) if f"{n}d" in call.name)
    for axis in axes[-count:]:
        axis.pin(PLACES)
    return [(*axes[:-count], *fixed(shape[-count:], PLACES)) for shape in call.shapes]


def _reduce(call: Call) -> list[Axes]:
    axes = _tensor(call).axes
    dims = call.get(2 if "norm" in call.name else 1, "dim")
    if isinstance(dims, Seen):  # the larger of two tensors
        return _elementwise(call)
    dims = [dims] if isinstance(dims, int) else list(dims or range(len(axes)))
    gone = {dim % max(1, len(axes)) for dim in dims}
    for dim in gone:
        axes[dim].mix()
        if call.name in ("max", "min", "argmax", "argmin", "median"):
            axes[dim].pin("an index of what is largest")  # and of equal ones the first
    kept = len(call.shapes[0]) == len(axes)
    left = [Axis(1) if k in gone else axis for k, axis in enumerate(axes)]
    found = tuple(axis for k, axis in enumerate(left) if kept or k not in gone)
    return [found] * len(call.shapes)


def _softmax(call: Call) -> Axes:
    axes = _tensor(call).axes
    axes[_dim(call)].mix()
    return axes


def _cumulative(call: Call) -> Axes:
    axes = _tensor(call).axes
    dims = call.args[1] if isinstance(call.args[1], tuple | list) else [call.args[1]]
    for dim in dims:
        axes[dim].pin(call.name)
    return axes


def _layer_norm(call: Call) -> Axes:
    call.only_first()
    axes, own = _tensor(call).axes, len(call.args[1])
    for axis in axes[-own:]:
        axis.mix()
    for seen in call.tensors[1:]:
        _broadcast([axes[-own:], seen.axes], [axis.size for axis in seen.axes])
    return axes


def _group_norm(call: Call) -> Axes:
    call.only_first()
    axes, groups = _tensor(call).axes, call.args[6]
    regroup([axes[1]], [groups, axes[1].size // groups])
    if groups != axes[1].size:
        axes[1].mix()
    for seen in call.tensors[1:]:
        tie(axes[1], seen.axes[0])
    return axes


def _batch_norm(call: Call) -> Axes:
    call.only_first()
    axes = _tensor(call).axes
    for seen in call.tensors[1:]:
        tie(axes[1], seen.axes[0])
    return axes


def _matmul(call: Call) -> Axes:
    """(..., n, k) and (..., k, m), or a vector for the second; before them what is added."""
    added, (one, other) = call.tensors[:-2], call.tensors[-2:]
    inner = max(0, len(other.axes) - 2)
    call.reads.contract(one, len(one.axes) - 1, other, inner)
    batch = _broadcast([one.axes[:-2], other.axes[:-2]], call.shapes[0][:-2])
    rows, columns = one.axes[len(batch) : -1], other.axes[inner + 1 :]
    found = (*batch, *rows, *columns)
    return _broadcast([found, *(seen.axes for seen in added)], call.shapes[0])


def _linear(call: Call) -> Axes:
    one, weight = _tensor(call), _tensor(call, 1)
    call.reads.contract(one, len(one.axes) - 1, weight, 1)
    found = (*one.axes[:-1], weight.axes[0])
    return _broadcast([found, *(seen.axes for seen in call.tensors[2:])], call.shapes[0])


def _convolution(call: Call) -> Axes:
    images, weight, bias = call.args[:3]
    transposed, groups = call.args[6], call.args[8]
    for axis in (*images.axes[2:], *weight.axes[2:]):
        axis.pin(PLACES)
    if groups == 1:
        rows, columns = weight.axes[:2] if not transposed else weight.axes[1::-1]
        call.reads.contract(images, 1, weight, 0 if transposed else 1)
    else:
        rows = _grouped(call, images, weight, groups, transposed)
    if isinstance(bias, Seen):
        tie(rows, bias.axes[0])
    return (images.axes[0], rows, *fixed(call.shapes[0][2:], PLACES))


def _grouped(call: Call, images: Seen, weight: Seen, groups: int, transposed: bool) -> Axis:
    """The channels that a grouped convolution makes: the groups, and in each the same units."""
    group, inner = regroup([images.axes[1]], [groups, images.axes[1].size // groups])
    own, width = regroup([weight.axes[0]], [groups, weight.axes[0].size // groups])
    tie(group, own)
    if transposed:
        tie(inner, width)
        inner.mix()
        return product([group, weight.axes[1]])
    read = Seen((images.axes[0], inner), images.live)
    call.reads.contract(read, 1, weight, 1)
    return weight.axes[0]


def _attention(call: Call) -> Axes:
    call.only_first()
    query, key, value, *masks = call.tensors
    if len(query.axes) != 4:
        raise NotUnderstoodError
    shape = [axis.size for axis in (*query.axes[:3], key.axes[2])]
    leading = [seen.axes[:2] for seen in (query, key, value)]
    if any([axis.size for axis in axes] != shape[:2] for axes in leading):
        raise NotUnderstoodError
    batch = _broadcast(leading, shape[:2])
    tie(query.axes[3], key.axes[3])
    tie(key.axes[2], value.axes[2])
    query.axes[3].mix()
    key.axes[2].mix()
    _broadcast([(*batch, query.axes[2], key.axes[2]), *(m.axes for m in masks)], shape)
    return (*batch, query.axes[2], value.axes[3])


def _embedding(call: Call) -> Axes:
    weight, indices = _tensor(call), _tensor(call, 1)
    weight.axes[0].pin(PLACES)
    return (*indices.axes, *weight.axes[1:])


def _lstm_layer(call: Call) -> list[Axes]:
    """oneDNN's: (T, B, I) -> (T, B, H), one layer and direction; gates' rows are four times H."""
    inputs, into, within, *more = call.tensors
    mode, size = call.args[9:11]
    if mode != 2 or call.used - {0, 1, 2}:
        raise NotUnderstoodError
    hidden = Axis(size)
    biases, states = more[:-2], more[-2:]
    for seen in (into, within, *biases):
        for gate in split(seen.axes[0], [size] * 4):
            tie(gate, hidden)
    call.reads.contract(inputs, 2, into, 1)
    call.reads.contract(Seen((hidden,)), 0, within, 1)
    for seen in states:
        tie(seen.axes[-1], hidden)
    inputs.axes[0].pin(PLACES)
    last = (inputs.axes[1], hidden)
    return [(*inputs.axes[:2], hidden), last, last, ()]


Rule = Callable[[Call], Axes | list[Axes]]

# The same elements, of one tensor.
VIEWS: dict[str, Rule] = {
    **dict.fromkeys(("view", "_unsafe_view", "reshape", "_reshape_alias"), _reshape),
    **dict.fromkeys(("unsqueeze", "squeeze", "unsqueeze_", "squeeze_"), _reshape),
    **dict.fromkeys(("t", "t_", "transpose", "transpose_", "permute"), _permute),
    **dict.fromkeys(("clone", "detach", "alias", "_to_copy", "lift_fresh"), _elementwise),
    **dict.fromkeys(("lift_fresh_copy", "contiguous"), _elementwise),
    **{"expand": _expand, "select": _select, "slice": _slice},
    **dict.fromkeys(("split", "split_with_sizes", "unsafe_split"), _split),
    **dict.fromkeys(("unsafe_split_with_sizes", "chunk", "unsafe_chunk"), _split),
    "unbind": _unbind,
}
# Each element from those at its place, and from numbers.
ELEMENTWISE = (
    *(
        "add sub rsub mul div neg abs sign sgn square pow sqrt rsqrt reciprocal exp exp2 expm1"
    ).split(),
    *("log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh").split(),
    *("erf erfc erfinv sigmoid logit tanh relu relu6 leaky_relu elu celu selu gelu silu").split(),
    *("mish softplus hardtanh hardswish hardsigmoid hardshrink softshrink tanhshrink").split(),
    *("threshold log_sigmoid log_sigmoid_forward clamp clamp_min clamp_max maximum").split(),
    *("minimum fmax fmin where masked_fill eq ne lt le gt ge logical_and logical_or").split(),
    *("logical_not logical_xor bitwise_and bitwise_or bitwise_not isnan isinf isfinite").split(),
    *("floor ceil round trunc frac remainder fmod addcmul addcdiv lerp _prelu_kernel").split(),
    *("nan_to_num xlogy softsign").split(),
)
POOLS = (
    *("avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d _adaptive_avg_pool2d").split(),
    *("_adaptive_avg_pool3d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d").split(),
    *("adaptive_max_pool3d max_pool2d_with_indices max_pool3d_with_indices").split(),
    *("upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_bilinear2d").split(),
    *("upsample_bicubic2d upsample_linear1d upsample_trilinear3d reflection_pad1d").split(),
    *("reflection_pad2d replication_pad1d replication_pad2d").split(),
)
UNIFORM = (
    *("zeros ones full scalar_tensor zeros_like ones_like full_like new_zeros").split(),
    *("new_ones new_full").split(),
)
REDUCTIONS = (
    *("sum mean amax amin var std var_mean prod any all logsumexp linalg_vector_norm").split(),
    *("max min argmax argmin").split(),
)
BATCH_NORMS = (
    *("native_batch_norm _native_batch_norm_legit_no_training cudnn_batch_norm").split(),
    *("_native_batch_norm_legit miopen_batch_norm _batch_norm_no_update").split(),
)
ATTENTIONS = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)
RULES: dict[str, Rule] = {
    **VIEWS,
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(UNIFORM, _uniform),
    **dict.fromkeys(POOLS, _spatial),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(BATCH_NORMS, _batch_norm),
    **dict.fromkeys(ATTENTIONS, _attention),
    **dict.fromkeys(("_softmax", "_log_softmax", "_safe_softmax"), _softmax),
    **dict.fromkeys(("cumsum", "flip"), _cumulative),
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot"), _matmul),
    **{"linear": _linear, "convolution": _convolution, "embedding": _embedding},
    **{"cat": _cat, "stack": _stack, "repeat": _repeat, "glu": _glu, "constant_pad_nd": _pad},
    **{"native_layer_norm": _layer_norm, "_fused_rms_norm": _layer_norm},
    "native_group_norm": _group_norm,
    "mkldnn_rnn_layer": _lstm_layer,
}
