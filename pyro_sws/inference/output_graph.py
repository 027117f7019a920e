"""What made a network's outputs, and where their classes are, as far as torch's graph tells it."""

from typing import Any

from torch import Tensor

# Operations that leave the values as they are.
VIEWS = {
    *("View", "UnsafeView", "Reshape", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice"),
    *("Transpose", "Permute", "T", "Expand", "Clone", "ToCopy", "Clamp", "Alias"),
}


def made_by(outputs: Tensor) -> str | None:
    """The operation that made the outputs, such as "Sigmoid"; None where there is no graph.

    What only takes another view of them, or another dtype, is looked through.
    """
    node = outputs.grad_fn
    while node is not None:
        name = _name(node)
        if name not in VIEWS or not node.next_functions:
            return name
        node = node.next_functions[0][0]
    return None


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
