"""Several labels an example, each 0 or 1: torch's binary cross-entropy, and scores by hand."""

import math

import pytest
import torch
from every_likelihood import outputs
from scipy.special import expit
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

import pyro_sws as sws
from pyro_sws.compression.walk.judge import judge
from pyro_sws.inference.evaluation import evaluate_network
from pyro_sws.inference.likelihoods import Bernoulli

FLOAT64 = torch.device("cpu"), torch.float64
SHAPES = [(6,), (6, 4), (6, 2, 4)]

# Rows: both right, one wrong, both wrong, one not known and the other right.
OUT = torch.tensor([[2.0, -1.0], [2.0, 1.0], [-3.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
KNOWN = torch.tensor([[1, 0], [1, 0], [1, 0], [1, 0]], dtype=torch.float64)
PARTLY = torch.tensor([[1, 0], [1, 0], [1, 0], [-1, 0]], dtype=torch.float64)


def labels(shape):
    return (outputs(shape, seed=1) > 0).double()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bool])
def test_labels_cost_torchs_binary_cross_entropy_summed_over_an_example(shape, dtype):
    out, targets = outputs(shape), labels(shape)
    each = binary_cross_entropy_with_logits(out, targets, reduction="none")
    spec = Bernoulli()
    spec.check(out, targets.to(dtype))
    found = spec(out).log_prob(targets.to(dtype))
    torch.testing.assert_close(found, -each.reshape(6, -1).sum(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_labels_that_are_not_known_cost_nothing_and_have_no_gradient(shape):
    out, targets = outputs(shape).requires_grad_(), labels(shape)
    unknown = outputs(shape, seed=2) > 0.5
    each = binary_cross_entropy_with_logits(out, targets, reduction="none")
    expected = -each.masked_fill(unknown, 0).reshape(6, -1).sum(1)
    spec = Bernoulli(ignore_index=-1)
    marked = targets.masked_fill(unknown, -1)
    spec.check(out, marked)
    found = spec(out).log_prob(marked)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert (out.grad[unknown] == 0).all() and (out.grad[~unknown] != 0).all()


@pytest.mark.parametrize(
    ("score", "known", "partly"),
    [("error", 100 * 3 / 8, 100 * 3 / 7), ("exact_match_error", 50, 50)],
)
def test_errors_are_of_labels_or_of_examples(score, known, partly):
    for spec, targets, expected in (
        (Bernoulli(score=score), KNOWN, known),
        (Bernoulli(score=score, ignore_index=-1), PARTLY, partly),
    ):
        found = evaluate_network(nn.Identity(), spec, [(OUT, targets)], FLOAT64)
        assert found.score == pytest.approx(expected)


@pytest.mark.parametrize(("score", "unit"), [("bits", math.log(2)), ("nll", 1.0)])
def test_bits_are_the_mean_over_the_labels_that_are_known(score, unit):
    right = torch.tensor(expit((OUT * (2 * PARTLY - 1)).numpy()))
    expected = -right[PARTLY >= 0].log().mean() / unit
    spec = Bernoulli(score=score, ignore_index=-1)
    found = evaluate_network(nn.Identity(), spec, [(OUT, PARTLY)], FLOAT64)
    assert found.score == pytest.approx(float(expected))


def test_an_example_without_a_known_label_is_none():
    nothing = torch.full((1, 2), -1.0, dtype=torch.float64)
    for score in ("error", "exact_match_error", "nll"):
        spec = Bernoulli(score=score, ignore_index=-1)
        both = [(torch.cat([OUT, OUT[:1]]), torch.cat([PARTLY, nothing]))]
        one = evaluate_network(nn.Identity(), spec, both, FLOAT64)
        other = evaluate_network(nn.Identity(), spec, [(OUT, PARTLY)], FLOAT64)
        assert (one.score, one.judged) == (pytest.approx(other.score), 4)


def test_a_certificate_is_of_examples_that_are_wrong_anywhere():
    found = evaluate_network(
        nn.Identity(), Bernoulli(score="exact_match_error"), [(OUT, KNOWN)], FLOAT64
    )
    assert (found.mistakes, found.judged, found.classes) == (2, 4, 4)
    by_label = evaluate_network(nn.Identity(), Bernoulli(), [(OUT, KNOWN)], FLOAT64)
    assert by_label.mistakes is None and by_label.classes == 2


def test_a_tolerance_knows_what_one_answer_for_all_scores():
    """Of 1,000 examples 2 % have a label 1; a network that knows them may lose a quarter of it."""
    targets = torch.zeros(10_000, 2)
    targets[:100, 0], targets[100:200, 1] = 1, 1

    class Knows(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.eye(2))

        def forward(self, inputs):
            return 10 * inputs @ self.weight

    for score, common in (("error", 1.0), ("exact_match_error", 2.0)):
        model = sws.joint(Knows(), sws.SpikeAndSlabs(), Bernoulli(score=score), 10_000)
        found = judge(model, [(2 * targets - 1, targets)], "validation", None)
        assert found.tolerance == pytest.approx(common / 4)
        unknown = targets.clone()
        unknown[5000:, 1] = -1
        spec = Bernoulli(score=score, ignore_index=-1)
        model = sws.joint(Knows(), sws.SpikeAndSlabs(), spec, 10_000)
        found = judge(model, [(2 * targets - 1, unknown)], "validation", None)
        wrong = 2.0 if score == "exact_match_error" else 100 * 200 / 15_000
        assert found.tolerance == pytest.approx(wrong / 4)


def test_bool_labels_with_unknown_ones_are_compressed_and_decoded():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 5, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Linear(5, 3)
    with torch.no_grad():
        net.weight.copy_(3 * torch.eye(5)[:3])
        net.bias.zero_()
    unknown = (inputs[:, :3] > 0).float().masked_fill(inputs[:, 3:4] > 1, -1)
    for likelihood, targets in (
        (Bernoulli(score="exact_match_error"), inputs[:, :3] > 0),
        (Bernoulli(ignore_index=-1), unknown),
    ):
        batches = sws.Batches(inputs, targets, 100)
        result = sws.compress(net, batches, likelihood=likelihood, tau=0.01, epochs=5)
        found = result.report
        assert found.score["before"] == 0 and found.score["decoded"] < 20
        assert found.score["examples"] == int((targets != -1).any(1).sum())
        if likelihood.score == "exact_match_error":
            assert found.certificate["chance_percent"] == 87.5


@pytest.mark.parametrize(
    ("spec", "targets", "words"),
    [
        (Bernoulli(), PARTLY, "must be 0 or 1, got values in -1..1; .* say ignore_index=-1$"),
        (Bernoulli(ignore_index=-1), PARTLY - 1, "must be 0 or 1, got values in -2..0"),
        (Bernoulli(), KNOWN.long(), r"must be floats, got int64 of .*give targets.float\(\)"),
        (Bernoulli(), KNOWN[:, 0], r"must have shape \(4, 2\), got float64 of shape \(4,\)"),
    ],
)
def test_labels_that_cannot_be_are_refused(spec, targets, words):
    with pytest.raises(ValueError, match=f"^bernoulli: targets {words}"):
        spec.check(OUT, targets)


@pytest.mark.parametrize("ignore_index", [0, 1])
def test_a_label_cannot_be_ignored(ignore_index):
    with pytest.raises(ValueError, match=f"none of 0 and 1, got {ignore_index}; mark labels"):
        Bernoulli(ignore_index=ignore_index)


def test_a_sigmoid_is_found_beside_labels_that_are_not_known():
    targets = labels((200, 3))
    p = (targets * 0.8 + 0.1).masked_fill(outputs((200, 3), seed=3) > 0.5, 0.4)
    marked = targets.masked_fill(outputs((200, 3), seed=3) > 0.5, -1)
    with pytest.raises(ValueError, match=r'Bernoulli\(inputs="probabilities"\)'):
        Bernoulli(ignore_index=-1).check_reading(p, marked)
