"""The lean ELBO of a delta guide against Pyro's own, term by term and gradient by gradient."""

from contextlib import nullcontext
from dataclasses import dataclass

import pyro
import pytest
import torch
from elbos import NotLean, Sample, elbo_of, problem
from problems import EVERY_HYPERPRIOR, ONE_GROUP, TWO_GROUPS
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoDelta
from pyro.infer.autoguide.initialization import init_to_value
from torch.distributions import constraints

from pyro_sws.inference.at_point import AtPoint
from pyro_sws.inference.density import Density
from pyro_sws.inference.fit import complexity_cost, fit
from pyro_sws.inference.fitting import Fitting
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.likelihoods import Gaussian
from pyro_sws.inference.priors import SpikeAndSlabs
from pyro_sws.weights.density import log_density as density
from pyro_sws.weights.density.log_density import density_backend
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior


@pytest.mark.parametrize("prior", [ONE_GROUP, EVERY_HYPERPRIOR, TWO_GROUPS])
@pytest.mark.parametrize("likelihood", ["categorical", Gaussian()])
def test_value_error_cost_and_gradients_are_pyros(prior, likelihood):
    model, batch = problem(prior, likelihood=likelihood)
    guide = delta_guide(model)
    fit(model, guide, Sample(batch), epochs=3)
    elbo = elbo_of(guide, model, batch)
    loss, error = elbo(*batch)
    found = torch.autograd.grad(loss, list(elbo.sites.values()))

    with pyro_step(elbo.store):
        expected = Trace_ELBO().differentiable_loss(model, guide, *batch)
    gradients = torch.autograd.grad(expected, list(elbo.sites.values()))
    torch.testing.assert_close(loss, expected)
    for site, a, b in zip(elbo.sites, found, gradients, strict=True):
        torch.testing.assert_close(a, b, msg=lambda m, s=site: f"{s}: {m}")
    complexity = complexity_cost(model, guide.median())
    assert float(error) == pytest.approx(
        float(expected.detach()) - model.tau * complexity, rel=1e-4
    )


def test_every_other_guide_goes_through_pyros_elbo(monkeypatch):
    model, batch = problem(ONE_GROUP)
    lean, general = delta_guide(model), NotLean(model, init_to_value(values=model.start()))
    calls = []
    real = Trace_ELBO.differentiable_loss
    monkeypatch.setattr(
        Trace_ELBO, "differentiable_loss", lambda *a: calls.append(1) or real(*a), raising=True
    )
    first, second = (fit(model, g, Sample(batch), epochs=4, seed=1) for g in (lean, general))
    assert len(calls) == 4
    for site, value in first.posterior.point.items():
        torch.testing.assert_close(value, second.posterior.point[site])
    costs = [[row["error_cost_nats"] for row in f.history] for f in (first, second)]
    assert costs[0] == pytest.approx(costs[1])


def test_a_guide_in_a_function_is_fitted_too():
    model, batch = problem(SpikeAndSlabs(slabs=3, slab_shares="equal", start_deviation=0.3))
    point = model.start()

    class ByHand:
        carries_tau = True

        def __call__(self, inputs=None, targets=None):
            return {name: self.sample(name, value) for name, value in point.items()}

        def sample(self, name, value):
            support = constraints.positive if "precision" in name else constraints.real
            located = pyro.param(f"guide.{name}", value.clone(), constraint=support)
            return pyro.sample(name, pyro.distributions.Delta(located, event_dim=value.dim()))

        def median(self):
            return {name: value.detach() for name, value in self().items()}

    fitted = fit(model, ByHand(), Sample(batch), epochs=3)
    expected = fit(model, delta_guide(model), Sample(batch), epochs=3)
    for site, value in expected.posterior.point.items():
        torch.testing.assert_close(fitted.posterior.point[site], value)


@pytest.mark.parametrize("prior", [EVERY_HYPERPRIOR, TWO_GROUPS])
def test_frozen_hyperparameters_get_no_gradient_and_the_weights_theirs(prior):
    model, batch = problem(prior)
    guide = delta_guide(model)
    elbo = elbo_of(guide, model, batch)
    loss, _ = elbo(*batch)
    whole = dict(zip(elbo.sites, torch.autograd.grad(loss, list(elbo.sites.values())), strict=True))
    frozen, _ = elbo(*batch, freeze=True)
    assert frozen == loss
    frozen.backward()
    for site, parameter in elbo.sites.items():
        if site.endswith(".weights"):
            torch.testing.assert_close(parameter.grad, whole[site])
        else:
            assert parameter.grad is None, site


@dataclass(frozen=True)
class Unusual:
    """A family with a plate, a deterministic site, a factor and a parameter of its own."""

    slabs: int = 3
    plate: bool = True

    def __call__(self, group):
        scale = pyro.param(f"{group.name}.width", group.constant(0.3))
        with pyro.plate("slabs", self.slabs) if self.plate else nullcontext():
            spread = pyro.distributions.Normal(group.constant(0.0), 1.0)
            spread = spread if self.plate else spread.expand([self.slabs]).to_event(1)
            means = pyro.sample(f"{group.name}.means", spread)
        pyro.deterministic(f"{group.name}.twice", 2 * means)
        pyro.factor(f"{group.name}.factor", -means.square().sum())
        precisions = scale.pow(-2).expand(self.slabs)
        shares = group.constant(1 / self.slabs).expand(self.slabs)
        return MixturePrior(Mixture(means, precisions, shares))

    def start(self, group, weights):
        return {f"{group.name}.means": torch.linspace(-0.5, 0.5, self.slabs)}


@pytest.mark.parametrize("plate", [True, False])
@pytest.mark.parametrize("make", [delta_guide, None])
def test_an_unusual_prior_has_pyros_elbo_too(plate, make):
    model, batch = problem(Unusual(plate=plate))
    guide = (make or AutoDelta)(model)
    elbo = elbo_of(guide, model, batch)
    assert elbo.can_freeze != plate
    with pyro_step(elbo.store):
        expected = Trace_ELBO().differentiable_loss(model, guide, *batch)
    torch.testing.assert_close(elbo(*batch)[0], expected)


def test_a_plates_own_site_is_no_term():
    with pyro_step(), torch.random.fork_rng(), AtPoint({}) as run:
        with pyro.plate("some", 5, subsample_size=2):
            pyro.sample("x", pyro.distributions.Normal(torch.zeros(2), 1.0))
    assert run.log_probs.keys() == {"x"}


def test_a_priors_own_parameter_moves_in_every_step_at_its_own_rate():
    model, batch = problem(Unusual(plate=False))
    elbo = elbo_of(delta_guide(model), model, batch)
    assert elbo.freezes("all.means") and not elbo.freezes("all.width")
    loss, _ = elbo(*batch, freeze=True)
    loss.backward()
    gradients = {site: parameter.grad for site, parameter in elbo.sites.items()}
    assert gradients.pop("all.means") is None
    assert all(gradient is not None for gradient in gradients.values())


def test_a_way_forced_around_a_fit_is_taken(monkeypatch):
    ways = []
    real = density.select_backend
    monkeypatch.setattr(density, "select_backend", lambda *a: ways.append(real(*a)) or ways[-1])
    model, batch = problem(ONE_GROUP)
    with density_backend("portable"):
        fit(model, delta_guide(model), Sample(batch), epochs=1)
    assert ways and {way.reason for way in ways} == {"asked for"}


def test_a_callers_autocast_does_not_touch_the_prior():
    model, batch = problem(ONE_GROUP, density=Density(prior_subsample=0.5))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        values = []
        for autocast in (nullcontext(), torch.autocast("cpu", torch.bfloat16)):
            torch.manual_seed(0)
            elbo = elbo_of(delta_guide(model), model, batch)
            with autocast:
                loss, error = elbo(*batch)
            values.append(float(loss - error))
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_learned_noise_is_never_frozen():
    model, batch = problem(ONE_GROUP, likelihood=Gaussian())
    elbo = elbo_of(delta_guide(model), model, batch)
    moving = {site for site in elbo.sites if not elbo.freezes(site)}
    assert moving == {"all.weights", *model.likelihood.start()}


def test_frozen_hyperparameters_move_in_every_mth_step_only():
    model, batch = problem(ONE_GROUP)
    seen = []
    for every in (1, 3):
        settings = Fitting(epochs=6, schedule="constant", hyperparameters_every=every)
        rows = fit(model, delta_guide(model), Sample(batch), settings).history
        seen.append([row["mixtures"]["all"]["means"][1] for row in rows])
    always, sometimes = (torch.tensor(values) for values in seen)
    moved = (sometimes.diff() != 0).tolist()
    assert moved == [False, True, False, False, True]
    # Adam's steps are about a rate long: three times the rate in every third step goes as far.
    start = model.start()["all.means"][0]
    assert float(sometimes[-1] - start) == pytest.approx(float(always[-1] - start), rel=0.2)


def test_holding_is_refused_where_it_cannot_be_done():
    model, batch = problem(ONE_GROUP)
    guide = NotLean(model, init_to_value(values=model.start()))
    with pytest.raises(ValueError, match="hyperparameters_every must be 1 for a NotLean"):
        fit(model, guide, Sample(batch), settings=Fitting(epochs=1, hyperparameters_every=2))
    with pytest.raises(ValueError, match="hyperparameters_every must be a whole number >= 1"):
        fit(
            model,
            delta_guide(model),
            Sample(batch),
            settings=Fitting(epochs=1, hyperparameters_every=0),
        )
    with pytest.raises(ValueError, match="= 4 is more than the 3 steps of the whole fit"):
        fit(
            model,
            delta_guide(model),
            Sample(batch),
            settings=Fitting(epochs=3, hyperparameters_every=4),
        )


def test_autocast_is_for_the_network_alone(monkeypatch):
    model, batch = problem(ONE_GROUP, density=Density(autocast="bfloat16"))
    seen = []
    real = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda *a: seen.append(real(*a).dtype) or real(*a)
    )
    guide = delta_guide(model)
    fitted = fit(model, guide, Sample(batch), epochs=2)
    assert set(seen[2:]) == {torch.bfloat16}
    assert {value.dtype for value in fitted.posterior.point.values()} == {torch.float32}
    plain, _ = problem(ONE_GROUP)
    with torch.no_grad():
        loss, error = elbo_of(guide, model, batch)(*batch)
        exact, exact_error = elbo_of(guide, plain, batch)(*batch)
    assert loss.dtype == error.dtype == torch.float32
    assert loss != exact
    # bfloat16 keeps 8 bits; the prior's part is not touched by it.
    assert float(error) == pytest.approx(float(exact_error), rel=2e-2)
    assert float(loss - error) == pytest.approx(float(exact - exact_error), rel=1e-4)


def test_autocast_of_a_float64_network_is_refused():
    with pytest.raises(ValueError, match="autocast is for a float32 network; this one is .*64"):
        problem(ONE_GROUP, density=Density(autocast="bfloat16"), dtype=torch.float64)
