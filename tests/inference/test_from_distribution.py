"""Any Pyro distribution as a likelihood: the same as the specs, and checked by its support."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from every_likelihood import outputs, poisson
from problems import ONE_GROUP, classifier
from torch import nn

import pyro_sws as sws
from pyro_sws.inference.likelihoods import FromDistribution, Poisson, as_likelihood

COUNTS = torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64)


def normal(out):
    return dist.Normal(out[..., 0], out[..., 1].exp())


def labels(out):
    return dist.Categorical(logits=out)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 3)])
def test_it_is_the_distribution_with_an_event_an_example(shape):
    out = outputs(shape)
    targets = torch.arange(out.numel()).remainder(4).double().view(shape)
    spec = FromDistribution(poisson)
    spec.check(out, targets)
    assert spec(out).batch_shape == (4,) and spec(out).event_shape == shape[1:]
    expected = Poisson()(out).log_prob(targets)
    torch.testing.assert_close(spec(out).log_prob(targets), expected)
    torch.testing.assert_close(spec.losses(out, targets), -expected)
    assert (spec.score(0.3), spec.score_name, spec.score_unit) == (0.3, "nll", "nats")


def test_an_event_of_its_own_is_kept():
    out, targets = outputs((5, 3)), outputs((5, 3), 1)
    spec = FromDistribution(lambda x: dist.MultivariateNormal(x, torch.eye(3).double()))
    spec.check(out, targets)
    expected = dist.Normal(out, 1).log_prob(targets).sum(1)
    torch.testing.assert_close(spec(out).log_prob(targets), expected)


def test_a_function_is_a_likelihood_and_a_spec_is_what_it_is():
    assert as_likelihood(poisson) == FromDistribution(poisson)
    net, inputs, targets = classifier()
    runs = [
        sws.compress(
            net,
            sws.Batches(inputs, targets, 60),
            prior=ONE_GROUP,
            likelihood=likelihood,
            tau=0.03,
            epochs=3,
        )
        for likelihood in (labels, "categorical")
    ]
    one, other = (run.report for run in runs)
    assert one.error_cost_nats == pytest.approx(other.error_cost_nats, rel=1e-5)
    assert one.score["before"] == pytest.approx(one.score["posterior"], rel=1)
    assert one.score["name"] == "nll" and one.certificate is None


@pytest.mark.slow
def test_a_walk_and_diagnostics_take_it():
    net, inputs, _ = classifier()
    counts = torch.poisson(net(inputs).exp(), generator=torch.Generator().manual_seed(0)).detach()
    run = sws.compress(
        net,
        sws.Batches(inputs, counts, 60),
        likelihood=lambda out: dist.Poisson(out.exp()),
        budget=sws.Budget(passes=4),
    )
    assert run.report.walk is not None
    tree = sws.to_arviz(run)["network"]
    assert tree["posterior_predictive"]["targets"].shape[-2:] == (20, 180)


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (COUNTS - 1, r"support of poisson's .*IntegerGreaterThan.*; got values in -1..4$"),
        (COUNTS + 0.5, "support of poisson's distribution"),
        (COUNTS * torch.nan, "support of poisson's distribution"),
        (
            COUNTS[:, None],
            r"must have shape \(4,\), as poisson says, got float64 of shape \(4, 1\)",
        ),
    ],
)
def test_targets_outside_of_the_support_are_refused(targets, words):
    with pytest.raises(ValueError, match=f"^from_distribution: targets .*{words}"):
        FromDistribution(poisson).check(outputs((4,)), targets)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda o: torch.distributions.Poisson(o.exp()), "take it from pyro.distributions"),
        (lambda o: o, r"got float64 of shape \(4,\); of a loss function say Loss\(function\)"),
        (lambda o: None, "must return a Pyro distribution, got NoneType"),
        (lambda o: dist.Normal(0.0, 1.0), r"batch_shape \(4,\) or .* a Normal of batch_shape \(\)"),
        (lambda o: dist.Normal(o[:2], 1.0), r"a row an example, .* batch_shape \(2,\)"),
        (lambda o: dist.Normal(o @ o[:3], 1.0), "<lambda> cannot take float64 of shape"),
        (
            lambda o: dist.Normal(o, pyro.sample("s", dist.Gamma(1, 1))),
            "Pyro sample site 's' in it",
        ),
    ],
)
def test_what_returns_no_distribution_of_each_target_is_refused(function, words):
    with pytest.raises(ValueError, match=words):
        FromDistribution(function).check(outputs((4,)), COUNTS)


def test_targets_of_a_dtype_that_a_density_cannot_take_are_refused_on_the_first_batch():
    spec = FromDistribution(lambda o: dist.Bernoulli(logits=o))
    targets = torch.tensor([0, 1, 1, 0])
    spec.check(outputs((4,)), targets)
    with pytest.raises(ValueError, match="cannot take int64 of shape"):
        spec.check_reading(outputs((4,)), targets)


@pytest.mark.parametrize("function", [torch.nn.functional.cross_entropy, nn.CrossEntropyLoss()])
def test_a_loss_function_is_refused_with_what_to_say(function):
    with pytest.raises(ValueError, match=r"; of a loss function say Loss\(function\)$"):
        as_likelihood(function)


def test_half_a_likelihood_is_refused_with_what_it_lacks():
    class Half:
        def __call__(self, outputs):
            return poisson(outputs)

        def start(self):
            return {}

    with pytest.raises(ValueError, match="which has no check, losses, score$"):
        as_likelihood(Half())
