"""-ELBO as a code length: where it is one, and how far an estimate of it from draws is off."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from elbos import elbo_of
from every_likelihood import SPECS
from problems import EVERY_HYPERPRIOR, classifier
from regressions import NOISE, PRECISION, exact, regression, ridge
from scipy import stats

import pyro_sws as sws
from pyro_sws.inference.bits_back import bits_back, counts_targets
from pyro_sws.inference.likelihoods import Categorical, Distilled, Gaussian
from pyro_sws.inference.taught import Taught

# A hyperprior for each hyperparameter: nothing is improper.
PROPER = replace(EVERY_HYPERPRIOR, slab_means=sws.Normal(0.5))


def evidence(x, y):
    """-log p(targets) of the ridge regression, in nats."""
    cov = x @ x.T / PRECISION + np.eye(len(y)) / NOISE
    return -stats.multivariate_normal.logpdf(y, cov=cov)


def at(x, y, widening):
    """A guide around the exact posterior of an orthogonal design, so many times as wide."""
    model, batch = ridge(x, y)
    guide = sws.normal_guide(model)
    elbo = elbo_of(guide, model, batch)
    mean, cov = exact(x, y, 1.0)
    found = {"weights": mean, "deviation": np.log(widening * np.diag(cov) ** 0.5)}
    for end, value in found.items():
        (parameter,) = (p for name, p in elbo.sites.items() if name.endswith(end))
        parameter.data.copy_(torch.as_tensor(value))
    return elbo, guide, batch


def estimates(elbo, guide, batches, count=100):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = [bits_back(elbo, guide, batches, len(batches)) for _ in range(count)]
    return np.array([[each.nats, each.standard_error_nats] for each in found]).T


def test_at_the_exact_posterior_every_draw_says_the_evidence():
    x, y = regression()
    elbo, guide, batch = at(x, y, 1.0)
    found = bits_back(elbo, guide, [batch], 1)
    assert found.nats == pytest.approx(evidence(x, y), rel=1e-9)
    assert found.standard_error_nats == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("parts", [1, 4])
def test_beside_it_the_length_is_longer_by_the_divergence_and_its_standard_error_holds(parts):
    """KL(N(m, a^2 s^2) || N(m, s^2)) is (a^2 - 1) / 2 - log a a weight."""
    x, y = regression()
    elbo, guide, (inputs, targets) = at(x, y, 1.5)
    batches = list(zip(inputs.chunk(parts), targets.chunk(parts), strict=True))
    nats, errors = estimates(elbo, guide, batches)
    divergence = x.shape[1] * ((1.5**2 - 1) / 2 - np.log(1.5))
    # Five standard errors of the mean; a deviation of 100 is known to 7 %, here to four times that.
    expected = evidence(x, y) + divergence
    assert abs(nats.mean() - expected) < 5 * nats.std() / len(nats) ** 0.5
    assert (errors**2).mean() ** 0.5 == pytest.approx(nats.std(), rel=0.28)


def test_an_estimate_of_the_prior_from_some_weights_is_left_aside():
    x, y = regression()
    elbo, guide, batch = at(x, y, 1.0)
    elbo.model = replace(elbo.model, density=sws.Density(prior_subsample=0.5))
    found = bits_back(elbo, guide, [batch], 1)
    assert found.nats == pytest.approx(evidence(x, y), rel=1e-9)


def test_a_draw_that_is_not_finite_is_refused_with_its_batch():
    x, y = regression()
    elbo, guide, (inputs, targets) = at(x, y, 1.0)
    batches = [(inputs, targets), (inputs, targets * float("inf"))]
    with pytest.raises(FloatingPointError, match="not finite in batch 2 under 16 of 16 draws"):
        bits_back(elbo, guide, batches, 2)


def test_what_likelihoods_count_the_targets_themselves():
    others = {"loss", "distilled", "soft_categorical"}
    for name, likelihood in SPECS.items():
        assert counts_targets(likelihood) == (name not in others), name
    assert counts_targets(Categorical(ignore_index=-100))
    assert not counts_targets(Categorical(label_smoothing=0.1))
    assert not counts_targets(Taught(Gaussian()))
    assert not counts_targets(Categorical().softened(0.5))


@pytest.mark.parametrize(
    ("likelihood", "tau", "is_length"),
    [
        (Categorical(), 1.0, True),
        (Categorical(), 0.5, False),
        (Distilled(), 1.0, False),
        (Categorical(label_smoothing=0.1), 1.0, False),
    ],
)
def test_a_report_has_the_length_and_its_standard_error_where_it_is_one(likelihood, tau, is_length):
    net, *batch = classifier()
    run = sws.compress(
        net, [batch], prior=PROPER, guide="normal", likelihood=likelihood, epochs=2, tau=tau
    )
    told = run.report.to_dict()
    found = told["bits_back_nats"], told["bits_back_standard_error_nats"]
    if not is_length:
        assert found == (None, None)
        return
    # At least what the targets take under a network of the posterior, and known to some percent.
    assert 0 < found[1] < 0.1 * found[0]


def test_a_report_without_a_standard_error_is_read():
    net, *batch = classifier()
    table = sws.compress(net, [batch], prior=PROPER, guide="normal", epochs=1, tau=1.0).report
    older = table.to_dict()
    del older["bits_back_standard_error_nats"]
    again = type(table).from_dict(older)
    assert again.bits_back_nats == table.bits_back_nats
    assert again.bits_back_standard_error_nats is None
