"""Soft targets: the fit's density by numpy, the teacher the network as given, scores of labels."""

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, classifier
from scipy.special import log_softmax, softmax

import pyro_sws as sws
from pyro_sws.inference.evaluation import error_cost, error_gradient, evaluate
from pyro_sws.inference.likelihoods import LIKELIHOODS, Categorical, Distilled

SHAPES = [(5, 3), (5, 2, 3), (5, 2, 4, 3)]


def outputs(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def written_out(own, teacher, targets, share, temperature, smoothing=0.0):
    """Of each example, from the definition, in numpy; positions within it summed."""
    own, teacher = own.numpy(), teacher.numpy()
    logs = log_softmax(own, -1)
    label = np.take_along_axis(logs, targets.numpy()[..., None], -1)[..., 0]
    label = (1 - smoothing) * label + smoothing * logs.mean(-1)
    soft = softmax(teacher / temperature, -1) * log_softmax(own / temperature, -1)
    each = (1 - share) * label + share * temperature**2 * soft.sum(-1)
    return each.reshape(len(each), -1).sum(1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", [(0.5, 2.0, 0.0), (0.9, 4.0, 0.1), (0.0, 1.0, 0.2), (1.0, 0.5, 0)])
def test_the_density_is_the_definition(shape, spec):
    own, teacher = outputs(shape), outputs(shape, 1)
    targets = torch.randint(3, shape[:-1], generator=torch.Generator().manual_seed(2))
    found = Distilled(*spec[:2], label_smoothing=spec[2]).taught(own, teacher)
    assert found.batch_shape == shape[:1]
    np.testing.assert_allclose(
        found.log_prob(targets), written_out(own, teacher, targets, *spec), rtol=1e-10
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_ignored_labels_have_no_soft_targets_either(shape):
    own, teacher = outputs(shape), outputs(shape, 1)
    labels = torch.randint(3, shape[:-1], generator=torch.Generator().manual_seed(2))
    ignored = torch.arange(labels.numel()).view(labels.shape) % 3 == 1
    spec = Distilled(0.5, 2.0, label_smoothing=0.1, ignore_index=-100)
    found = spec.taught(own, teacher).log_prob(labels.masked_fill(ignored, -100))
    rows, logs = own[~ignored], teacher[~ignored]  # (n, 3): each an example of its own
    each = written_out(rows, logs, labels[~ignored], 0.5, 2.0, 0.1)
    expected = np.zeros(labels.shape)
    expected[~ignored] = each
    np.testing.assert_allclose(found, expected.reshape(len(own), -1).sum(1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("spec", [Categorical, Distilled])
def test_examples_that_are_ignored_cost_a_fit_nothing(spec):
    """The cost and its gradient are those of the others alone."""
    net, inputs, targets = classifier()
    padded = targets.clone()
    padded[::3] = -100
    kept = padded != -100
    model = sws.joint(net, ONE_GROUP, spec(ignore_index=-100), len(inputs))
    moved = {name: w + 0.1 for name, w in dict(net.named_parameters()).items()}
    whole, rest = [(inputs, padded)], [(inputs[kept], targets[kept])]
    expected = error_cost(model, moved, rest, {})
    assert error_cost(model, moved, whole, {}) == pytest.approx(expected, rel=1e-6)
    slopes = (error_gradient(model, moved, batches, {}) for batches in (whole, rest))
    torch.testing.assert_close(next(slopes), next(slopes), rtol=1e-4, atol=1e-5)


def test_without_a_share_or_smoothing_it_is_categorical():
    own, targets = outputs((6, 3)), torch.arange(6) % 3
    found = Distilled(share=0.0).taught(own, outputs((6, 3), 1))
    torch.testing.assert_close(found.log_prob(targets), Categorical()(own).log_prob(targets))


def test_a_network_that_is_its_teacher_feels_nothing_of_it():
    own, targets = outputs((6, 3)).requires_grad_(), torch.zeros(6, dtype=torch.int64)
    Distilled(share=1.0).taught(own, own.detach()).log_prob(targets).sum().backward()
    torch.testing.assert_close(own.grad, torch.zeros_like(own), rtol=0, atol=1e-12)


def model_of(spec, **more):
    net, inputs, targets = classifier()
    return net, inputs, targets, sws.joint(net, ONE_GROUP, spec, len(inputs), **more)


def test_the_teacher_is_the_network_as_given_wherever_the_weights_are():
    spec = Distilled(share=0.7, temperature=3.0)
    start = {"0.weight": torch.zeros(8, 4)}
    net, inputs, targets, model = model_of(spec, start=start)
    moved = {name: w + 0.1 for name, w in dict(net.named_parameters()).items()}
    own = torch.func.functional_call(net, moved, (inputs,)).detach()
    expected = -written_out(own, net(inputs).detach(), targets, 0.7, 3.0).sum()
    batches = [(inputs[:50], targets[:50]), (inputs[50:], targets[50:])]
    assert error_cost(model, moved, batches, {}) == pytest.approx(expected, rel=1e-6)


def test_the_fit_descends_what_error_cost_measures_and_evaluate_is_of_labels():
    net, inputs, targets, model = model_of(Distilled(share=0.5))
    batches = sws.Batches(inputs, targets, 60)
    rates = sws.Rates(weights=0.0, means=0.0, precisions=0.0, proportions=0.0)
    row = sws.fit(
        model, sws.delta_guide(model), batches, settings=sws.Fitting(epochs=1, rates=rates)
    ).history[0]
    weights = dict(net.named_parameters())
    assert row["error_cost_nats"] == pytest.approx(error_cost(model, weights, batches, {}))
    plain = model_of("categorical")[-1]
    assert evaluate(model, weights, batches) == evaluate(plain, weights, batches)
    slopes = error_gradient(model, weights, batches, {})
    there = {name: w.detach() + 1e-3 * slopes[name].sign() for name, w in weights.items()}
    here = {name: w.detach() - 1e-3 * slopes[name].sign() for name, w in weights.items()}
    change = error_cost(model, there, batches, {}) - error_cost(model, here, batches, {})
    expected = 2e-3 * sum(s.abs().sum().item() for s in slopes.values())
    assert change == pytest.approx(expected, rel=1e-2)


def test_a_compressed_network_stays_closer_to_its_teacher():
    net, inputs, targets = classifier()
    batches = sws.Batches(inputs, 2 - targets, 60)  # labels that the teacher does not give
    found = {
        share: sws.compress(
            net,
            batches,
            prior=ONE_GROUP,
            likelihood=Distilled(share=share),
            fit=sws.Fitting(epochs=30, rates=sws.Rates(weights=2e-2)),
        )
        for share in (0.0, 1.0)
    }
    away = {
        share: (result.posterior.weights["2.weight"] - net[2].weight).norm().item()
        for share, result in found.items()
    }
    assert away[1.0] < 0.5 * away[0.0]


@pytest.mark.parametrize(
    "fields", [{"share": 1.1}, {"share": -0.1}, {"label_smoothing": 2.0}, {"temperature": 0.0}]
)
def test_impossible_fields_are_refused(fields):
    with pytest.raises(ValueError, match=f"distilled: {next(iter(fields))} must be"):
        Distilled(**fields)


def test_it_is_in_the_table():
    assert LIKELIHOODS["distilled"] is Distilled
