"""The report's "decoded", against an error computed by hand from the file's own tensors."""

import pytest
import torch
from problems import ONE_GROUP
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import pyro_sws as sws

pytestmark = pytest.mark.integration

N = 90


def data(likelihood):
    generator = torch.Generator().manual_seed(0)
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


def layers(last):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(4, 6), nn.Linear(6, 2), last


class Plain(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.one, self.two, self.last = layers(last)

    def forward(self, inputs):
        return self.last(self.two(self.one(inputs).tanh()))


class Wrapped(nn.Module):
    """A network inside a network, under another name, with dropout that eval mode leaves out."""

    def __init__(self, last):
        super().__init__()
        self.model, self.dropout = Plain(last), nn.Dropout(0.5)

    def forward(self, inputs):
        return self.dropout(self.model(self.dropout(inputs)))


class Listed(nn.Module):
    def __init__(self, last):
        super().__init__()
        *parts, self.last = layers(last)
        self.parts = nn.ModuleList(parts)

    def forward(self, inputs):
        first, second = self.parts
        return self.last(second(first(inputs).tanh()))


def sequential(last):
    one, two, last = layers(last)
    return nn.Sequential(one, nn.Tanh(), two, last)


WRAPPERS = {"plain": Plain, "wrapped": Wrapped, "listed": Listed, "sequential": sequential}


class Stream(IterableDataset):
    def __init__(self, inputs, targets):
        self.pairs = list(zip(inputs, targets, strict=True))

    def __iter__(self):
        return iter(self.pairs)


LOADERS = {
    "list": lambda x, y: [(x, y)],
    "uneven batches": lambda x, y: [(x[:50], y[:50]), (x[50:], y[50:])],
    "batches": lambda x, y: sws.Batches(x, y, 32),
    "loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=40, shuffle=True),
    "stream": lambda x, y: DataLoader(Stream(x, y), batch_size=40),
}


def by_hand(tensors, likelihood, inputs, targets):
    """The score, from the tensors alone, in the order in which they lie in the network."""
    names = list(tensors)
    weights = [torch.from_numpy(tensors[n]).float() for n in names if n.endswith("weight")]
    biases = [torch.from_numpy(tensors[n]).float() for n in names if n.endswith("bias")]
    weights.sort(key=lambda w: w.shape[1] != 4)
    biases.sort(key=lambda b: len(b) == 2)
    hidden = F.linear(inputs, weights[0], biases[0]).tanh()
    outputs = F.linear(hidden, weights[1], biases[1])
    if likelihood == "gaussian":
        return (outputs - targets).square().mean().sqrt().item()
    if likelihood == "poisson":
        return F.poisson_nll_loss(outputs, targets, full=False).item()
    if "bernoulli" in likelihood or likelihood == "probabilities":
        return 100 * ((outputs > 0) != (targets == 1)).double().mean().item()
    return 100 * (outputs.argmax(1) != targets).double().mean().item()


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("likelihood", SPECS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_decoded_is_what_the_file_s_tensors_compute(wrapper, likelihood, loader):
    inputs, targets = data(likelihood)
    net = WRAPPERS[wrapper](LAST.get(likelihood, nn.Identity()))
    batches = LOADERS[loader](inputs, targets)
    options = {"prior": ONE_GROUP, "likelihood": SPECS[likelihood], "epochs": 2, "tau": 0.01}
    run = sws.compress(net, batches, test=batches, **options)
    found = run.report.score["decoded"]
    expected = by_hand(sws.decode(run.data).tensors(), likelihood, inputs, targets)
    if likelihood == "poisson":  # torch's loss leaves out log(count!), which no output changes
        expected += torch.lgamma(targets + 1).mean().item()
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)
    assert run.report.score["examples"] == N
