"""Likelihoods: densities are scipy's, scores are a hand's, and every one keeps the contract."""

import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from every_likelihood import FUNCTIONS, SHAPES, SPECS, outputs, outputs_of, targets_of
from problems import ONE_GROUP
from pyro.infer import Trace_ELBO
from scipy import stats
from scipy.special import expit, softmax
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.evaluation import error_cost
from pyro_sws.inference.fit import complexity_cost
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    Categorical,
    Distilled,
    Gaussian,
    Laplace,
    Poisson,
    StudentT,
    as_likelihood,
)


def by_example(values):
    return values.reshape(len(values), -1).sum(1)


# One contract over the table.


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_there_is_one_log_prob_an_example(name, shape):
    likelihood, out = SPECS[name], outputs_of(name, shape)
    targets = targets_of(name, out)
    assert likelihood(out).batch_shape == (5,)
    assert likelihood(out).log_prob(targets).shape == (5,)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_draw_is_a_target_that_passes_the_check_and_can_be_scored(name, shape):
    likelihood, out = SPECS[name], outputs_of(name, shape)
    targets = targets_of(name, out)
    likelihood.check(out, targets)
    losses = likelihood.losses(out, targets)
    assert losses.shape == (5,) and losses.dtype == torch.float64
    assert isinstance(likelihood.score(float(losses.mean())), float)
    assert type(likelihood.score_name) is str and likelihood.score_name
    assert type(likelihood.score_unit) is str and likelihood.score_unit


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_an_examples_density_and_loss_are_its_own(name):
    likelihood, out = SPECS[name], outputs_of(name, (5, 2, 3))
    targets = targets_of(name, out)
    rows = [(x, y) for x, y in zip(out.split(1), targets.split(1), strict=True)]
    densities = torch.cat([likelihood(x).log_prob(y) for x, y in rows])
    torch.testing.assert_close(likelihood(out).log_prob(targets), densities)
    losses = torch.cat([likelihood.losses(x, y) for x, y in rows])
    torch.testing.assert_close(likelihood.losses(out, targets), losses)


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_outputs_in_half_the_precision_give_a_log_prob_in_it(name):
    likelihood, out = SPECS[name], outputs_of(name, (5, 3)).float()
    targets = targets_of(name, out)
    targets = targets.float() if targets.is_floating_point() else targets
    assert likelihood(out).log_prob(targets).dtype == torch.float32


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_gradients_reach_the_outputs(name):
    likelihood, out = SPECS[name], outputs_of(name, (5, 3)).requires_grad_()
    likelihood(out).log_prob(targets_of(name, out.detach())).sum().backward()
    assert out.grad.isfinite().all() and (out.grad != 0).any(1).all()


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_a_spec_is_its_fields(name):
    again = replace(SPECS[name])
    assert again == SPECS[name] and hash(again) == hash(SPECS[name])
    assert pickle.loads(pickle.dumps(again)) == again
    if name not in FUNCTIONS:
        assert LIKELIHOODS[name]() == as_likelihood(name)


@pytest.mark.parametrize("particles", [1, 3])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_pyro_observes_it_alone_and_in_particles_side_by_side(name, particles):
    """-ELBO under a delta guide is the error cost and tau times the complexity cost."""
    inputs = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Linear(4, outputs_of(name, (1, 3)).shape[1])
    targets = targets_of(name, net(inputs).detach().double())
    targets = targets.float() if targets.is_floating_point() else targets
    model = sws.joint(net, ONE_GROUP, SPECS[name], 20, tau=0.3)
    guide = sws.delta_guide(model)
    elbo = Trace_ELBO(particles, vectorize_particles=particles > 1, max_plate_nesting=1)
    with pyro_step():
        found = elbo.loss(model, guide, inputs, targets)
    cost = error_cost(model, dict(net.named_parameters()), [(inputs, targets)], model.start())
    expected = cost + 0.3 * complexity_cost(model, model.start())
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_name_whose_spec_needs_a_function_is_refused_with_what_to_say(name):
    with pytest.raises(
        ValueError, match=rf"{name}' needs function: say {LIKELIHOODS[name].__name__}"
    ):
        as_likelihood(name)


def test_an_unknown_name_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'normal'; choose from bernoulli, categorical, distilled"):
        as_likelihood("normal")


def test_every_likelihood_has_a_row_in_its_page():
    page = (Path(__file__).parents[2] / "docs" / "likelihoods.md").read_text()
    named = {name for row in re.findall(r"^\| (`.*?) \|", page, re.M) for name in row.split(", ")}
    assert {f"`{name}`" for name in LIKELIHOODS} <= named


def test_a_spec_is_taken_as_it_is():
    spec = Gaussian(4.0)
    assert as_likelihood(spec) is spec


# Densities are scipy's, summed over what is within an example.


@pytest.mark.parametrize("shape", SHAPES)
def test_categorical_log_prob_is_scipys(shape):
    out = outputs(shape)
    labels = torch.arange(out[..., 0].numel()).remainder(3).view(shape[:-1])
    chances = softmax(out.numpy(), -1).reshape(-1, 3)
    counts = np.eye(3)[labels.ravel()]
    expected = stats.multinomial.logpmf(counts, 1, chances).reshape(shape[:-1])
    found = Categorical()(out).log_prob(labels)
    np.testing.assert_allclose(found, by_example(expected))


@pytest.mark.parametrize("shape", [(5,), *SHAPES])
def test_bernoulli_log_prob_is_scipys(shape):
    out = outputs(shape)
    targets = torch.arange(out.numel()).remainder(2).double().view(shape)
    expected = stats.bernoulli.logpmf(targets.numpy(), expit(out.numpy()))
    np.testing.assert_allclose(Bernoulli()(out).log_prob(targets), by_example(expected))


@pytest.mark.parametrize("shape", [(5,), *SHAPES])
def test_gaussian_log_prob_is_scipys_at_a_known_precision(shape):
    out, targets = outputs(shape), outputs(shape, seed=1)
    expected = stats.norm.logpdf(targets, out, scale=0.5)
    np.testing.assert_allclose(Gaussian(4.0)(out).log_prob(targets), by_example(expected))


@pytest.mark.parametrize("shape", [(5,), *SHAPES])
@pytest.mark.parametrize("degrees", [0.5, 1.0, 4.0, 30.0])
def test_student_t_log_prob_is_scipys(shape, degrees):
    out, targets = outputs(shape), 10 * outputs(shape, seed=1)
    expected = stats.t.logpdf(targets, degrees, out, scale=0.5)
    found = StudentT(degrees, 4.0)(out).log_prob(targets)
    np.testing.assert_allclose(found, by_example(expected))


def test_student_t_of_many_degrees_is_gaussian():
    out, targets = outputs((5, 3)), outputs((5, 3), seed=1)
    many = StudentT(1e8, 4.0)(out).log_prob(targets)
    np.testing.assert_allclose(many, Gaussian(4.0)(out).log_prob(targets), rtol=1e-6)


def test_an_outlier_pulls_less_the_farther_it_is_under_student_t():
    """The slope in a residual r is (degrees + 1) r / (degrees + r^2), of a scale of 1."""
    out = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    residuals = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    StudentT(3.0)(out).log_prob(residuals).sum().backward()
    np.testing.assert_allclose(out.grad, [1.0, 40 / 103, 400 / 10_003])


@pytest.mark.parametrize("shape", [(5,), *SHAPES])
def test_laplace_log_prob_is_scipys(shape):
    out, targets = outputs(shape), outputs(shape, seed=1)
    expected = stats.laplace.logpdf(targets, out, scale=0.5)
    np.testing.assert_allclose(Laplace(4.0)(out).log_prob(targets), by_example(expected))


def test_laplace_has_its_most_probable_output_at_the_median():
    targets = torch.tensor([0.0, 1.0, 2.0, 7.0, 1000.0])
    tried = torch.arange(0.0, 10.0, 0.5)
    costs = [-Laplace()(x.expand(5)).log_prob(targets).sum() for x in tried]
    assert tried[int(torch.stack(costs).argmin())] == 2.0


@pytest.mark.parametrize("score", ["mae", "rmse"])
def test_laplace_at_a_dispersion_costs_that_part_of_it(score):
    """So that a walk's gradients do not depend on the units of targets: up to a constant."""
    spec = Laplace(4.0, score=score)
    out, noise = torch.zeros(100_000), dist.Laplace(torch.tensor(0.0), torch.tensor(3.0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        targets = noise.sample((100_000,))
    found = spec.dispersion(float(spec.losses(out, targets).mean()))
    assert found == pytest.approx(6.0, rel=0.03)  # a scale of 3 in place of 1/2
    other = spec.at(6.0)
    assert other.noise_precision == pytest.approx(1 / 9)
    one, two = torch.tensor([2.0]), torch.tensor([-5.0])
    zero = torch.zeros(1)
    change = spec(zero).log_prob(one) - spec(zero).log_prob(two)
    now = other(zero).log_prob(one) - other(zero).log_prob(two)
    torch.testing.assert_close(now, change / 6)


@pytest.mark.parametrize("shape", [(5,), *SHAPES])
def test_poisson_log_prob_is_scipys(shape):
    out = outputs(shape)
    targets = torch.arange(out.numel()).remainder(4).double().view(shape)
    expected = stats.poisson.logpmf(targets.numpy(), out.exp().numpy())
    np.testing.assert_allclose(Poisson()(out).log_prob(targets), by_example(expected))


@pytest.mark.parametrize("family", [Gaussian, StudentT, Laplace])
def test_a_noise_precision_under_a_gamma_is_a_site_with_scipys_density(family):
    out, targets = outputs((5, 2)), outputs((5, 2), seed=1)
    likelihood = family(noise_precision=Gamma(3.0, 0.5))
    assert likelihood.start() == {"noise_precision": 6.0}
    fixed = {"noise_precision": torch.tensor(4.0, dtype=torch.float64)}
    model = pyro.poutine.condition(likelihood, data=fixed)
    trace = pyro.poutine.trace(model).get_trace(out)
    expected = stats.gamma.logpdf(4.0, 3.0, scale=2.0)
    assert float(trace.log_prob_sum()) == pytest.approx(expected)
    np.testing.assert_allclose(
        trace.nodes["_RETURN"]["value"].log_prob(targets),
        family(noise_precision=4.0)(out).log_prob(targets),
    )


# Scores are a hand's.


def test_categorical_score_is_the_percentage_of_wrong_labels():
    out = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    losses = Categorical().losses(out, torch.tensor([0, 0, 1, 1]))
    assert losses.tolist() == [0, 1, 1, 0]
    assert Categorical().score(float(losses.mean())) == 50


def test_a_sequence_is_as_wrong_as_the_share_of_its_labels():
    out = torch.tensor([[[2.0, 1.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, 5.0]]])
    assert Categorical().losses(out, torch.tensor([[0, 0], [1, 0]])).tolist() == [0.5, 1]


@pytest.mark.parametrize(("score", "nats"), [("bits", np.log(2)), ("nll", 1.0)])
@pytest.mark.parametrize("shape", SHAPES)
def test_categorical_bits_are_scipys_mean_over_the_labels(shape, score, nats):
    out = outputs(shape)
    labels = torch.arange(out[..., 0].numel()).remainder(3).view(shape[:-1])
    chances = softmax(out.numpy(), -1).reshape(-1, 3)[np.arange(labels.numel()), labels.ravel()]
    likelihood = Categorical(score=score)
    found = likelihood.score(float(likelihood.losses(out, labels).mean()))
    assert found == pytest.approx(-np.log(chances).mean() / nats)


def test_bits_are_the_same_wherever_the_classes_are_and_of_probabilities():
    out, labels = outputs((5, 2, 3)), torch.tensor([[0, 1], [2, 0], [1, 1], [2, 2], [0, 2]])
    expected = Categorical(score="bits").losses(out, labels)
    second = Categorical(score="bits", class_dim=1).losses(out.movedim(-1, 1), labels)
    chances = Categorical(score="bits", inputs="probabilities").losses(out.softmax(-1), labels)
    torch.testing.assert_close(second, expected)
    torch.testing.assert_close(chances, expected)


@pytest.mark.parametrize("score", ["error", "bits", "nll"])
def test_mistakes_are_the_wrong_labels_whatever_the_score(score):
    out = torch.tensor([[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [0.0, 5.0]])
    found = Categorical(score=score).mistakes(out, torch.tensor([0, 0, 1, 1]))
    assert found.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("family", [Categorical, Distilled])
def test_a_score_of_labels_has_its_name_and_unit(family):
    said = {of: (of, family(score=of).score_unit) for of in ("error", "bits", "nll")}
    assert said == {
        "error": (family().score_name, "percent"),
        "bits": (family(score="bits").score_name, "bits"),
        "nll": (family(score="nll").score_name, "nats"),
    }


def test_an_unknown_score_of_labels_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="unknown score 'bit'.*choose from error, bits, nll"):
        Categorical(score="bit")


def test_bernoulli_score_is_the_percentage_on_the_wrong_side():
    out, targets = torch.tensor([2.0, -1.0, 3.0, -4.0]), torch.tensor([1.0, 1.0, 0.0, 0.0])
    losses = Bernoulli().losses(out, targets)
    assert losses.tolist() == [0, 1, 1, 0]
    assert Bernoulli().score(0.25) == 25


def test_gaussian_score_is_the_root_mean_squared_error():
    out, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    losses = Gaussian(9.0).losses(out, targets)
    assert losses.tolist() == [2, 8]
    assert Gaussian(9.0).score(float(losses.mean())) == pytest.approx(5**0.5)


@pytest.mark.parametrize("family", [StudentT, Laplace])
def test_robust_regression_is_scored_by_rmse_or_mae(family):
    out, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    squared, absolute = family(score="rmse"), family(score="mae")
    assert squared.losses(out, targets).tolist() == [2, 8]
    assert squared.score(5.0) == pytest.approx(5**0.5)
    assert absolute.losses(out, targets).tolist() == [1, 2]
    assert absolute.score(1.5) == 1.5
    assert (squared.score_name, absolute.score_name) == ("rmse", "mae")
    assert squared.score_unit == absolute.score_unit == "target units"


def test_poisson_score_is_the_mean_negative_log_likelihood():
    out, targets = torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [2.0, 0.0]])
    losses = Poisson().losses(out, targets)
    np.testing.assert_allclose(losses, [1.0, 1 + np.log(2) / 2], rtol=1e-6)
    assert Poisson().score(1.25) == 1.25


# Labels that are to be ignored: torch's cross_entropy ignores the same ones.


def labels_with_ignored(shape, ignore_index):
    """Labels 0 to 2, about a third of them to be ignored, and all of the second example's."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(3, shape[:-1], generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = ignore_index
    labels[1] = ignore_index
    return labels


def cross_entropy(out, labels, ignore_index, reduction="none"):
    """Torch's, of outputs whose classes are last."""
    return torch.nn.functional.cross_entropy(
        out.movedim(-1, 1), labels, ignore_index=ignore_index, reduction=reduction
    )


@pytest.mark.parametrize("ignore_index", [-100, 0, 2, 99])
@pytest.mark.parametrize("shape", SHAPES)
def test_ignored_labels_add_nothing_to_a_log_prob(shape, ignore_index):
    out, labels = outputs(shape), labels_with_ignored(shape, ignore_index)
    likelihood = Categorical(ignore_index=ignore_index)
    likelihood.check(out, labels)
    expected = by_example(-cross_entropy(out, labels, ignore_index))
    torch.testing.assert_close(likelihood(out).log_prob(labels), expected)
    second = Categorical(ignore_index=ignore_index, class_dim=1)
    moved = out.movedim(-1, 1)
    torch.testing.assert_close(second(moved).log_prob(labels), expected)


@pytest.mark.parametrize("ignore_index", [-100, 0, 99])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_score_is_the_mean_over_the_labels_that_count(shape, ignore_index):
    out, labels = outputs(shape), labels_with_ignored(shape, ignore_index)
    likelihood = Categorical(ignore_index=ignore_index, score="nll")
    losses, counts = likelihood.losses(out, labels), by_example(likelihood.counted(labels))
    assert losses[1] == 0 and counts[1] == 0
    expected = cross_entropy(out, labels, ignore_index, "mean")
    torch.testing.assert_close((losses * counts).sum() / counts.sum(), expected)
    kept = labels != ignore_index
    wrong = (out.argmax(-1) != labels)[kept].double().mean()
    mistakes = likelihood.mistakes(out, labels)
    torch.testing.assert_close((mistakes * counts).sum() / counts.sum(), wrong)


def test_where_nothing_is_ignored_nothing_changes():
    out, labels = outputs((5, 2, 3)), labels_with_ignored((5, 2, 3), 0)
    for by in ("error", "bits"):
        plain, ignoring = (Categorical(score=by, ignore_index=i) for i in (None, -100))
        torch.testing.assert_close(ignoring(out).log_prob(labels), plain(out).log_prob(labels))
        assert torch.equal(ignoring.losses(out, labels), plain.losses(out, labels))


def test_no_gradient_comes_from_ignored_labels():
    """Nor a NaN, where the first class is ruled out there."""
    out = outputs((4, 3))
    out[1, 0] = -torch.inf
    out.requires_grad_()
    labels = torch.tensor([0, -100, 2, -100])
    (-Categorical(ignore_index=-100)(out).log_prob(labels).sum()).backward()
    own = out.detach().clone().requires_grad_()
    cross_entropy(own, labels, -100, "sum").backward()
    torch.testing.assert_close(out.grad, own.grad)
    assert (out.grad[[1, 3]] == 0).all()


def test_a_batch_of_ignored_labels_passes_and_costs_nothing():
    out, labels = outputs((4, 3)), torch.full((4,), -100)
    likelihood = Categorical(ignore_index=-100)
    likelihood.check(out, labels)
    likelihood.check_reading(out, labels)
    assert likelihood(out).log_prob(labels).tolist() == [0.0] * 4
    assert likelihood.losses(out, labels).tolist() == [0.0] * 4


def test_other_labels_out_of_range_are_refused_beside_ignored_ones():
    labels = torch.tensor([0, -100, 3, 1])
    with pytest.raises(ValueError, match="labels run from 0 to 3, but the network has 3 outputs"):
        Categorical(ignore_index=-100).check(torch.zeros(4, 3), labels)


def test_padding_that_nothing_says_is_to_be_ignored_is_refused_with_what_to_say():
    with pytest.raises(ValueError, match=r"in 0..2, or say ignore_index=-100$"):
        Categorical().check(torch.zeros(4, 3), torch.tensor([0, -100, 2, 1]))


def test_the_layout_is_found_beside_ignored_labels():
    """Outputs (B, C, T) with C = T that know their classes in dimension 1 are refused."""
    labels = torch.randint(3, (40, 3), generator=torch.Generator().manual_seed(0))
    out = 5.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).double()
    labels[:, 1] = -100
    last = torch.nn.Linear(3, 3, bias=False, dtype=torch.float64)  # as if they were in the last
    last.weight.data = torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="tell far more of targets"):
        Categorical(ignore_index=-100).check_reading(last(out), labels)
    Categorical(ignore_index=-100, class_dim=1).check_reading(out, labels)


# What the targets cannot be.

LOGITS, LABELS = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("likelihood", "out", "targets", "words"),
    [
        (Categorical(), torch.zeros(4), LABELS, r"outputs must be \(batch, classes\), got float32"),
        (Categorical(), LOGITS, LABELS.int(), r"must be int64 labels, got int32 of shape \(4,\)"),
        (Categorical(), LOGITS, LABELS.float(), "must be int64 labels, got float32"),
        (Categorical(), LOGITS, LABELS[:, None], r"have shape \(4,\), got int64 of shape \(4, 1\)"),
        (Categorical(), LOGITS, LABELS + 1, "run from 1 to 3, .* 3 outputs; .* must be in 0..2"),
        (Categorical(), LOGITS, LABELS - 1, "run from -1 to 1"),
        (Categorical(), torch.zeros(4, 2, 3), LABELS, r"have shape \(4, 2\), got int64"),
        (Bernoulli(), LOGITS, LABELS, "must be floats, got int64"),
        (Bernoulli(), LOGITS, LABELS.float(), r"have shape \(4, 3\), got float32 of shape \(4,\)"),
        (Bernoulli(), LOGITS, LOGITS + 0.5, r"must be 0 or 1, got values in 0.5..0.5"),
        (Bernoulli(), LOGITS, LOGITS * torch.nan, "must be 0 or 1, got values in nan..nan"),
        (Gaussian(), LOGITS, LABELS, "must be floats, got int64"),
        (Gaussian(), torch.zeros(4, 1), torch.zeros(4), r"have shape \(4, 1\), got float32 of"),
        (StudentT(), LOGITS, LABELS, "student_t: targets must be floats, got int64"),
        (StudentT(), LOGITS, LOGITS[0], r"student_t: .* have shape \(4, 3\)"),
        (Laplace(), LOGITS, LABELS, "must be floats, got int64"),
        (Laplace(), torch.zeros(4, 1), torch.zeros(4), r"have shape \(4, 1\), got float32 of"),
        (Poisson(), LOGITS, LOGITS.long(), "must be floats, got int64"),
        (Poisson(), LOGITS, LOGITS - 1, "counts 0, 1, 2, ...; smallest is -1"),
        (Poisson(), LOGITS, LOGITS + 0.5, "must be counts"),
        (Poisson(), LOGITS, LOGITS[0], r"have shape \(4, 3\)"),
    ],
)
def test_targets_that_cannot_be_are_refused(likelihood, out, targets, words):
    with pytest.raises(ValueError, match=words) as caught:
        likelihood.check(out, targets)
    name = next(n for n, family in LIKELIHOODS.items() if type(likelihood) is family)
    assert str(caught.value).startswith(f"{name}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("family", [Gaussian, StudentT, Laplace])
@pytest.mark.parametrize("precision", [0.0, -1.0, float("nan")])
def test_a_noise_precision_that_is_not_positive_is_refused(family, precision):
    with pytest.raises(ValueError, match="noise_precision must be positive, got"):
        family(noise_precision=precision)


def test_degrees_of_freedom_that_cannot_be_are_refused():
    for degrees in (0.0, -2.0, float("nan")):
        with pytest.raises(ValueError, match=f"must be positive and finite, got {degrees}$"):
            StudentT(degrees)
    with pytest.raises(ValueError, match=r"got inf; infinitely many are Gaussian\(\)"):
        StudentT(float("inf"))
