"""Smoothed labels and probabilities of classes: costs are torch's cross-entropies."""

import numpy as np
import pytest
import torch
from every_likelihood import SHAPES, outputs
from problems import ONE_GROUP, classifier
from torch.nn.functional import cross_entropy, one_hot

import pyro_sws as sws
from pyro_sws.compression.pretrain import Pretraining, pretrain
from pyro_sws.inference.evaluation import error_cost, evaluate
from pyro_sws.inference.likelihoods import Categorical, SoftCategorical, fitted

PROBABILITIES = torch.tensor([[0.5, 0.5, 0.0], [0.1, 0.2, 0.7]], dtype=torch.float64)
LOGITS = torch.zeros(2, 3, dtype=torch.float64)


def soft(shape):
    return outputs(shape, seed=1).softmax(-1)


def by_example(values):
    return values.reshape(len(values), -1).sum(1)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_log_prob_of_soft_labels_is_minus_torchs_cross_entropy(shape):
    out, targets = outputs(shape), soft(shape)
    each = cross_entropy(out.movedim(-1, 1), targets.movedim(-1, 1), reduction="none")
    found = SoftCategorical()(out).log_prob(targets)
    torch.testing.assert_close(found, by_example(-each))
    second = SoftCategorical(class_dim=1)
    moved, moved_targets = out.movedim(-1, 1), targets.movedim(-1, 1)
    second.check(moved, moved_targets)
    torch.testing.assert_close(second(moved).log_prob(moved_targets), found)
    chances = SoftCategorical(inputs="probabilities")(out.softmax(-1))
    torch.testing.assert_close(chances.log_prob(targets), found)


@pytest.mark.parametrize("shape", SHAPES)
def test_one_hot_soft_labels_cost_what_labels_do(shape):
    out = outputs(shape)
    labels = torch.arange(out[..., 0].numel()).remainder(3).view(shape[:-1])
    certain = one_hot(labels, 3).double()
    spec, plain = SoftCategorical(), Categorical()
    torch.testing.assert_close(spec(out).log_prob(certain), plain(out).log_prob(labels))
    for score in ("error", "bits", "nll"):
        spec, plain = SoftCategorical(score=score), Categorical(score=score)
        torch.testing.assert_close(spec.losses(out, certain), plain.losses(out, labels))


def test_a_class_that_is_ruled_out_costs_nothing_where_its_probability_is_0():
    out = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    found = SoftCategorical()(out).log_prob(torch.tensor([[0.25, 0.75, 0.0]]))
    expected = torch.tensor([0.0, 1.0]).log_softmax(0) @ torch.tensor([0.25, 0.75])
    torch.testing.assert_close(found, expected[None])
    found.sum().backward()
    assert out.grad[0, :2].isfinite().all()


def test_an_answer_is_right_where_it_is_a_most_probable_one():
    out = torch.eye(3, dtype=torch.float64)
    targets = PROBABILITIES[[0, 0, 0]]
    assert SoftCategorical().losses(out, targets).tolist() == [0, 0, 1]
    assert SoftCategorical(score="nll").mistakes(out, targets).tolist() == [0, 0, 1]


@pytest.mark.parametrize("class_dim", [None, 1])
def test_draws_are_labels_of_the_networks_probabilities(class_dim):
    out = torch.tensor([0.1, 0.3, 0.6]).log().expand(2, 4, 3)
    out = out.movedim(-1, 1) if class_dim == 1 else out
    spec, n = SoftCategorical(class_dim=class_dim), 10_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = spec(out).sample((n,))
    assert drawn.shape == (n, *out.shape)
    share = drawn.mean(0)
    error = (out.exp() * (1 - out.exp()) / n).sqrt()
    assert ((share - out.exp()).abs() < 5 * error).all()


@pytest.mark.parametrize(
    ("spec", "targets", "words"),
    [
        (
            SoftCategorical(),
            torch.tensor([0, 1]),
            r"must be floats, .* got int64 .* Categorical\(\)",
        ),
        (SoftCategorical(), PROBABILITIES[:, :2], r"have shape \(2, 3\), got float64 of"),
        (SoftCategorical(), PROBABILITIES + 0.4, "which are in 0..1, got values in 0.4..1.1"),
        (SoftCategorical(), PROBABILITIES * torch.nan, "which are in 0..1, got values in nan"),
        (SoftCategorical(), PROBABILITIES / 2, "must sum to 1 over the classes; they sum to 0.5"),
    ],
)
def test_soft_labels_that_cannot_be_are_refused(spec, targets, words):
    with pytest.raises(ValueError, match=f"^soft_categorical: .*{words}"):
        spec.check(LOGITS, targets)


def test_soft_labels_with_their_classes_elsewhere_say_where():
    out, targets = outputs((5, 2, 3)), soft((5, 2, 3)).movedim(-1, 1)
    with pytest.raises(ValueError, match="they do in dimension 1: say class_dim=1"):
        SoftCategorical().check(out.movedim(-1, 1), targets)


def test_a_softmax_is_found_and_labels_in_its_place_say_what_to_do():
    with pytest.raises(ValueError, match=r'or say SoftCategorical\(inputs="probabilities"\)'):
        SoftCategorical().check_reading(outputs((5, 3)).softmax(-1), soft((5, 3)))
    with pytest.raises(ValueError, match=r"of probabilities of classes say SoftCategorical\(\)"):
        Categorical().check(LOGITS, PROBABILITIES)


# Smoothed labels.


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fit_smooths_labels_as_torch_does(shape, smoothing):
    out = outputs(shape)
    labels = torch.arange(out[..., 0].numel()).remainder(3).view(shape[:-1])
    labels.view(-1)[2] = -100
    spec = Categorical(label_smoothing=smoothing, ignore_index=-100)
    each = cross_entropy(
        out.movedim(-1, 1), labels, label_smoothing=smoothing, ignore_index=-100, reduction="none"
    )
    torch.testing.assert_close(fitted(spec, out).log_prob(labels), by_example(-each))


def test_scores_and_error_costs_are_of_the_labels_themselves():
    net, inputs, targets = classifier()
    found = []
    for smoothing in (0.0, 0.2):
        spec = Categorical(label_smoothing=smoothing, score="bits")
        model = sws.joint(net, ONE_GROUP, spec, len(inputs))
        batches = [(inputs, targets)]
        found.append(evaluate(model, {}, batches))
        expected = cross_entropy(net(inputs), targets, reduction="sum", label_smoothing=smoothing)
        assert error_cost(model, {}, batches, {}) == pytest.approx(expected.item(), rel=1e-5)
    assert found[0] == found[1]


def test_a_fit_and_a_pretraining_descend_torchs_smoothed_loss():
    net, inputs, targets = classifier()
    expected = cross_entropy(net(inputs), targets, reduction="sum", label_smoothing=0.2).item()
    spec, batches = Categorical(label_smoothing=0.2), sws.Batches(inputs, targets, 60)
    model, still = sws.joint(net, ONE_GROUP, spec, 60), sws.Rates(weights=0.0)
    settings = sws.Fitting(epochs=1, rates=still)
    fitted_row = sws.fit(model, sws.delta_guide(model), batches, settings=settings).history[0]
    assert fitted_row["error_cost_nats"] == pytest.approx(expected, rel=1e-5)
    rows = []
    pretrain(net, batches, spec, Pretraining(epochs=1, batch_size=60), callback=rows.append)
    cost = rows[0].row["error_cost_nats_per_example"]
    assert cost == pytest.approx(expected / 60, rel=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.5, float("nan")])
def test_smoothing_that_is_no_share_is_refused(smoothing):
    with pytest.raises(ValueError, match=r"categorical: label_smoothing must be in \[0, 1\], got"):
        Categorical(label_smoothing=smoothing)


def test_a_temperature_of_ones_own_is_smoothed_as_well():
    class Halved(Categorical):
        def __call__(self, outputs):
            return super().__call__(outputs / 2)

    out, labels = outputs((5, 3)), torch.tensor([0, 1, 2, 0, 1])
    expected = cross_entropy(out / 2, labels, label_smoothing=0.1, reduction="none")
    found = fitted(Halved(label_smoothing=0.1), out).log_prob(labels)
    np.testing.assert_allclose(found, -expected)
