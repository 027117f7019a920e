"""Steps that are not finite end a run, with the step, the batch, and what it is that is not."""

import math

import pytest
import torch
from problems import ONE_GROUP, classifier
from torch import nn

import pyro_sws as sws
from pyro_sws.compression.pretrain import Pretraining, pretrain
from pyro_sws.compression.refine import refine
from pyro_sws.inference.finite import NotFinite, NotFiniteError
from pyro_sws.inference.finite_steps import (
    NotFiniteGradientError,
    NotFiniteStepError,
    check_gradients,
)
from pyro_sws.weights.group import Group


class Saturates(nn.Module):
    """Of an infinite input outputs and loss are finite: tanh is 1. The gradient is 0 times inf."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Root(Saturates):
    """Where the first input is 0 it takes the root of 0, of which no derivative is finite."""

    def forward(self, x):
        return self.second((self.first(x) * (x[:, :1] != 0)).abs().sqrt())


def made(family):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return family()


def batches(value=None, of="inputs"):
    """Six batches of ten, the third of which has one example with that value in it."""
    _, inputs, targets = classifier()
    found = [(inputs[i : i + 10].clone(), targets[i : i + 10]) for i in range(0, 60, 10)]
    if of == "targets":
        found = [(x, x.sum(1, keepdim=True)) for x, _ in found]
    if value is not None:
        found[2][of == "targets"][4, 0] = value
    return found


def fitted(net, data, likelihood="categorical", guide="delta", **settings):
    examples = sum(len(inputs) for inputs, _ in data)
    model = sws.joint(net, ONE_GROUP, likelihood, examples)
    return sws.fit(model, sws.GUIDES[guide](model), data, sws.Fitting(epochs=1, **settings))


def test_of_data_a_fit_names_the_batch_and_where_it_met_it():
    with pytest.raises(NotFiniteError) as found:
        fitted(classifier()[0], batches(math.nan))
    message = str(found.value)
    assert "inputs are not finite in 1 of 60 examples (first in batch 3)" in message
    assert message.endswith("met in epoch 1, step 3 (batch 3)")
    for value in (math.nan, math.inf):
        with pytest.raises(NotFiniteError, match=r"targets .* 1 of 60 examples \(first in batch 3"):
            fitted(nn.Linear(4, 1), batches(value, "targets"), "gaussian")


@pytest.mark.parametrize("guide", ["delta", "normal"])
def test_a_gradient_that_is_not_finite_is_an_error_though_the_loss_is(guide):
    words = r"'first.weight', 'first.bias'\) is not finite in epoch 1, step 3 \(batch 3\), where"
    with pytest.raises(NotFiniteGradientError, match=words) as found:
        fitted(made(Root), batches(0.0), guide=guide)
    assert "all.weights" in str(found.value) and "sqrt at 0" in str(found.value)
    with pytest.raises(NotFiniteError, match=r"first.weight.* its batch, the inputs .* in 1 of 10"):
        fitted(made(Saturates), batches(math.inf), guide=guide)


def test_also_in_the_last_step_after_which_no_loss_would_show_it():
    with pytest.raises(NotFiniteGradientError, match="epoch 1, step 3"):
        fitted(made(Root), batches(0.0)[:3])


def test_a_hyperparameter_that_becomes_infinite_is_named_in_the_next_step_or_at_the_end():
    # Adam's first step is as long as its rate: a logarithm of 200 is beyond single precision.
    net, rates = classifier()[0], sws.Rates(precisions=200.0)
    prior = sws.SpikeAndSlabs(3, 0.5)
    for data, words in [
        (batches(), r"step 2 \(batch 2\); not finite: all.*precision"),
        (batches()[:1], r"all.*precision.* became .*epoch 1, step 1"),
    ]:
        model = sws.joint(net, prior, "categorical", 10 * len(data))
        with pytest.raises(NotFiniteStepError, match=words):
            sws.fit(model, sws.delta_guide(model), data, sws.Fitting(epochs=1, rates=rates))


def test_without_a_step_a_cost_that_is_not_finite_is_refused_too():
    model = sws.joint(nn.Linear(4, 1), ONE_GROUP, "gaussian", 60)
    with pytest.raises(NotFiniteError, match=r"first in batch 3.*; met in batch 3"):
        sws.fit(model, sws.delta_guide(model), batches(1e30, "targets"), epochs=0)


def test_pre_training_names_the_parameter_the_step_and_what_the_batch_has():
    once = Pretraining(epochs=1)
    with pytest.raises(
        NotFiniteStepError, match=r"epoch 1 of pre-training, step 3 .* the inputs are"
    ):
        pretrain(classifier()[0], batches(math.nan), "categorical", once)
    with pytest.raises(NotFiniteStepError, match="step 3 .* the targets are not finite"):
        pretrain(nn.Linear(4, 1), batches(math.inf, "targets"), "gaussian", once)
    for data in (batches(0.0), batches(0.0)[:3]):
        with pytest.raises(NotFiniteGradientError, match="first.weight, first.bias .*step 3"):
            pretrain(made(Root), data, "categorical", once)


def test_a_walk_does_not_take_such_a_gradient_for_a_rate_that_was_too_large():
    words = r"in 'first.weight'\).* of a walk, at width .* of pass 1\), where"
    with pytest.raises(NotFiniteGradientError, match=words):
        sws.compress(made(Root), batches(0.0), likelihood="categorical")
    with pytest.raises(NotFiniteError, match="the inputs are not finite in 1 of"):
        sws.compress(made(Saturates), batches(math.inf), likelihood="categorical")


def test_a_refinement_names_them_too():
    net, good = made(Saturates), batches()
    model = sws.joint(net, ONE_GROUP, "categorical", 60)
    posterior = sws.merge(sws.fit(model, sws.delta_guide(model), good, epochs=1).posterior)
    once = sws.Refinement(epochs=1)
    # What snaps to 0 makes NaN of an infinite input.
    with pytest.raises(NotFiniteError, match=r"first in batch 3.*; met in epoch 1, step 3"):
        refine(model, posterior, batches(math.inf), once, sample=good[:1])
    rooted = sws.joint(made(Root), ONE_GROUP, "categorical", 60)  # of the same tensors
    with pytest.raises(NotFiniteGradientError, match="'first.weight'.* not finite in epoch 1"):
        refine(rooted, posterior, batches(0.0), once, sample=good[:1])


def test_large_gradients_whose_squares_overflow_are_let_pass_and_each_bad_entry_is_found():
    groups = {"all": Group("all", {"w": (2, 2), "b": (2,)}, torch.float32)}
    parameter = nn.Parameter(torch.zeros(6))
    parameter.grad = torch.full((6,), 1e38)
    assert not parameter.grad.square().isfinite().any()
    check_gradients({"all.weights": parameter}, 1.0, "step 1", (None, None), groups)
    for place, value, tensor in [(0, math.nan, "w"), (3, -math.inf, "w"), (5, math.inf, "b")]:
        parameter.grad = torch.full((6,), 1e38)
        parameter.grad[place] = value
        with pytest.raises(NotFiniteGradientError, match=rf"all.weights \(in '{tensor}'\) is not"):
            check_gradients({"all.weights": parameter}, 1.0, "step 1", (None, None), groups)


def test_the_first_batch_of_the_kind_that_is_told_is_named():
    counts = [NotFinite(outputs=1, examples=4), NotFinite(examples=4), NotFinite(2, examples=4)]
    assert NotFinite.total(counts) == NotFinite(2, outputs=1, examples=12, batch=3)
    assert NotFinite.total(counts[2:]).batch is None  # there is but one
    assert not NotFinite.total([NotFinite(examples=4)] * 2)
