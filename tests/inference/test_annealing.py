"""Annealing: each factor is on its own terms of the objective, and at the end on none."""

from dataclasses import replace

import pytest
import torch
from elbos import NotLean, Sample, elbo_of, problem
from every_prior import GROUP, PRIORS, WEIGHTS, log_joint, somewhere
from problems import EVERY_HYPERPRIOR, ONE_GROUP, TWO_GROUPS, classifier
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from pyro.infer.autoguide.initialization import init_to_value
from rates import STILL
from scipy import stats
from small_recipe import write_recipe
from torch.distributions import Categorical, MixtureSameFamily, Normal
from written_out import written

import pyro_sws as sws
from pyro_sws.inference.annealing import AnnealedPrior, Annealing, Factors, Ramp, annealed
from pyro_sws.inference.fit import fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.recipes.recipe import read_recipe
from pyro_sws.runs.execute import run_recipe

ALL = Factors(tau=0.1, deviations=3.0, hyperpriors=0.5)


# The specs.


@pytest.mark.parametrize("first", [1e-3, 0.2, 1.0, 9])
@pytest.mark.parametrize("until", [0.25, 1.0])
def test_a_ramp_is_a_straight_line_in_the_logarithm_and_then_exactly_1(first, until):
    ramp = Ramp(first, until)
    assert ramp.at(0.0) == first
    assert ramp.at(until / 2) == pytest.approx(first**0.5)
    assert ramp.at(until * 0.75) == pytest.approx(first**0.25)
    assert ramp.at(until) == ramp.at(until + 0.1) == 1.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Ramp(0.0), ValueError, "first must be a positive number, got 0.0"),
        (lambda: Ramp(float("inf")), ValueError, "first must be a positive number, got inf"),
        (lambda: Ramp(float("nan")), ValueError, "first must be a positive number, got nan"),
        (lambda: Ramp(0.1, 0.0), ValueError, r"until must be a share .* in \(0, 1\], got 0.0"),
        (lambda: Ramp(0.1, 1.5), ValueError, r"until must be a share .* in \(0, 1\], got 1.5"),
        (lambda: Annealing(0.1), TypeError, "annealing.tau must be a Ramp or None, got 0.1"),
    ],
)
def test_impossible_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


# The objective.


def test_a_steps_loss_is_what_the_formula_says_at_its_progress():
    """E + t tau [-log N(w; 0, 1/p) - h log Gamma(p) - log Gamma(noise)], of scipy's densities."""
    generator = torch.Generator().manual_seed(0)
    x, net = torch.randn(30, 2, generator=generator), torch.nn.Linear(2, 1)
    y = torch.randn(30, 1, generator=generator)
    prior, noise = sws.GaussianPrior(sws.Gamma(3.0, 0.1)), sws.Gamma(3.0, 4.0)
    model = sws.joint(net, prior, sws.Gaussian(noise), 30, tau=0.7)
    # The component is alone: it keeps its width.
    annealing = Annealing(tau=Ramp(0.1), deviations=Ramp(5.0), hyperpriors=Ramp(3.0, until=1.0))
    batches = [(x, y), (x, y)]
    rows = fit(
        model,
        delta_guide(model),
        batches,
        settings=sws.Fitting(epochs=2, rates=STILL, annealing=annealing),
    ).history

    point = {site: value.double().numpy() for site, value in model.start().items()}
    w, p, q = point["all.weights"], point["all.precision"], point["noise_precision"]
    residuals = y.double().numpy().ravel() - x.double().numpy() @ w[:2] - w[2]
    error = -stats.norm.logpdf(residuals, scale=q**-0.5).sum()
    weights = -stats.norm.logpdf(w, scale=p**-0.5).sum()
    hyper, of_noise = (-stats.gamma.logpdf(v, 3.0, scale=1 / r) for v, r in ((p, 0.1), (q, 4.0)))
    losses = [
        error + t * 0.7 * (weights + h * hyper + of_noise)
        for t, h in ((0.1, 3.0), (0.1**0.5, 3.0**0.75), (1.0, 3.0**0.5), (1.0, 3.0**0.25))
    ]
    for row, pair in zip(rows, (losses[:2], losses[2:]), strict=True):
        assert row["negative_elbo_nats"] == pytest.approx(sum(pair) / 2, rel=1e-5)
        assert row["error_cost_nats"] == pytest.approx(error, rel=1e-5)
        assert row["complexity_cost_nats"] == pytest.approx(weights + hyper + of_noise, rel=1e-5)


def test_wider_components_are_those_of_torchs_mixture():
    prior = sws.SpikeAndSlabs(2, 0.6, 900.0, 100.0, "equal")
    net, inputs, targets = classifier()
    model = sws.joint(net, prior, "categorical", 60, tau=0.7)
    annealing = Annealing(deviations=Ramp(4.0))
    guide = delta_guide(model)
    rows = fit(
        model,
        guide,
        [(inputs, targets)],
        settings=sws.Fitting(epochs=4, rates=STILL, annealing=annealing),
    ).history
    point = model.start()
    means = torch.cat([torch.zeros(1), point["all.means"]])
    for row, factor in zip(rows, (4.0, 2.0, 1.0, 1.0), strict=True):
        components = Normal(means, factor * torch.tensor([1 / 30, 0.1, 0.1]))
        mixture = MixtureSameFamily(Categorical(torch.tensor([0.6, 0.2, 0.2])), components)
        cost = -0.7 * float(mixture.log_prob(point["all.weights"]).sum())
        found = row["negative_elbo_nats"] - row["error_cost_nats"]
        assert found == pytest.approx(cost, rel=1e-4)


@pytest.mark.parametrize("name", PRIORS)
def test_every_family_is_as_wide_and_its_hyperpriors_as_strong_as_told(name):
    prior, factors = PRIORS[name], Factors(deviations=3.0, hyperpriors=0.25)
    point = somewhere(prior, GROUP, WEIGHTS)
    density = written(prior, point, GROUP)
    wide = 3.0 if density.means.shape[1] > 1 else 1.0  # one that is alone stays
    density = replace(density, deviations=wide * density.deviations)
    expected = density.log_densities(WEIGHTS.numpy()).sum() + 0.25 * density.log_hyperpriors
    found = float(log_joint(AnnealedPrior(prior, factors), GROUP, point, WEIGHTS))
    assert found == pytest.approx(expected, rel=1e-6)


def test_the_hyperpriors_factor_is_on_their_terms_alone():
    model, batch = problem(EVERY_HYPERPRIOR)
    elbo = elbo_of(delta_guide(model), model, batch)
    whole, half = (elbo(*batch, False, Factors(hyperpriors=h))[0].item() for h in (1.0, 0.5))
    start, group = model.start(), model.groups["all"]
    log_hyperpriors = written(EVERY_HYPERPRIOR, start, group).log_hyperpriors
    assert whole - half == pytest.approx(-0.5 * model.tau * log_hyperpriors, rel=1e-3)


# In whatever way it is computed.


@pytest.mark.parametrize("prior", [EVERY_HYPERPRIOR, TWO_GROUPS])
def test_pyros_elbo_is_annealed_as_the_lean_one_is(prior):
    model, batch = problem(prior)
    guides = delta_guide(model), NotLean(model, init_to_value(values=model.start()))
    lean, pyros = (elbo_of(guide, model, batch)(*batch, False, ALL) for guide in guides)
    torch.testing.assert_close(torch.stack(lean), torch.stack(pyros))
    assert lean[0] != elbo_of(guides[0], model, batch)(*batch)[0]


class Spread(AutoNormal):
    """A guide that has spread, and scales its sites by the tau it was made for."""

    carries_tau = True

    def __init__(self, model):
        super().__init__(model, init_loc_fn=init_to_value(values=model.start()))
        self.tau = model.tau

    def forward(self, *args, **kwargs):
        with poutine.scale(scale=self.tau):
            return super().forward(*args, **kwargs)


def test_a_guide_with_spread_carries_the_annealed_tau():
    losses = []
    for tau, factors in ((0.3, Factors(tau=0.1)), (0.03, Factors())):
        model, batch = problem(ONE_GROUP, tau=tau)
        elbo = elbo_of(Spread(model), model, batch)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            losses.append(torch.stack(elbo(*batch, False, factors)))
    torch.testing.assert_close(*losses)
    assert fit(
        model,
        Spread(model),
        Sample(batch),
        settings=sws.Fitting(epochs=2, annealing=Annealing(Ramp(0.1))),
    ).history


def test_held_hyperparameters_and_a_sample_of_all_weights_change_nothing():
    losses = []
    plain, all_of_it = sws.Density(), sws.Density(prior_subsample=1.0)
    for density, hold in ((plain, False), (plain, True), (all_of_it, False)):
        model, batch = problem(EVERY_HYPERPRIOR, density=density)
        elbo = elbo_of(delta_guide(model), model, batch)
        losses.append(elbo(*batch, hold, ALL)[0].detach())
    assert losses[0] == losses[1]
    torch.testing.assert_close(losses[0], losses[2])


@pytest.mark.parametrize("every", [1, 2])
def test_ramps_of_1_are_no_annealing(every):
    model, batch = problem(EVERY_HYPERPRIOR)
    assert annealed(model, Annealing(Ramp(1.0)).at(0.0)) is model
    flat = Annealing(Ramp(1.0), Ramp(1.0), Ramp(1.0))
    plain, same = (
        fit(
            model,
            delta_guide(model),
            Sample(batch),
            settings=sws.Fitting(epochs=4, annealing=annealing, hyperparameters_every=every),
        )
        for annealing in (Annealing(), flat)
    )
    for site, value in plain.posterior.point.items():
        assert torch.equal(value, same.posterior.point[site]), site
    costs = [[row["negative_elbo_nats"] for row in f.history] for f in (plain, same)]
    assert costs[0] == costs[1]


def test_the_hyperparameters_are_the_models_own_throughout():
    """At rates of 0 the posterior that is read is not the widened one."""
    model, batch = problem(EVERY_HYPERPRIOR)
    annealing = Annealing(deviations=Ramp(9.0, until=1.0))
    found = fit(
        model,
        delta_guide(model),
        Sample(batch),
        settings=sws.Fitting(epochs=1, rates=STILL, annealing=annealing),
    ).posterior
    precisions = found.priors["all"].mixture.precisions
    torch.testing.assert_close(precisions[0], model.start()["all.spike_precision"])


@pytest.mark.integration
def test_a_recipes_annealing_reaches_the_fit(tmp_path):
    still = {"weights": 0.0, "means": 0.0, "precisions": 0.0, "proportions": 0.0, "other": 0.0}
    path = write_recipe(tmp_path, rates=still, batch_size=60, epochs=2)
    recipe = read_recipe(path, ["annealing.tau.first=0.01", "annealing.tau.until=1"])
    rows = run_recipe(recipe, tmp_path / "out").history
    for row, factor in zip(rows, (0.01, 0.1), strict=True):
        expected = row["error_cost_nats"] + factor * 0.03 * row["complexity_cost_nats"]
        assert row["negative_elbo_nats"] == pytest.approx(expected, rel=1e-5)
