"""What weights multiply, op by op: of each kind of product its two sides. Torch only."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_sws.weights.patches import patches, transposed_patches

MOST_PATCHES = 2**24  # numbers of a convolution's windows that are made at once


@dataclass(frozen=True, eq=False)
class Use:
    """An operand, the roles of its dimensions, and what it multiplies: (G, positions, C) parts.

    ``one_hot``: the parts are (1, C) counts instead, of inputs that are 0 but for a 1.
    """

    weight: Tensor
    groups: tuple[int, ...]
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    inputs: Callable[[], Iterator[Tensor]]
    bias: Tensor | None = None
    split: int = 1  # a convolution's groups: of its first dimension
    one_hot: bool = False
    other: Tensor | None = None  # what it multiplies, where that may be a weight as well


def _product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Iterator[Use]:
    """Of left @ right, each of which may be a weight: (P, K) @ (K, N)."""
    yield Use(right, (), (1,), (0,), lambda: iter([left[None]]), bias, other=left)
    yield Use(left, (), (0,), (1,), lambda: iter([right.t()[None]]), other=right)


def _batched(left: Tensor, right: Tensor) -> Iterator[Use]:
    """Of (G, P, K) @ (G, K, N); a weight that is the same for all G has one product."""
    turned = right.transpose(1, 2)
    if right.stride(0) == 0 or len(right) == 1:
        yield Use(right[0], (), (1,), (0,), lambda: _flat(left), other=left)
    else:
        yield Use(right, (0,), (2,), (1,), lambda: iter([left]), other=left)
    if left.stride(0) == 0 or len(left) == 1:
        yield Use(left[0], (), (0,), (1,), lambda: _flat(turned), other=right)
    else:
        yield Use(left, (0,), (1,), (2,), lambda: iter([turned]), other=right)


def _vector(matrix: Tensor, vector: Tensor) -> Iterator[Use]:
    yield Use(matrix, (), (0,), (1,), lambda: _flat(vector), other=vector)
    yield Use(vector[None], (), (0,), (1,), lambda: _flat(matrix), other=matrix)


def _flat(inputs: Tensor) -> Iterator[Tensor]:
    """All but the last dimension are positions."""
    yield inputs.reshape(1, -1, inputs.shape[-1])


def _linear(args: Sequence, kwargs: Mapping, outputs: Any) -> Iterator[Use]:
    inputs, weight, bias = (*args, kwargs.get("bias"))[:3]
    yield Use(weight, (), (0,), (1,), lambda: _flat(inputs), bias)


def _of_experts(args: Sequence, kwargs: Mapping, outputs: Any) -> Iterator[Use]:
    """Of (P, K) @ (G, K, N), where each matrix has the positions up to its offset in ``ends``."""
    inputs, weights, ends = (*args, kwargs.get("offs"))[:3]
    if inputs.dim() != 2 or weights.dim() != 3 or ends is None:
        return
    begins = [0, *ends.tolist()]
    for weight, begin, end in zip(weights, begins, ends.tolist(), strict=False):
        yield Use(weight, (), (1,), (0,), partial(_flat, inputs[begin:end]), other=inputs)


def _convolution(args: Sequence, kwargs: Mapping, outputs: Any) -> Iterator[Use]:
    inputs, weight, bias, stride, padding, dilation, transposed, output_padding, groups = args[:9]
    kernel = weight.shape[2:]
    if inputs.dim() == weight.dim() - 1:  # one example without a batch
        inputs = inputs[None]
    stride, padding, dilation, output_padding = (
        list(each) * (len(kernel) if len(each) == 1 else 1)
        for each in (stride, padding, dilation, output_padding)
    )

    def windows() -> Iterator[Tensor]:
        places = outputs.shape[-len(kernel) :].numel() if len(kernel) else 1
        one = max(1, places * inputs.shape[1] * kernel.numel())
        for part in inputs.split(max(1, MOST_PATCHES // one)):
            if transposed:
                how = (kernel, stride, padding, dilation, output_padding, groups)
                yield transposed_patches(part, *how)
            else:
                yield patches(part, kernel, stride, padding, dilation, groups)

    rows, first = (1, 0) if transposed else (0, 1)
    columns = (first, *range(2, weight.dim()))
    yield Use(weight, (), (rows,), columns, windows, bias, split=groups)


def _embedding(args: Sequence, kwargs: Mapping, outputs: Any) -> Iterator[Use]:
    weight, indices = args[:2]

    def counts() -> Iterator[Tensor]:
        yield torch.bincount(indices.reshape(-1), minlength=len(weight)).float()[None]

    yield Use(weight, (), (1,), (0,), counts, one_hot=True)


def _recurrent(args: Sequence, kwargs: Mapping, outputs: Any) -> Iterator[Use]:
    """oneDNN's layer of one direction, (T, B, C): each step is given the hidden state before."""
    inputs, of_inputs, of_states, bias, state_bias, start, _, reverse, lengths = args[:9]
    if lengths:
        return
    states = outputs[0]
    before = [states[1:], start[None]] if reverse else [start[None], states[:-1]]
    hidden = torch.cat([each.reshape(-1, *start.shape) for each in before])
    for weight, given, added in ((of_inputs, inputs, bias), (of_states, hidden, state_bias)):
        yield Use(weight, (), (0,), (1,), partial(_flat, given), added)


Found = Callable[[Sequence, Mapping, Any], Iterator[Use]]
USES: dict[str, Found] = {
    "mm": lambda args, kwargs, outputs: _product(*args[:2]),
    "addmm": lambda args, kwargs, outputs: _product(args[1], args[2], args[0]),
    "bmm": lambda args, kwargs, outputs: _batched(*args[:2]),
    "baddbmm": lambda args, kwargs, outputs: _batched(*args[1:3]),
    "mv": lambda args, kwargs, outputs: _vector(*args[:2]),
    "addmv": lambda args, kwargs, outputs: _vector(*args[1:3]),
    "linear": _linear,
    "_grouped_mm": _of_experts,
    "convolution": _convolution,
    "convolution_overrideable": _convolution,
    "embedding": _embedding,
    "mkldnn_rnn_layer": _recurrent,
}
