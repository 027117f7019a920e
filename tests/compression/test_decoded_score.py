"""The report's "decoded", against an error computed by hand from the file's own tensors."""

from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

import pyro_sws as sws

pytestmark = pytest.mark.integration

N = 90
FINE = sws.SpikeAndSlabs(slabs=12, start_deviation=0.01)  # most weights keep a value that is not 0


def data(likelihood, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(N, 4, generator=generator)
    signal = inputs[:, :2] + 0.3 * torch.randn(N, 2, generator=generator)
    targets = {
        "categorical": signal.argmax(1),
        "probabilities of classes": signal.argmax(1),
        "distilled": signal.argmax(1),
        "bernoulli": (signal > 0).float(),
        "probabilities": (signal > 0).float(),
        "gaussian": signal,
        "poisson": signal.exp().round(),
    }[likelihood]
    return inputs, targets


SPECS = {
    "categorical": "categorical",
    "probabilities of classes": sws.Categorical(inputs="probabilities"),
    "distilled": sws.Distilled(),
    "bernoulli": "bernoulli",
    "probabilities": sws.Bernoulli(inputs="probabilities"),
    "gaussian": "gaussian",
    "poisson": "poisson",
}
LAST = {"probabilities of classes": nn.Softmax(-1), "probabilities": nn.Sigmoid()}
LOSSES = {
    "categorical": F.cross_entropy,
    "bernoulli": F.binary_cross_entropy_with_logits,
    "gaussian": F.mse_loss,
    "poisson": F.poisson_nll_loss,
}
SAME_TARGETS = {
    "probabilities of classes": "categorical",
    "distilled": "categorical",
    "probabilities": "bernoulli",
}


@cache
def trained(likelihood):
    """Weights of the two layers that fit the data, by torch alone."""
    inputs, targets = data(likelihood)
    loss = LOSSES[SAME_TARGETS.get(likelihood, likelihood)]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        one, two = nn.Linear(4, 6), nn.Linear(6, 2)
    optimizer = torch.optim.Adam([*one.parameters(), *two.parameters()], lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        loss(two(one(inputs).tanh()), targets).backward()
        optimizer.step()
    return one.state_dict(), two.state_dict()


def layers(likelihood):
    one, two = nn.Linear(4, 6), nn.Linear(6, 2)
    for layer, state in zip((one, two), trained(likelihood), strict=True):
        layer.load_state_dict(state)
    return one, two, LAST.get(likelihood, nn.Identity())


class Plain(nn.Module):
    def __init__(self, likelihood):
        super().__init__()
        self.one, self.two, self.last = layers(likelihood)

    def forward(self, inputs):
        return self.last(self.two(self.one(inputs).tanh()))


class Wrapped(nn.Module):
    """A network inside a network, under another name, with dropout that eval mode leaves out."""

    def __init__(self, likelihood):
        super().__init__()
        self.model, self.dropout = Plain(likelihood), nn.Dropout(0.5)

    def forward(self, inputs):
        return self.dropout(self.model(self.dropout(inputs)))


class Listed(nn.Module):
    def __init__(self, likelihood):
        super().__init__()
        *parts, self.last = layers(likelihood)
        self.parts = nn.ModuleList(parts)

    def forward(self, inputs):
        first, second = self.parts
        return self.last(second(first(inputs).tanh()))


def sequential(likelihood):
    one, two, last = layers(likelihood)
    return nn.Sequential(one, nn.Tanh(), two, last)


def normed(likelihood):
    """With batch norm whose statistics are of some training, which its buffers hold."""
    one, two, last = layers(likelihood)
    norm = nn.BatchNorm1d(6)
    norm.running_mean.copy_(torch.arange(6) / 10)
    norm.running_var.copy_(1 + torch.arange(6) / 10)
    return nn.Sequential(one, norm, nn.Tanh(), two, last)


WRAPPERS = {
    "plain": Plain,
    "wrapped": Wrapped,
    "listed": Listed,
    "sequential": sequential,
    "normed": normed,
    "averaged": lambda likelihood: AveragedModel(Plain(likelihood)),
    "parallel": lambda likelihood: nn.DataParallel(Plain(likelihood)),
    "double": lambda likelihood: Plain(likelihood).double(),
}


class Stream(IterableDataset):
    def __init__(self, inputs, targets):
        self.pairs = list(zip(inputs, targets, strict=True))

    def __iter__(self):
        return iter(self.pairs)


def weighted(x, y):
    sampler = WeightedRandomSampler([1.0 + i for i in range(N)], 4 * N)
    return DataLoader(TensorDataset(x, y), batch_size=40, sampler=sampler)


LOADERS = {
    "list": lambda x, y: [(x, y)],
    "uneven batches": lambda x, y: [(x[:50], y[:50]), (x[50:], y[50:])],
    "batches": lambda x, y: sws.Batches(x, y, 32),
    "loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=40, shuffle=True),
    "stream": lambda x, y: DataLoader(Stream(x, y), batch_size=40),
}
DRAWING = {  # to train on: a pass is no set of examples
    "weighted": weighted,
    "the last left out": lambda x, y: DataLoader(
        TensorDataset(x, y), batch_size=40, shuffle=True, drop_last=True
    ),
    "thrice": lambda x, y: [(x, y)] * 3,
    "augmented": lambda x, y: sws.Batches(x, y, 32, augment=lambda x: x + torch.randn_like(x)),
    "two workers": lambda x, y: DataLoader(Stream(x, y), batch_size=40, num_workers=2),
}


def by_hand(tensors, likelihood, inputs, targets):
    """The score, from the tensors alone, which shapes and endings of names tell apart."""
    found = {name: torch.from_numpy(array.copy()) for name, array in tensors.items()}
    first, second = (
        next(t for n, t in found.items() if n.endswith("weight") and t.shape == shape)
        for shape in ((6, 4), (2, 6))
    )
    biases = [t for n, t in found.items() if n.endswith("bias")]
    hidden = F.linear(inputs, first, biases[0])
    mean, variance = (
        next((t for n, t in found.items() if n.endswith(end)), None)
        for end in ("running_mean", "running_var")
    )
    if mean is not None:
        scale = next(t for n, t in found.items() if n.endswith("weight") and t.dim() == 1)
        hidden = scale * (hidden - mean) / (variance + 1e-5).sqrt() + biases[1]
    outputs = F.linear(hidden.tanh(), second, biases[-1])
    if likelihood == "gaussian":
        return (outputs - targets).square().mean().sqrt().item()
    if likelihood == "poisson":  # torch's loss leaves out log(count!), which no output changes
        loss = F.poisson_nll_loss(outputs, targets, full=False)
        return (loss + torch.lgamma(targets + 1).mean()).item()
    if SAME_TARGETS.get(likelihood, likelihood) == "bernoulli":
        return 100 * ((outputs > 0) != (targets == 1)).double().mean().item()
    return 100 * (outputs.argmax(1) != targets).double().mean().item()


# Every likelihood with every loader and with every wrapper.
TABLE = [
    (list(WRAPPERS)[(i + j) % len(WRAPPERS)], likelihood, loader)
    for i, likelihood in enumerate(SPECS)
    for j, loader in enumerate((*LOADERS, *DRAWING))
]


@pytest.mark.parametrize(("wrapper", "likelihood", "loader"), TABLE)
@pytest.mark.slow
def test_decoded_is_what_the_file_s_tensors_compute(wrapper, likelihood, loader):
    net = WRAPPERS[wrapper](likelihood)
    training, options = data(likelihood), {"tau": 1e-3, "epochs": 1, "prior": FINE}
    judged, test = training, None
    if loader in LOADERS:
        judged = data(likelihood, seed=1)
        test = LOADERS[loader](*judged)
    train = (LOADERS | DRAWING)[loader](*training)
    run = sws.compress(net, train, test=test, likelihood=SPECS[likelihood], **options)
    tensors, found = sws.decode(run.data).tensors(), run.report.score["decoded"]
    expected = by_hand(tensors, likelihood, *judged)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert run.report.score["examples"] == N
    # The comparison means something: other tensors, such as none but zeros, have another score.
    for name in (name for name, values in tensors.items() if values.ndim == 2):
        other = tensors | {name: 0 * tensors[name]}
        assert by_hand(other, likelihood, *judged) != pytest.approx(found, rel=1e-2)


@pytest.mark.parametrize("class_dim", [-1, 1])
def test_decoded_is_of_the_classes_in_the_dimension_that_is_said(class_dim):
    """Of outputs (B, 3, 3), which fit either way."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(N, 2, 3, generator=generator)
    targets = torch.randint(3, (N, 3), generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Conv1d(2, 3, 1)
    likelihood = sws.Categorical(class_dim=class_dim)
    run = sws.compress(net, [(inputs, targets)], prior=FINE, likelihood=likelihood, epochs=1)
    tensors = map(torch.from_numpy, sws.decode(run.data).tensors().values())
    outputs = F.conv1d(inputs, *tensors)
    here, there = (
        100 * (outputs.argmax(dim) != targets).double().mean().item()
        for dim in (class_dim, -class_dim)
    )
    assert run.report.score["decoded"] == pytest.approx(here) and here != there
