"""A generalised likelihood: costs are the loss's own, and nothing is read from it that is not."""

import functools

import pytest
import torch
from every_likelihood import outputs
from problems import ONE_GROUP, classifier
from pyro.infer import Predictive, Trace_ELBO
from torch import nn
from torch.nn.functional import cross_entropy, ctc_loss

import pyro_sws as sws
from pyro_sws.diagnosis.diagnostics import stages
from pyro_sws.diagnosis.subject import subject_of
from pyro_sws.inference.evaluation import error_cost, evaluate, evaluate_network
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.likelihoods import Categorical, Loss

FLOAT64 = torch.device("cpu"), torch.float64
each_cross_entropy = functools.partial(cross_entropy, reduction="none")


def squared(out, targets):
    return (out - targets).square()


def ctc(out, targets, reduction="none"):
    log_probs = out.log_softmax(-1).transpose(0, 1)
    lengths = [torch.full((len(x),), x.shape[1]) for x in (out, targets)]
    return ctc_loss(log_probs, targets, *lengths, reduction=reduction)


def wrong(out, targets):
    return (out.argmax(-1) != targets).double()


# Costs are the loss's own.


@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("within", ["sum", "mean"])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 4)])
def test_the_density_is_minus_the_weighted_loss_of_each_example(shape, within, weight):
    out, targets = outputs(shape), outputs(shape, 1)
    rows = squared(out, targets).reshape(5, -1)
    losses = rows.sum(1) if within == "sum" else rows.mean(1)
    spec = Loss(squared, weight, within_example=within)
    torch.testing.assert_close(spec(out).log_prob(targets), -weight * losses)
    torch.testing.assert_close(spec.losses(out, targets), losses)
    density, observed = spec.given(out, targets)
    assert observed.shape == density.batch_shape == (5,)
    torch.testing.assert_close(density.log_prob(observed), -weight * losses)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_cross_entropy_is_the_categorical_likelihood_at_that_power(weight):
    net, inputs, targets = classifier()
    batches = [(inputs[:25], targets[:25]), (inputs[25:], targets[25:])]
    loss, plain = (
        sws.joint(net, ONE_GROUP, spec, 60)
        for spec in (Loss(each_cross_entropy, weight), Categorical())
    )
    expected = weight * error_cost(plain, {}, batches, {})
    assert error_cost(loss, {}, batches, {}) == pytest.approx(expected)
    assert evaluate(loss, {}, batches).score == pytest.approx(expected / weight / 60)


def test_a_fit_descends_the_loss_as_it_does_the_likelihood():
    net, inputs, targets = classifier()
    rows = [
        sws.compress(
            net,
            sws.Batches(inputs, targets, 20),
            prior=ONE_GROUP,
            likelihood=likelihood,
            fit=sws.Fitting(epochs=3, rates=sws.Rates(weights=1e-2)),
        ).history
        for likelihood in (Loss(each_cross_entropy), "categorical")
    ]
    for one, other in zip(*rows, strict=True):
        assert one["error_cost_nats"] == pytest.approx(other["error_cost_nats"], rel=1e-4)


def test_particles_side_by_side_have_losses_of_their_own():
    net, inputs, targets = classifier()
    found = []
    for likelihood in (Loss(each_cross_entropy), "categorical"):
        model = sws.joint(net, ONE_GROUP, likelihood, 60)
        guide = sws.delta_guide(model)
        elbo = Trace_ELBO(num_particles=3, vectorize_particles=True, max_plate_nesting=1)
        with pyro_step():
            found.append(elbo.loss(model, guide, inputs, targets))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_ctc_is_a_loss_of_sequences():
    out = outputs((5, 8, 4))
    targets = torch.randint(1, 4, (5, 3), generator=torch.Generator().manual_seed(0))
    found = Loss(ctc)(out).log_prob(targets)
    expected = [-ctc(x, y, "sum") for x, y in zip(out.split(1), targets.split(1), strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_of_a_batch_alone_costs_as_much_in_all(reduction):
    out, targets = outputs((6, 3)), torch.tensor([0, 1, 2, 0, 1, 2])
    spec = Loss(functools.partial(cross_entropy, reduction=reduction), reduction=reduction)
    total = cross_entropy(out, targets, reduction="sum")
    found = spec(out).log_prob(targets)
    torch.testing.assert_close(found, (-total / 6).expand(6))
    batches = [(out[:4], targets[:4]), (out[4:], targets[4:])]
    evaluated = evaluate_network(nn.Identity(), spec, batches, FLOAT64)
    assert evaluated.error_cost_nats == pytest.approx(total.item())
    assert evaluated.score == pytest.approx(total.item() / 6)


def test_outputs_and_targets_may_be_of_several_tensors():
    out = {"a": outputs((5, 3)), "b": outputs((5,), 1)}
    targets = outputs((5, 3), 2), outputs((5,), 3)

    def both(out, targets):
        return squared(out["a"], targets[0]).sum(1) + squared(out["b"], targets[1])

    spec = Loss(both)
    density, observed = spec.given(out, targets)
    assert density.batch_shape == observed.shape == (5,)
    torch.testing.assert_close(density.log_prob(observed), -both(out, targets))
    torch.testing.assert_close(spec.losses(out, targets), both(out, targets))


# Scores.


def test_a_score_is_the_mean_loss_or_a_function_of_ones_own():
    spec = Loss(squared)
    assert (spec.score_name, spec.score_unit, spec.score(0.3)) == ("loss", "loss", 0.3)
    spec = Loss(each_cross_entropy, score_function=wrong, score_unit="percent")
    assert (spec.score_name, spec.score_unit, spec.score(0.3)) == ("wrong", "percent", 30)
    assert Loss(squared, score_function=wrong, score_name="cer").score_name == "cer"
    net, inputs, targets = classifier()
    own, plain = (
        evaluate(sws.joint(net, ONE_GROUP, one, 60), {}, [(inputs, targets)])
        for one in (spec, "categorical")
    )
    assert own.score == plain.score


def test_a_score_without_a_name_is_refused():
    with pytest.raises(ValueError, match="score_function <lambda> has no name; give score_name="):
        Loss(squared, score_function=lambda out, targets: wrong(out, targets))


# What is not read from it.


def test_a_run_has_no_certificate_or_calibration_and_says_why():
    net, inputs, targets = classifier()
    spec = Loss(each_cross_entropy, score_function=wrong, score_unit="percent")
    run = sws.compress(
        net, sws.Batches(inputs, targets, 60), prior=ONE_GROUP, likelihood=spec, tau=0.03, epochs=2
    )
    assert run.report.certificate is None
    assert run.report.certificate_reason.startswith("the likelihood is a generalised one")
    assert run.report.certificate_reason in run.report.warnings
    trees = sws.to_arviz(run)
    assert "network" not in trees
    assert trees.without["network"].startswith("the likelihood is a generalised one")
    assert stages(subject_of(run, None, None)) is None


def test_a_walk_keeps_a_score_of_ones_own():
    net, inputs, targets = classifier()
    spec = Loss(each_cross_entropy, score_function=wrong, score_unit="percent")
    run = sws.compress(
        net, sws.Batches(inputs, targets, 60), likelihood=spec, budget=sws.Budget(passes=4)
    )
    assert run.report.walk is not None and run.report.score["name"] == "wrong"


def test_targets_cannot_be_drawn():
    net, inputs, targets = classifier()
    model = sws.joint(net, ONE_GROUP, Loss(each_cross_entropy), 60)
    with pytest.raises(ValueError, match="no targets can be drawn: a Loss is a generalised"):
        Predictive(model, num_samples=2)(inputs)


# What is no loss of each example.


@pytest.mark.parametrize(
    ("function", "more", "words"),
    [
        (cross_entropy, {}, 'returns one number a batch, .* give it reduction="none"'),
        (lambda o, t: squared(o, o)[1:], {}, r"for each of 4 examples, \(4, ...\), got float64 of"),
        (lambda o, t: 3.0, {}, "must return a tensor of floats, got float"),
        (lambda o, t: t, {}, "must return a tensor of floats, got int64 of shape"),
        (lambda o: o, {}, "cannot take float64 of shape .4, 3. and int64 .* takes 1 positional"),
        (each_cross_entropy, {"reduction": "mean"}, "one number a batch, and .* returns float64"),
        (
            each_cross_entropy,
            {"score_function": cross_entropy},
            "score_function cross_entropy must",
        ),
        (each_cross_entropy, {"score_function": squared}, "score_function squared cannot take"),
    ],
)
def test_a_function_that_gives_no_loss_an_example_is_refused_on_the_first_batch(
    function, more, words
):
    with pytest.raises(ValueError, match=f"^loss: .*{words}"):
        Loss(function, **more).check_reading(outputs((4, 3)), torch.tensor([0, 1, 2, 0]))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_module_that_reduces_is_refused_as_it_is_given(reduction):
    words = f"reduction='{reduction}', where a loss .* is needed: give it reduction=\"none\""
    with pytest.raises(ValueError, match=words):
        Loss(nn.CrossEntropyLoss(reduction=reduction))
    Loss(nn.CrossEntropyLoss(reduction="none"))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_is_not_positive_is_refused(weight):
    with pytest.raises(ValueError, match="loss: weight must be positive and finite, got"):
        Loss(squared, weight)


def test_a_compression_with_a_mean_is_refused_before_the_fit():
    net, inputs, targets = classifier()
    with pytest.raises(ValueError, match='cross_entropy returns one number .*reduction="none"'):
        sws.compress(net, sws.Batches(inputs, targets, 60), likelihood=Loss(cross_entropy))
