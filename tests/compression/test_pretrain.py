"""Pre-training: a trained copy, with a cost that falls, and what cannot be trained is refused."""

import pytest
import torch
from small_recipe import write_recipe

import pyro_sws as sws
from pyro_sws.compression.pretrain import Pretraining, pretrain
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.inputs import build_network


def test_pretraining_leaves_the_network_as_it_was_and_lowers_the_error_cost(tmp_path):
    plan = read_recipe(write_recipe(tmp_path))
    net, data = build_network(plan.network, 0), plan.data.source()
    before, costs = {n: t.clone() for n, t in net.state_dict().items()}, []
    settings = Pretraining(epochs=30, rate=0.02)
    trained = pretrain(
        net,
        sws.Batches(*data["train"], 20),
        "categorical",
        settings,
        callback=lambda told: costs.append(told.row["error_cost_nats_per_example"]),
    )
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    assert not trained.training and len(costs) == 30 and costs[-1] < 0.5 * costs[0]


def test_pretraining_that_diverges_says_when_and_what_to_lower():
    net, data = torch.nn.Linear(1, 1), [(torch.ones(4, 1), torch.full((4, 1), 1e38))]
    with pytest.raises(
        FloatingPointError, match="became inf in epoch 1 of pre-.*lower pretraining"
    ):
        pretrain(net, data, "gaussian", Pretraining(epochs=3))


class Keeps(torch.nn.Linear):
    """It keeps its last outputs, with their graph: a plain deep copy of it fails."""

    def forward(self, x):
        self.seen = super().forward(x)
        return self.seen


def test_a_network_that_keeps_an_activation_or_is_wrapped_is_trained_as_the_one_inside():
    data = [(torch.ones(4, 2), torch.ones(4, 1))]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Keeps(2, 1)
    net(data[0][0])
    trained = pretrain(net, data, "gaussian", Pretraining(epochs=2))
    plain = torch.nn.Linear(2, 1)
    plain.load_state_dict(net.state_dict())
    wrapped = torch.nn.DataParallel(plain)
    for expected in (plain, wrapped):
        other = pretrain(expected, data, "gaussian", Pretraining(epochs=2)).state_dict()
        assert list(other) == ["weight", "bias"]
        assert all(torch.equal(t, other[name]) for name, t in trained.state_dict().items())
    assert net.seen.requires_grad


def test_what_cannot_be_compressed_is_not_trained_first():
    data = [(torch.ones(4, 2), torch.ones(4, 1))]
    pruned = torch.nn.Linear(2, 1)
    torch.nn.utils.prune.random_unstructured(pruned, "weight", 1)
    with pytest.raises(ValueError, match="prune.remove"):
        pretrain(pruned, data, "gaussian", Pretraining())
    with pytest.raises(TypeError, match="the class Linear"):
        pretrain(torch.nn.Linear, data, "gaussian", Pretraining())
    with pytest.raises(ValueError, match="Linear cannot compute outputs for inputs, float32"):
        pretrain(torch.nn.Linear(3, 1), data, "gaussian", Pretraining())


def test_pretraining_without_parameters_or_batches_is_refused():
    with pytest.raises(ValueError, match="Tanh has no parameters to train"):
        pretrain(torch.nn.Tanh(), [], "gaussian", Pretraining())
    with pytest.raises(ValueError, match="batches is empty"):
        pretrain(torch.nn.Linear(1, 1), [], "gaussian", Pretraining())
