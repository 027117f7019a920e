"""A group's hyperposterior against scipy's densities, Pyro's traces and the unbinned weights."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from every_prior import GROUP, PRIORS, WEIGHTS, log_joint, somewhere, traced
from scipy import stats
from torch.distributions import biject_to

import pyro_sws as sws
from pyro_sws.inference.hyperposterior.target import hyperposterior
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.newton import energy_and_gradient, newton_mode
from pyro_sws.inference.priors import Scaled, SpikeAndSlabs, Structured
from pyro_sws.weights.group import Group

EVERY_HYPERPRIOR = SpikeAndSlabs(
    2, Beta(20.0, 5.0), Gamma(50.0, 0.5), Gamma(8.0, 0.3), Dirichlet(2.0), Normal(0.5)
)
NOT_SHARED = ("structured", "row_scaled")
LEARNED = [name for name in PRIORS if PRIORS[name].start(GROUP, WEIGHTS)]


def given(prior, group=GROUP, weights=WEIGHTS, **settings):
    point = {**prior.start(group, weights), "all.weights": weights}
    return hyperposterior(prior, group, point, **settings)


def unconstrained(target, point):
    return torch.cat(
        [target.space.transforms[s].inv(point[s]).reshape(-1) for s in target.space.shapes]
    )


@pytest.mark.parametrize("exact", [False, True])
def test_the_potential_is_the_written_out_density_with_its_jacobian(exact):
    target = given(EVERY_HYPERPRIOR, exact=exact, bin_width=1e-3)  # a weight has a bin of its own
    u = torch.tensor([-0.2, 0.3, 4.0, 4.5, 0.4, 1.2, 5.0], dtype=torch.float64)
    sites = ["means", "slab_precisions", "slab_shares", "zero_proportion", "spike_precision"]
    assert list(target.space.shapes) == [f"all.{site}" for site in sites]
    means, slabs = u[:2].numpy(), np.exp(u[2:4].numpy())
    share, zero = 1 / (1 + np.exp(-u[4:6].numpy()))
    spike = np.exp(5.0)
    logs = [
        stats.norm(0, 0.5).logpdf(means).sum(),
        stats.gamma(8.0, scale=1 / 0.3).logpdf(slabs).sum(),
        stats.dirichlet([2.0, 2.0]).logpdf([share, 1 - share]),
        stats.beta(20.0, 5.0).logpdf(zero),
        stats.gamma(50.0, scale=1 / 0.5).logpdf(spike),
        np.log(slabs).sum() + np.log(spike),  # d e^u = e^u du
        np.log(share * (1 - share)) + np.log(zero * (1 - zero)),  # and of the logistic function
    ]
    density = zero * stats.norm(0, spike**-0.5).pdf(WEIGHTS)
    for mean, precision, part in zip(means, slabs, (share, 1 - share), strict=True):
        density = density + (1 - zero) * part * stats.norm(mean, precision**-0.5).pdf(WEIGHTS)
    expected = -(sum(logs) + np.log(density).sum())
    assert target.potential(u).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", LEARNED)
def test_every_family_has_the_joint_density_that_pyro_traces(name):
    prior = PRIORS[name]
    target = given(prior, exact=name.startswith(NOT_SHARED), bin_width=1e-3)
    point = somewhere(prior, GROUP, WEIGHTS)
    if isinstance(prior, Scaled):
        point["all.scales"] = prior.start(GROUP, WEIGHTS)["all.scales"]  # they stay as fitted
    u = unconstrained(target, point)
    nodes = traced(prior, GROUP, point).nodes
    jacobian = sum(
        biject_to(nodes[s]["fn"].support)
        .log_abs_det_jacobian(target.space.transforms[s].inv(point[s]), point[s])
        .sum()
        for s in target.space.shapes
    )
    expected = -(log_joint(prior, GROUP, point, WEIGHTS) + jacobian)
    torch.testing.assert_close(target.potential(u), expected.detach())
    energy, gradient = energy_and_gradient(target, u)
    assert energy == pytest.approx(expected.item())
    steps = 1e-6 * torch.eye(len(u), dtype=u.dtype)
    for step, slope in list(zip(steps, gradient, strict=True))[:8]:
        rise = target.potential(u + step) - target.potential(u - step)
        assert slope.item() == pytest.approx(rise.item() / 2e-6, rel=1e-4, abs=1e-4)


def spiky():
    """A fit whose spike is a tenth as wide as its slabs: 30,000 weights, and hyperpriors."""
    group = Group("all", {"w": (30_000,)})
    slabs = torch.tensor([-0.2, 0.1, 0.3])
    with torch.random.fork_rng():
        torch.manual_seed(1)
        noise = torch.randn(group.size)
        chosen = torch.multinomial(torch.tensor([0.04, 0.03, 0.03, 0.9]), group.size, True)
    means = torch.cat([slabs, torch.zeros(1)])
    deviations = torch.tensor([0.03, 0.03, 0.05, 0.003])
    point = {
        "all.means": slabs,
        "all.slab_precisions": deviations[:3] ** -2,
        "all.spike_precision": deviations[3] ** -2,
        "all.slab_shares": torch.tensor([0.4, 0.3, 0.3]),
        "all.zero_proportion": torch.tensor(0.9),
        "all.weights": means[chosen] + deviations[chosen] * noise,
    }
    prior = SpikeAndSlabs(
        3, Beta(9.0, 1.0), Gamma(2.0, 1e-5), Gamma(8.0, 0.01), Dirichlet(1.0), Normal(0.5)
    )
    return prior, group, point


def test_binned_and_exact_posteriors_have_one_mode_and_one_width():
    problem = spiky()
    binned, exact = hyperposterior(*problem), hyperposterior(*problem, exact=True)
    assert len(binned.bins) < 600
    (a, *_), (b, values, vectors) = newton_mode(binned, 0.1), newton_mode(exact, 0.1)
    deviations = (vectors.square() / values).sum(-1).sqrt()
    # Newton stops within a thousandth of a deviation.
    assert ((a - b).abs() / deviations).max() < 0.01
    at_mode = torch.linalg.inv(binned.hessian(b)).diagonal().sqrt()
    torch.testing.assert_close(at_mode, deviations, rtol=1e-3, atol=0)
    errors = [binned.binning_error(b + deviations * sign) for sign in (-2, 0, 2)]
    assert np.std(errors) < 1e-2  # nats: importance weights would all be 1


def test_binning_error_is_the_difference_of_the_potentials():
    problem = spiky()
    binned, exact = (hyperposterior(*problem, exact=e, bin_width=1.0) for e in (False, True))
    difference = exact.potential(binned.start) - binned.potential(binned.start)
    assert binned.binning_error(binned.start) == pytest.approx(difference.item(), rel=1e-4)
    assert exact.binning_error(exact.start) == 0


def test_constrained_values_lie_in_their_supports_and_start_at_the_point():
    prior, group, point = spiky()
    target = hyperposterior(prior, group, point)
    for site, value in target.constrained(target.start).items():
        torch.testing.assert_close(value.float(), point[site])
    draws = target.constrained(torch.randn(2, 5, len(target.start), dtype=torch.float64))
    assert draws["all.slab_shares"].shape == (2, 5, 3)
    torch.testing.assert_close(draws["all.slab_shares"].sum(-1), torch.ones(2, 5).double())


def test_the_mixture_is_over_the_weights_where_the_family_has_a_grid():
    prior = PRIORS["grid, powers of two"]
    target = given(prior)
    spacing = prior.start(GROUP, WEIGHTS)["all.spacing"]
    expected = spacing * torch.tensor([-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0], dtype=WEIGHTS.dtype)
    found = target.mixture(target.start)
    torch.testing.assert_close(found.means.sort().values, expected)
    assert target.fixed_levels and not given(EVERY_HYPERPRIOR).fixed_levels


def still(group):
    values = (group.constant(x).view(1) for x in (0.0, 100.0, 1.0))
    return sws.MixturePrior(sws.Mixture(*values))


@pytest.mark.parametrize("prior", [sws.Custom(still), sws.GaussianPrior(400.0)])
def test_a_prior_with_nothing_to_sample_is_refused(prior):
    with pytest.raises(ValueError, match=r"group 'all': nothing of its \w+ is sampled; give it a"):
        given(prior)


def all_shared(group):
    pyro.sample("shared.centre", dist.Normal(group.constant(0.0), 1.0))
    return still(group)


def test_a_prior_that_shares_all_that_it_samples_is_refused_with_the_reason():
    point = {"shared.centre": torch.tensor(0.0), "all.weights": WEIGHTS}
    with pytest.raises(ValueError, match="its Custom samples is shared with other groups") as found:
        hyperposterior(sws.Custom(all_shared), GROUP, point)
    assert "hyperprior" not in str(found.value)
    with pytest.raises(ValueError, match="nothing of its Custom is sampled"):  # others share
        hyperposterior(sws.Custom(still), GROUP, point)


def test_weights_without_a_shared_mixture_are_refused_unless_exact():
    prior = Structured(SpikeAndSlabs(2, 0.6))
    words = r"a TiltedPrior is no mixture that all.*hyperposterior\(..., exact=True\)"
    with pytest.raises(ValueError, match=words):
        given(prior)
    assert given(prior, exact=True).bins is None


def test_a_point_without_a_site_is_refused():
    point = {**EVERY_HYPERPRIOR.start(GROUP, WEIGHTS), "all.weights": WEIGHTS}
    del point["all.spike_precision"]
    with pytest.raises(ValueError, match="no value for 'all.spike_precision'"):
        hyperposterior(EVERY_HYPERPRIOR, GROUP, point)
    del point["all.weights"]
    with pytest.raises(ValueError, match="the point has no 'all.weights'; it has all.means"):
        hyperposterior(EVERY_HYPERPRIOR, GROUP, point)


def test_a_point_outside_its_support_is_refused():
    start = EVERY_HYPERPRIOR.start(GROUP, WEIGHTS)
    point = {**start, "all.weights": WEIGHTS, "all.spike_precision": -torch.ones(()).double()}
    with pytest.raises(ValueError, match="'all.spike_precision' lies outside its support"):
        hyperposterior(EVERY_HYPERPRIOR, GROUP, point)


def test_a_point_that_the_prior_rules_out_is_refused():
    def walled(group):
        density = EVERY_HYPERPRIOR(group)
        pyro.factor("all.wall", group.constant(-torch.inf))
        return density

    prior = sws.Custom(walled, starts=EVERY_HYPERPRIOR.start)
    with pytest.raises(ValueError, match=r"not finite \(-log density inf\)"):
        given(prior)


def test_a_discrete_hyperparameter_is_refused():
    def switched(group):
        on = pyro.sample("all.on", dist.Bernoulli(group.constant(0.5)))
        one = group.constant(1.0).view(1)
        return sws.MixturePrior(sws.Mixture(0 * one, 100 * one * (1 + on), one))

    with pytest.raises(ValueError, match="'all.on' has support.*continuous hyperparameters only"):
        given(sws.Custom(switched, starts=lambda group, weights: {"all.on": torch.ones(())}))
