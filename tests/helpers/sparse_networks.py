"""Networks with few weights, as symbols: what the tests of rewriting rewrite."""

import copy
import zlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pyro_sws.codec.symbols import Quantized
from pyro_sws.weights.load import fill

BOOK = np.array([-0.75, 0.0, 0.25, 1.0, -1.5])


def sparse(net, seed=0, density=0.2, dtype="float64", scaled=()):
    """Random symbols for every parameter, most of them 0, in one codebook; buffers are raw."""
    rng = np.random.default_rng(seed)
    symbols, scales = {}, {}
    for name, parameter in net.named_parameters():
        drawn = rng.integers(0, len(BOOK), parameter.shape)
        # Whole units are idle too, which independent weights would seldom give.
        idle = rng.random((len(drawn), *[1] * (drawn.ndim - 1))) < 0.4
        zero = (rng.random(parameter.shape) > density) | idle
        symbols[name] = np.where(zero, 1, drawn).astype(np.uint8)
    for name in scaled:
        scales[name] = rng.uniform(0.5, 2, (len(symbols[name]), *[1] * (symbols[name].ndim - 1)))
    of = dict.fromkeys(symbols, "all")
    raw = {name: buffer.numpy() for name, buffer in net.named_buffers()}
    return Quantized(symbols, {"all": BOOK.astype(dtype)}, of, raw, scales)


def given(tensors, book=None):
    """A Quantized of these values: in one codebook, or of 0 and its own values for each."""
    symbols, books = {}, {}
    for name, values in tensors.items():
        own = np.unique([0.0, *np.ravel(values)]) if book is None else np.array(book)
        symbols[name] = np.searchsorted(own, values).astype(np.uint8)
        books[name if book is None else "all"] = own
    of = {name: name if book is None else "all" for name in symbols}
    return Quantized(symbols, books, of)


def filled(net, quantized):
    fill(net, quantized.tensors())
    return net


def largest_difference(one, other, inputs):
    """The largest absolute difference between the outputs of two networks, both in eval mode."""
    with torch.no_grad():
        first, second = (copy.deepcopy(net).eval()(inputs) for net in (one, other))
    return float((first.double() - second.double()).abs().max())


def layers(*sizes, act=nn.ReLU):
    """Linear layers 0, 2, 4, ... with activations between them, in float64."""
    modules = []
    for fan_in, fan_out in zip(sizes, sizes[1:], strict=False):
        modules += [nn.Linear(fan_in, fan_out), act()]
    return nn.Sequential(*modules[:-1]).double()


def weights(quantized):
    return {name: values.tolist() for name, values in quantized.tensors().items()}


def nonzero(quantized):
    """A length: the weights that are not 0, biases apart."""
    values = quantized.tensors()
    return sum(int(np.count_nonzero(v)) for name, v in values.items() if name.endswith("weight"))


def arbitrary(salt):
    """A length without sense, so that any choice may be taken."""

    def length(quantized):
        parts = b"".join(values.tobytes() for values in quantized.tensors().values())
        return zlib.crc32(parts, salt)

    return length


def mlp():
    return nn.Sequential(
        *(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 7), nn.Softplus()),
        *(nn.Linear(7, 5, bias=False), nn.Tanh(), nn.Linear(5, 3)),
    )


def nested():
    body = nn.Sequential(nn.Linear(12, 6), nn.LeakyReLU(0.1), nn.Sequential(nn.Linear(6, 5)))
    return nn.Sequential(nn.Flatten(), body, nn.Sequential(nn.Sigmoid(), nn.Linear(5, 2)))


def convolutions():
    """LeNet-5 in the small: (B, 1, 12, 12) to 3 classes."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2, 2, ceil_mode=True)),
        *(nn.Conv2d(4, 6, 2), nn.ELU(), nn.AvgPool2d(2), nn.Flatten()),
        *(nn.Linear(24, 9), nn.ReLU(), nn.Linear(9, 3)),
    )


def padded():
    return nn.Sequential(
        *(nn.Conv2d(1, 5, 3, padding=1), nn.GELU(), nn.AvgPool2d(3, 2, padding=1)),
        *(nn.Conv2d(5, 4, 3, stride=2, dilation=2, padding="valid"), nn.Hardtanh()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
    )


class Custom(nn.Module):
    """The same in functions and methods."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 3, padding=1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(45, 8), nn.Linear(8, 6), nn.Linear(6, 2)

    def forward(self, x):
        batch = x.size(0)
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.avg_pool2d(torch.tanh(self.conv2(x)), kernel_size=2, stride=1, padding=0)
        x = F.max_pool2d(x, 2, stride=1)
        x = F.dropout(x.view(batch, -1), training=self.training)
        x = self.fc1(x).clamp(min=0)
        x = torch.sigmoid(self.fc2(x * 2.0)).reshape(x.shape[0], -1)
        return F.log_softmax(self.fc3(x), 1)


KINDS = {  # name -> network, the shape of an input, how many links it has
    "mlp": (mlp, (6,), 3),
    "nested": (nested, (1, 3, 4), 2),
    "convolutions": (convolutions, (1, 12, 12), 3),
    "padded": (padded, (1, 13, 13), 2),
    "custom": (Custom, (1, 12, 12), 4),
}


def network(kind, batch=16):
    """A float64 network of a kind, and inputs for it."""
    make, shape, _ = KINDS[kind]
    inputs = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    return make().double(), inputs.double()
