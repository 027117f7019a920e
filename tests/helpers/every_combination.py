"""Networks around every type of module, batches of every form, and targets of every likelihood."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import pyro_sws as sws

N = 12  # examples


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


FEATURES, SERIES, WORDS = drawn(N, 5), drawn(N, 4, 6), torch.arange(4 * N).reshape(N, 4) % 11


def self_attention(module: nn.Module, x: Tensor) -> Tensor:
    return module(x, x, x, need_weights=False)[0]


def tied() -> nn.Module:
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 5))
    net[2].weight = net[0].weight
    return net


def convolved(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv1d(4, 6, 3), norm, nn.ReLU(), nn.Conv1d(6, 4, 1))


def recurrent(kind: type[nn.Module], **settings: Any) -> tuple[Callable[[], nn.Module], Tensor]:
    return lambda: kind(6, 5, batch_first=True, **settings), SERIES


# Name -> a module, an input of it; where calling it with that will not do, what is called.
MODULES: dict[str, Any] = {
    "linear": (lambda: nn.Linear(5, 6), FEATURES),
    "conv1d": (lambda: nn.Conv1d(4, 5, 3), SERIES),
    "conv2d": (lambda: nn.Conv2d(3, 5, 3), drawn(N, 3, 4, 4)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 2), drawn(N, 2, 3, 3, 3)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2), drawn(N, 4, 4, 4)),
    "depthwise": (lambda: nn.Conv1d(4, 8, 3, groups=4), SERIES),
    "transposed": (lambda: nn.ConvTranspose2d(3, 4, 2, stride=2), drawn(N, 3, 2, 2)),
    "transposed, grouped": (lambda: nn.ConvTranspose1d(4, 6, 2, groups=2), SERIES),
    "embedding": (lambda: nn.Embedding(11, 5), WORDS),
    "embedding with padding": (lambda: nn.Embedding(11, 5, padding_idx=0), WORDS),
    "embedding bag": (lambda: nn.EmbeddingBag(11, 6, mode="mean"), WORDS),
    "LSTM": recurrent(nn.LSTM, num_layers=2),
    "LSTM with a projection": recurrent(nn.LSTM, proj_size=3),
    "GRU": recurrent(nn.GRU),
    "RNN": recurrent(nn.RNN, nonlinearity="relu"),
    "LSTM both ways": recurrent(nn.LSTM, bidirectional=True),
    "GRU both ways": recurrent(nn.GRU, bidirectional=True, num_layers=2),
    "attention": (
        *(lambda: nn.MultiheadAttention(6, 2, batch_first=True), SERIES),
        self_attention,
    ),
    "transformer layer": (lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), SERIES),
    "batch norm": (lambda: nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)), FEATURES),
    "batch norm of channels": (lambda: convolved(nn.BatchNorm1d(6)), SERIES),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6)), FEATURES),
    "group norm": (lambda: convolved(nn.GroupNorm(3, 6)), SERIES),
    "instance norm": (lambda: convolved(nn.InstanceNorm1d(6, affine=True)), SERIES),
    "PReLU": (lambda: nn.Sequential(nn.Linear(5, 6), nn.PReLU(6), nn.Linear(6, 5)), FEATURES),
    "weight norm": (lambda: parametrizations.weight_norm(nn.Linear(5, 6)), FEATURES),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(5, 6)), FEATURES),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(5, 5)), FEATURES),
    "tied weights": (tied, FEATURES),
    "half": (lambda: nn.Linear(5, 6).half(), FEATURES),
    "bfloat16": (lambda: nn.Conv1d(4, 5, 3).bfloat16(), SERIES),
}


class Around(nn.Module):
    """The module, what it makes of x joined with z where there is one, and outputs (B, *shape)."""

    def __init__(self, kind: str, shape: tuple[int, ...]):
        super().__init__()
        make, x, *call = MODULES[kind]
        self.body, self.shape = make(), shape
        self.call = call[0] if call else lambda module, x: module(x)
        dtype = next(self.body.parameters()).dtype
        with torch.no_grad():
            given = x.to(dtype) if x.is_floating_point() else x
            for _ in range(5):  # running statistics, power iterations
                width = self.features(given).shape[1]
        self.mixed, self.beside = nn.Linear(width, 6), nn.Linear(3, 6)
        self.out = nn.Linear(6, int(torch.tensor(shape).prod()))
        self.to(dtype).eval()

    def features(self, x: Tensor) -> Tensor:
        found = self.call(self.body, x)
        return (found[0] if isinstance(found, tuple) else found).flatten(1)

    def forward(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        hidden = self.mixed(self.features(x))
        hidden = hidden if z is None else hidden + self.beside(z)
        return self.out(hidden.tanh()).unflatten(1, self.shape)


def network(kind: str, shape: tuple[int, ...]) -> Around:
    """As if it were trained: no two biases and norms are alike, and outputs depend on inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Around(kind, shape)
        with torch.no_grad():
            for module in net.modules():
                for name, parameter in module.named_parameters(recurse=False):
                    if parameter.dim() == 1:
                        parameter.add_(0.3 * torch.randn_like(parameter))
                    elif isinstance(module, nn.Linear) and name == "weight":
                        parameter.mul_(2)
    return net


class Batch(NamedTuple):
    x: Tensor
    z: Tensor
    y: Any


class Inputs(NamedTuple):
    x: Tensor
    z: Tensor


def of_functions(net: nn.Module, batch: Any) -> Tensor:
    return net(batch["of"]["a"], *batch["of"]["b"])


# Name -> a batch of x, z and y, and what is said of it. Only a pair is without z.
FORMS: dict[str, tuple[Callable[[Tensor, Tensor, Any], Any], dict[str, Any]]] = {
    "pair": (lambda x, z, y: (x, y), {}),
    "triple": (lambda x, z, y: (x, z, y), {}),
    "tuple": (lambda x, z, y: ((x, z), y), {}),
    "dict": (lambda x, z, y: ({"z": z, "x": x}, y), {}),
    "labels": (lambda x, z, y: {"x": x, "z": z, "labels": y}, {}),
    "named targets": (lambda x, z, y: {"x": x, "z": z, "wanted": y}, {"targets": "wanted"}),
    "namedtuple": (Batch, {}),
    "namedtuple of inputs": (lambda x, z, y: [Inputs(x, z), y], {}),
    "functions": (
        lambda x, z, y: {"of": {"a": x, "b": [z]}, "and": (y, "a name")},
        {"forward": of_functions, "targets": lambda batch: batch["and"][0]},
    ),
}


def ctc(outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
    """Connectionist temporal classification, which torch has not in half precision."""
    frames = torch.full((len(outputs),), outputs.shape[1])
    log_probs = outputs.float().log_softmax(-1).transpose(0, 1)
    rows = targets["labels"], frames, targets["lengths"]
    return nn.functional.ctc_loss(log_probs, *rows, reduction="none")


def negative_binomial(outputs: Tensor) -> dist.TorchDistribution:
    return dist.NegativeBinomial(3.0, logits=outputs)


CLASSES = torch.arange(N) % 3
PLACES = torch.arange(4 * N)
TOKENS = (PLACES % 3).masked_fill(PLACES % 5 == 0, -100).reshape(N, 4)
BITS, COUNTS, NUMBERS = (
    PLACES.reshape(N, 4) % 2.0,
    (PLACES % 5.0).reshape(N, 4),
    drawn(N, 2, seed=2),
)
SPOKEN = {"labels": PLACES[: 3 * N].reshape(N, 3) % 4 + 1, "lengths": torch.arange(N) % 3 + 1}

# Name -> a likelihood, the shape of an example's outputs, and targets.
LIKELIHOODS: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "categorical": ("categorical", (3,), CLASSES),
    "ignored labels": (sws.Categorical(ignore_index=-100), (4, 3), TOKENS),
    "classes first": (sws.Categorical(class_dim=1, ignore_index=-100), (3, 4), TOKENS),
    "smoothed labels": (sws.Categorical(label_smoothing=0.1), (3,), CLASSES),
    "distilled": (sws.Distilled(), (3,), CLASSES),
    "soft labels": ("soft_categorical", (3,), drawn(N, 3, seed=1).softmax(-1)),
    "one bit": ("bernoulli", (1,), BITS[:, :1]),
    "multi-label": (sws.Bernoulli(ignore_index=-100), (4,), BITS.masked_fill(TOKENS < 0, -100.0)),
    "gaussian": ("gaussian", (2,), NUMBERS),
    "learned noise": (sws.Gaussian(noise_precision=sws.Gamma(2.0, 1.0)), (2,), NUMBERS),
    "heteroscedastic": ("heteroscedastic_gaussian", (2, 2), NUMBERS),
    "student_t": ("student_t", (2,), NUMBERS),
    "laplace": ("laplace", (2,), NUMBERS),
    "poisson": ("poisson", (4,), COUNTS),
    "taught": (sws.Taught(sws.Poisson()), (4,), COUNTS),
    "ctc": (sws.Loss(ctc), (6, 5), SPOKEN),
    "negative binomial": (sws.FromDistribution(negative_binomial), (4,), COUNTS),
}
