"""What made a network's outputs, and where their classes are, as far as torch's graph tells it."""

from typing import Any

from torch import Tensor

# Operations that leave the values as they are.
VIEWS = {
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice"),
    *("Transpose", "Permute", "T", "Expand", "Clone", "ToCopy", "Clamp", "Alias"),
}
# Operations whose values are some of those given to them, or between them.
TOGETHER = {
    *("Cat", "Stack", "Mean", "Where", "MaskedFill"),
    *("Unbind", "Split", "Index", "IndexSelect", "Gather", "Flip"),
}
ARITHMETIC = {"Add", "Sub", "Rsub", "Mul", "Div", "Neg", "Sum"}


def makers(outputs: Tensor) -> frozenset[str]:
    """The operations that made the outputs, such as "Sigmoid"; none where there is no graph.

    What only takes another view of them, or another dtype, puts parts together, or chooses or
    averages among them, is looked through: then each part was made by one of these.
    """
    return frozenset(_name(node) for node in _behind(outputs, VIEWS | TOGETHER))


def by_linear_layer(outputs: Tensor) -> bool:
    """Whether weights that a fit moves make the outputs, by sums and products: nothing squashes."""
    nodes = _behind(outputs, VIEWS | TOGETHER | ARITHMETIC)
    layers = [node for node in nodes if _is_linear(node)]
    return bool(layers) and all(n in layers or n.name().endswith("AccumulateGrad") for n in nodes)


def _behind(outputs: Tensor, passed: set[str]) -> list[Any]:
    """The first nodes of the graph, from its end, that are none of those passed."""
    found, ahead, seen = [], [outputs.grad_fn], set()
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:  # no graph: a constant
            continue
        seen.add(node)
        parts = [part for part, _ in node.next_functions]
        if _name(node) in passed and parts:
            ahead += parts
        else:
            found.append(node)
    return found


def _is_linear(node: Any) -> bool:
    """A layer; not a product with a constant matrix, which may add up probabilities."""
    name = _name(node)
    if name == "Mm":
        return node.next_functions[1][0] is not None
    return name in ("Addmm", "Convolution")


def class_dimension(outputs: Tensor) -> int | None:
    """-1 or 1, the dimension of (B, ...) that a last layer makes; None where that is not plain.

    A linear layer makes the last one, a convolution the second, a softmax the one it is over; two
    of the dimensions may be swapped after that.
    """
    node: Any = outputs.grad_fn
    last = outputs.dim() - 1
    swapped = viewed = False
    while node is not None:
        name, found = _name(node), None
        if name in ("LogSoftmax", "Softmax"):
            found = _positive(node._saved_dim, last)
        elif name in ("Addmm", "Mm") and node._saved_mat2_sym_sizes[-1] == outputs.shape[last]:
            found = last
        elif name == "Convolution" and not viewed:
            found = 1
        if found is not None:
            found = {1: last, last: 1}.get(found, found) if swapped else found
            return {1: 1, last: -1}.get(found)
        if name in ("Transpose", "Permute"):
            if not _swaps(node, name, last):
                return None
            swapped = not swapped
        elif name in ("View", "UnsafeView", "ReshapeAlias"):
            viewed = True
        elif name not in ("Clone", "ToCopy", "Alias", "Add"):  # a sum has its first part's layout
            return None
        node = node.next_functions[0][0] if node.next_functions else None
    return None


def _name(node: Any) -> str:
    return node.name().partition("Backward")[0]


def _swaps(node: Any, name: str, last: int) -> bool:
    """Whether the second and the last dimension change places, and no other does."""
    if name == "Transpose":
        dims = {_positive(node._saved_dim0, last), _positive(node._saved_dim1, last)}
        return dims == {1, last}
    order = [_positive(dim, last) for dim in node._saved_dims]
    return order == [0, last, *range(2, last), 1]


def _positive(dim: int, last: int) -> int:
    """A dimension counted from the front; torch saves a negative one as it is, or modulo 2^64."""
    dim = dim - 2**64 if dim >= 2**63 else dim
    return dim if dim >= 0 else dim + last + 1
