"""Evaluating: one walk through the batches for several networks, which all get the same draws."""

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, classifier
from scipy.special import log_softmax
from torch import nn

from pyro_sws.inference.batches import Batches
from pyro_sws.inference.evaluation import (
    Evaluated,
    device_dtype,
    error_cost,
    evaluate,
    evaluate_network,
    evaluate_together,
)
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Categorical, Distilled

FLOAT32 = torch.device("cpu"), torch.float32
FLOAT64 = torch.device("cpu"), torch.float64


class Counted(list):
    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


def halves(inputs, targets):
    return Counted([(inputs[:40], targets[:40]), (inputs[40:], targets[40:])])


def test_networks_in_one_walk_are_what_each_is_in_a_walk_of_its_own():
    net, inputs, targets = classifier()
    other, batches = nn.Linear(4, 3), halves(inputs, targets)
    networks = {"one": Evaluated(net, FLOAT32), "other": Evaluated(other, FLOAT32)}
    found = evaluate_together(networks, Categorical(), batches)
    assert batches.walks == 1
    for name, own in {"one": net, "other": other}.items():
        assert found[name] == evaluate_network(own, Categorical(), batches, FLOAT32)
    wrong = int((net(inputs).argmax(1) != targets).sum())
    assert found["one"].mistakes == wrong and found["one"].score == pytest.approx(100 * wrong / 60)


def test_scored_in_bits_a_network_has_its_mistakes_still():
    net, inputs, targets = classifier()
    by_error, by_bits = (
        evaluate_network(net, Categorical(scored_by=by), halves(inputs, targets), FLOAT32)
        for by in ("error", "bits")
    )
    chances = log_softmax(net(inputs).detach().double().numpy(), -1)[range(60), targets]
    assert by_bits.score == pytest.approx(-chances.mean() / np.log(2), rel=1e-5)
    assert by_bits.loss_variance == pytest.approx((chances / np.log(2)).var(), rel=1e-5)
    assert by_bits.mistakes == by_error.mistakes and not by_bits.zero_or_one
    assert by_bits.error_cost_nats == by_error.error_cost_nats


def test_a_bit_a_label_of_a_network_that_cannot_tell_is_no_mistake():
    """Every loss is 1, as if all were wrong; half of the labels are."""
    inputs, targets = torch.zeros(4, 2), torch.tensor([0, 1, 0, 1])
    found = evaluate_network(
        lambda x: x, Categorical(scored_by="bits"), [(inputs, targets)], FLOAT32
    )
    assert found.score == pytest.approx(1) and found.mistakes == 2


def test_each_network_gets_the_batch_in_its_own_dtype():
    _, inputs, targets = classifier()
    seen = []

    def network(inputs):
        seen.append(inputs)
        return inputs[:, :3]

    networks = {"double": Evaluated(network, FLOAT64), "single": Evaluated(network, FLOAT32)}
    double = inputs.double() + 1e-12  # lost in single precision
    evaluate_together(networks, Categorical(), [(double, targets)])
    assert torch.equal(seen[0], double) and seen[1].dtype == torch.float32


@pytest.mark.parametrize("likelihood", ["categorical", Distilled(share=0.5)])
def test_the_fit_s_cost_is_measured_in_the_same_walk(likelihood):
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, likelihood, 60)
    moved = {name: w + 0.1 for name, w in dict(net.named_parameters()).items()}
    batches = halves(inputs, targets)
    network = Evaluated(
        lambda x: model.outputs(moved, x), device_dtype(model), {}, observed=model.observed
    )
    found = evaluate_together({"n": network}, model.likelihood, batches)["n"]
    assert batches.walks == 1
    assert found.fit_cost_nats == error_cost(model, moved, batches, {})
    assert found.error_cost_nats == evaluate(model, moved, batches).error_cost_nats


def noisy(inputs):
    return inputs[:, :3] + 3 * torch.rand(len(inputs), 3)


def test_networks_that_draw_draw_alike_and_anew_for_each_batch():
    seen = []

    def network(inputs):
        seen.append(noisy(inputs))
        return seen[-1]

    networks = {name: Evaluated(network, FLOAT32) for name in "abc"}
    targets = torch.zeros(5, dtype=torch.int64)
    torch.manual_seed(3)
    evaluate_together(networks, Categorical(), [(torch.zeros(5, 4), targets)] * 2)
    first, second = seen[:3], seen[3:]
    for batch in (first, second):
        assert torch.equal(batch[0], batch[1]) and torch.equal(batch[0], batch[2])
    assert not torch.equal(first[0], second[0])


def test_the_batches_of_a_shuffling_loader_are_all_there_though_networks_draw():
    inputs = torch.arange(60.0)[:, None].expand(60, 4)
    seen = []

    def network(inputs):
        seen.append(inputs[:, 0])
        return noisy(inputs)

    networks = {name: Evaluated(network, FLOAT32) for name in "ab"}
    batches = Batches(inputs, torch.zeros(60, dtype=torch.int64), 7)
    found = evaluate_together(networks, Categorical(), batches)
    assert torch.cat(seen[::2]).sort().values.tolist() == list(range(60))
    assert found["a"] == found["b"] and found["a"].examples == 60


def test_no_batches_are_refused_by_what_they_should_be():
    with pytest.raises(ValueError, match="validation has no batches"):
        evaluate_together({"n": Evaluated(noisy, FLOAT32)}, Categorical(), [], "validation")
