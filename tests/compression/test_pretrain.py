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


def test_pretraining_without_parameters_or_batches_is_refused():
    with pytest.raises(ValueError, match="Tanh has no parameters to train"):
        pretrain(torch.nn.Tanh(), [], "gaussian", Pretraining())
    with pytest.raises(ValueError, match="batches is empty"):
        pretrain(torch.nn.Linear(1, 1), [], "gaussian", Pretraining())
