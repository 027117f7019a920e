"""Evaluating: one walk through the batches for several networks, which all get the same draws."""

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, classifier
from scipy.special import log_softmax
from torch import nn
from torch.nn.functional import cross_entropy

from pyro_sws.compression.walk.judge import standard_error
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
from pyro_sws.inference.likelihoods import Categorical, Distilled, Gaussian

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
        evaluate_network(net, Categorical(score=by), halves(inputs, targets), FLOAT32)
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
    found = evaluate_network(lambda x: x, Categorical(score="bits"), [(inputs, targets)], FLOAT32)
    assert found.score == pytest.approx(1) and found.mistakes == 2


def padded(lengths, most, seed):
    """Inputs (B, most, 2), which are logits too, and labels of which the last are padding."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (len(lengths), most), generator=generator)
    labels[torch.arange(most) >= torch.tensor(lengths)[:, None]] = -100
    return torch.randn(len(lengths), most, 2, generator=generator), labels


def test_a_score_is_the_mean_over_the_labels_that_count_of_all_batches():
    """Padded to other lengths, with a sequence and a batch in which nothing counts."""
    batches = [padded([3, 1, 5], 5, 0), padded([2, 0], 2, 1), padded([0, 0, 0], 3, 2)]
    likelihood = Categorical(score="nll", ignore_index=-100)
    found = evaluate_network(lambda x: x, likelihood, batches, FLOAT32)
    logits, labels = (torch.cat([b[i].flatten(0, 1) for b in batches]) for i in (0, 1))
    expected = cross_entropy(logits, labels, ignore_index=-100)
    assert found.score == pytest.approx(expected.item(), rel=1e-5)
    assert found.error_cost_nats == pytest.approx(11 * expected.item(), rel=1e-5)
    assert (found.examples, found.judged, found.mistakes) == (8, 4, None)
    by_error = Categorical(ignore_index=-100)
    wrong = (logits.argmax(-1) != labels)[labels != -100].double().mean().item()
    error = evaluate_network(lambda x: x, by_error, batches, FLOAT32)
    assert error.score == pytest.approx(100 * wrong)


def test_the_variance_of_a_mean_over_labels_is_what_other_draws_of_examples_show():
    """Of 2,000 draws of 200 sequences: their scores' variance, to five of its standard errors."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(0, 6, (200,), generator=generator).tolist()
    logits, labels = padded(lengths, 5, 1)
    likelihood = Categorical(score="nll", ignore_index=-100)
    found = evaluate_network(lambda x: x, likelihood, [(logits, labels)], FLOAT32)
    each = cross_entropy(logits.movedim(-1, 1), labels, ignore_index=-100, reduction="none").sum(1)
    drawn = torch.randint(200, (2000, 200), generator=generator)
    counts = torch.tensor(lengths)[drawn].sum(1)
    variance = (each[drawn].sum(1) / counts).double().var().item()
    error = variance * (2 / 1999) ** 0.5
    # To first order in 1/n: the rest is of the order of 1/200 of the variance.
    assert abs(found.loss_variance / 200 - variance) < 5 * error + 0.02 * variance


def test_examples_that_are_ignored_are_neither_right_nor_wrong():
    net, inputs, targets = classifier()
    labels, likelihood = targets.clone(), Categorical(ignore_index=-100)
    labels[::3] = -100
    kept = labels != -100
    found = evaluate_network(net, likelihood, halves(inputs, labels), FLOAT32)
    rest = evaluate_network(net, Categorical(), [(inputs[kept], labels[kept])], FLOAT32)
    assert (found.score, found.mistakes, found.judged) == (rest.score, rest.mistakes, 40)
    assert standard_error(found, likelihood) == pytest.approx(standard_error(rest, Categorical()))


def test_losses_of_a_subclass_in_percent_are_what_is_counted():
    class Lenient(Categorical):
        """Wrong only where the label is the least probable one."""

        def losses(self, outputs, targets):
            return (outputs.argmin(-1) == targets).double()

    net, inputs, targets = classifier()
    found = evaluate_network(net, Lenient(), [(inputs, targets)], FLOAT32)
    assert found.mistakes == int((net(inputs).argmin(1) == targets).sum())
    assert found.score == pytest.approx(100 * found.mistakes / 60)


def test_losses_that_a_likelihood_has_summed_are_over_the_examples_still():
    class Summed(Gaussian):
        def losses(self, outputs, targets):
            return super().losses(outputs, targets).sum()

    outputs, targets = torch.randn(9, 2), torch.randn(9, 2)
    found, expected = (
        evaluate_network(
            lambda x: x, spec, [(outputs[:4], targets[:4]), (outputs[4:], targets[4:])], FLOAT32
        )
        for spec in (Summed(), Gaussian())
    )
    assert found.score == pytest.approx(expected.score) and found.judged == 9


def test_data_in_which_every_target_is_ignored_has_no_score():
    net, inputs, targets = classifier()
    batches = halves(inputs, torch.full_like(targets, -100))
    with pytest.raises(
        ValueError, match="validation: the likelihood ignores every target of its 6"
    ):
        evaluate_network(net, Categorical(ignore_index=-100), batches, FLOAT32, what="validation")


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
