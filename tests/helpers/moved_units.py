"""Whether a network computes the same when the units of all its links take another order."""

import copy
import math

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from pyro_sws.rewriting.axes import order_of
from pyro_sws.rewriting.links import find_links
from pyro_sws.weights.structures import fed


def dense(net, seed=0):
    """A float64 copy in eval mode, its tensors without a 0, and no two alike."""
    net, generator = copy.deepcopy(net).double().eval(), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*net.parameters(), *net.buffers()):
            if tensor.is_floating_point():
                drawn = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
                scale = math.sqrt(max(1, tensor[0].numel())) if tensor.dim() > 1 else 2.0
                tensor.copy_(drawn / scale if tensor.dim() > 1 else 1 + drawn.abs() / scale)
    return net


def outputs(net, example):
    with torch.no_grad():
        return [leaf.clone() for leaf in tree_leaves(fed(net, example))]


def change_of_outputs(net, example, links=None, seed=0):
    """The largest change when every link's units are shuffled, over the largest output."""
    net, rng = dense(net, seed), np.random.default_rng(seed)
    found = find_links(net, example) if links is None else links
    before = outputs(net, example)
    orders = {link.leaf: rng.permutation(link.units) for link in found.links}
    tensors = {**dict(net.named_buffers()), **dict(net.named_parameters())}
    with torch.no_grad():
        for name, axes in found.axes.items():
            for k, axis in enumerate(axes):
                index = torch.from_numpy(order_of(axis, orders))
                tensors[name].copy_(tensors[name].index_select(k, index))
    pairs = list(zip(before, outputs(net, example), strict=True))
    largest = max((float(b.abs().max()) for b, _ in pairs), default=0.0)
    return max(float((a - b).abs().max()) for a, b in pairs) / max(largest, 1e-30)
