"""Soft targets of the network as given, for likelihoods other than of labels: cross-entropies."""

import copy
import pickle

import pyro
import pytest
import torch
from every_likelihood import FUNCTIONS, SPECS, outputs, outputs_of, targets_of
from problems import ONE_GROUP, classifier
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, poisson_nll_loss

import pyro_sws as sws
from pyro_sws.inference.evaluation import error_cost, evaluate
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.likelihoods import (
    Bernoulli,
    Categorical,
    Distilled,
    Gaussian,
    HeteroscedasticGaussian,
    Laplace,
    Poisson,
    SoftCategorical,
    StudentT,
)
from pyro_sws.inference.taught import Taught

TEACHABLE = [
    *("soft_categorical", "bernoulli", "gaussian", "heteroscedastic_gaussian"),
    *("student_t", "laplace", "poisson"),
]


def summed(each):
    return each.reshape(len(each), -1).sum(1)


def soft_part(spec, own, teacher, targets):
    return Taught(spec, 1.0).taught(own, teacher).log_prob(targets)


def test_every_row_is_teachable_but_what_has_no_prediction():
    assert {*TEACHABLE, "categorical", "distilled", *FUNCTIONS} == {*SPECS}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("name", TEACHABLE)
def test_the_share_is_that_of_the_teacher(name, share):
    spec, own, teacher = SPECS[name], outputs_of(name, (5, 3)), outputs_of(name, (5, 3), 1)
    targets = targets_of(name, own)
    found = Taught(spec, share).taught(own, teacher)
    expected = torch.lerp(
        spec(own).log_prob(targets), soft_part(spec, own, teacher, targets), share
    )
    assert found.batch_shape == (5,)
    torch.testing.assert_close(found.log_prob(targets), expected)


@pytest.mark.parametrize("name", TEACHABLE)
def test_a_network_that_is_its_teacher_feels_nothing_of_it(name):
    """The cross-entropy is least where both say the same, also of the noise."""
    own = outputs_of(name, (5, 3)).requires_grad_()
    targets = targets_of(name, own.detach())
    soft_part(SPECS[name], own, own.detach(), targets).sum().backward()
    torch.testing.assert_close(own.grad, torch.zeros_like(own), rtol=0, atol=1e-12)


def test_the_teachers_probabilities_and_rates_are_torchs_soft_targets():
    own, teacher = outputs((5, 2, 3)), outputs((5, 2, 3), 1)
    targets = (teacher > 0).double()
    each = binary_cross_entropy_with_logits(own, teacher.sigmoid(), reduction="none")
    torch.testing.assert_close(soft_part(Bernoulli(), own, teacher, targets), -summed(each))
    each = poisson_nll_loss(own, teacher.exp(), reduction="none")
    torch.testing.assert_close(soft_part(Poisson(), own, teacher, targets), -summed(each))
    probabilities = teacher.softmax(-1)
    each = cross_entropy(own.movedim(-1, 1), probabilities.movedim(-1, 1), reduction="none")
    found = soft_part(SoftCategorical(), own, teacher, probabilities)
    torch.testing.assert_close(found, -summed(each))


def test_labels_that_are_not_known_have_no_soft_targets_either():
    own, teacher = outputs((5, 3)), outputs((5, 3), 1)
    targets = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64).expand(5, 3)
    each = binary_cross_entropy_with_logits(own, teacher.sigmoid(), reduction="none")
    found = soft_part(Bernoulli(ignore_index=-1), own, teacher, targets)
    torch.testing.assert_close(found, -each[:, :2].sum(1))


def test_a_teachers_noise_is_taught_by_the_divergence_of_its_predictions():
    own, teacher = outputs((5, 3, 2)), outputs((5, 3, 2), 1)
    p, q = (Normal(x[..., 0], (x[..., 1] / 2).exp()) for x in (teacher, own))
    expected = -summed(kl_divergence(p, q) + p.entropy())
    found = soft_part(HeteroscedasticGaussian(), own, teacher, own[..., 0])
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("family", [Gaussian, StudentT, Laplace])
def test_no_noise_is_learned_from_a_teacher(family):
    """Which agrees with the network far better than targets do: the noise would go to 0."""
    spec, own, teacher = family(noise_precision=Gamma(2.0, 1.0)), outputs((5,)), outputs((5,), 1)
    precision = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    for share in (1.0, 0.25):
        model = pyro.poutine.condition(
            lambda share=share: Taught(spec, share).taught(own, teacher),
            data={"noise_precision": precision},
        )
        (slope,) = torch.autograd.grad(
            model().log_prob(outputs((5,), 2)).sum(), precision, allow_unused=True
        )
        known = family(noise_precision=3.0)
        plain = pyro.poutine.condition(lambda: spec(own), data={"noise_precision": precision})
        (whole,) = torch.autograd.grad(plain().log_prob(outputs((5,), 2)).sum(), precision)
        torch.testing.assert_close(slope, (1 - share) * whole)
        means = known(own).log_prob(teacher)
        torch.testing.assert_close(soft_part(known, own, teacher, teacher), means)


def regression():
    net, inputs, _ = classifier()
    return (
        net,
        inputs,
        net(inputs).detach() + 0.5 * torch.randn(60, 3, generator=torch.Generator().manual_seed(1)),
    )


def test_the_teacher_is_the_network_as_given_and_scores_are_of_targets():
    net, inputs, targets = regression()
    taught, plain = (
        sws.joint(net, ONE_GROUP, spec, 60) for spec in (Taught(Gaussian(4.0), 0.7), Gaussian(4.0))
    )
    moved = {name: w.detach() + 0.1 for name, w in net.named_parameters()}
    batches, own = [(inputs, targets)], torch.func.functional_call(net, moved, (inputs,))
    hard, soft = (Normal(own, 0.5).log_prob(y).sum() for y in (targets, net(inputs)))
    expected = -(0.3 * hard + 0.7 * soft).item()
    assert error_cost(taught, moved, batches, {}) == pytest.approx(expected, rel=1e-5)
    assert evaluate(taught, moved, batches) == evaluate(plain, moved, batches)


def test_a_walk_softens_labels_but_not_of_a_class_derived_from_theirs():
    spec = sws.SoftCategorical()
    assert spec.softened(0.5) == Taught(spec, 0.5)
    own = type("Own", (type(spec),), {})()
    assert own.softened(0.5) is own
    others = [name for name in TEACHABLE if hasattr(SPECS[name], "softened")]
    assert [type(SPECS[name]) for name in others] == [sws.SoftCategorical]


def test_a_taught_likelihood_is_in_all_else_the_likelihood():
    spec = Taught(Gaussian(4.0))
    assert (spec.score_name, spec.score_unit) == ("rmse", "target units")
    assert spec.dispersion(2.0) == 8.0 and not hasattr(spec, "counted")
    for again in (copy.deepcopy(spec), pickle.loads(pickle.dumps(spec))):
        assert again == spec


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (Categorical(), r"Categorical cannot have .* say Distilled\(\) for class labels"),
        (Distilled(), r"Distilled cannot have .* say Distilled\(\) for class labels"),
        (SPECS["loss"], "Loss cannot have soft targets of a teacher: it has no prediction"),
        (SPECS["from_distribution"], "FromDistribution cannot have soft targets of a teacher"),
        ("gaussian", "str cannot have"),
    ],
)
def test_what_has_no_prediction_to_learn_from_is_refused(spec, words):
    with pytest.raises(ValueError, match=f"^taught: {words}"):
        Taught(spec)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"taught: share must be in \[0, 1\], got 1.5"):
        Taught(Gaussian(), 1.5)
