"""NUTS on hyperparameters against exact posteriors: Gamma, Normal, and the unbinned weights."""

import numpy as np
import pyro
import pytest
import torch
from failing_chains import die, fail_second
from label_report import label_report
from scipy import stats

import pyro_sws as sws
from pyro_sws.assess.draws.inference_data import arviz
from pyro_sws.inference.hyperposterior.chain_processes import in_processes
from pyro_sws.inference.hyperposterior.nuts import sample_hyperparameters
from pyro_sws.inference.hyperposterior.target import hyperposterior
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.priors import GaussianPrior, SpikeAndSlabs
from pyro_sws.inference.progress import ignore
from pyro_sws.weights.component_draws import ordered
from pyro_sws.weights.group import Group

SHORT = dict(chains=2, warmup=20, draws=10)
SHORTEST = dict(chains=2, warmup=5, draws=5)


def given(prior, weights, **settings):
    group = Group("all", {"w": tuple(weights.shape)}, weights.dtype)
    point = {**prior.start(group, weights), "all.weights": weights}
    return hyperposterior(prior, group, point, **settings)


def some_weights(size=50, seed=0):
    return 0.2 * torch.randn(size, generator=torch.Generator().manual_seed(seed)).double()


def ess(draws):
    return float(arviz().ess(draws.numpy()))


def agrees(draws, exact):
    """Mean and deviation within five standard errors, and the whole distribution's shape."""
    flat, size = draws.flatten().numpy(), ess(draws)
    deviation = exact.std()
    assert abs(flat.mean() - exact.mean()) < 5 * deviation / size**0.5
    assert abs(flat.std() - deviation) < 5 * deviation / size**0.5
    thinned = flat[:: max(1, int(np.ceil(len(flat) / size)))]
    assert stats.kstest(thinned, exact.cdf).pvalue > 1e-4


@pytest.fixture(scope="module")
def one_precision():
    target = given(GaussianPrior(Gamma(3.0, 0.1)), some_weights())
    return sample_hyperparameters(target, chains=2, warmup=100, draws=400)


@pytest.mark.integration
def test_a_gaussians_precision_has_its_gamma_posterior(one_precision):
    found, w = one_precision, some_weights()
    shape, rate = 3 + len(w) / 2, 0.1 + (w**2).sum().item() / 2
    draws = found.sites["all.precision"]
    assert draws.shape == (2, 400)
    assert ess(draws) > 100 and not found.diverging.any()
    agrees(draws, stats.gamma(shape, scale=1 / rate))
    torch.testing.assert_close(found.components.deviations.squeeze(-1), draws.rsqrt())
    # Up to the same constant everywhere, the log-density is the Gamma's of x, times x = dx/du.
    logs = stats.gamma(shape, scale=1 / rate).logpdf(draws) + np.log(draws.numpy())
    assert np.ptp(found.log_density.numpy() - logs) < 1e-8


@pytest.mark.integration
@pytest.mark.parametrize("dense_mass", [False, True])
@pytest.mark.slow
def test_a_mean_has_its_normal_posterior(dense_mass):
    w = 0.1 + some_weights()
    prior = SpikeAndSlabs(1, 0.0, 9.0, 400.0, "equal", Normal(0.05))
    target = given(prior, w)
    found = sample_hyperparameters(target, chains=2, warmup=100, draws=300, dense_mass=dense_mass)
    precision = 0.05**-2 + len(w) * 400
    exact = stats.norm(400 * w.sum().item() / precision, precision**-0.5)
    agrees(found.sites["all.means"].squeeze(-1), exact)


@pytest.mark.integration
def test_energies_are_the_potential_plus_half_a_chi_squared(one_precision):
    """Of D = 1 degree of freedom: the kinetic energy is that of a fresh Normal momentum."""
    found = one_precision
    # A trajectory starts where the last ended.
    kinetic = found.energy[:, 1:] + found.log_density[:, :-1]
    assert (kinetic >= 0).all()
    assert stats.kstest(2 * kinetic.flatten().numpy(), stats.chi2(1).cdf).pvalue > 1e-4


FOUR = SpikeAndSlabs(
    3, Beta(4.0, 4.0), Gamma(2.0, 1e-3), Gamma(2.0, 1e-3), Dirichlet(1.0), Normal(0.5)
)


def four_components(size, **settings):
    """Weights of a spike and three slabs, ten deviations apart; the fit starts at the truth."""
    means = torch.tensor([0.0, -0.4, 0.3, 0.6], dtype=torch.float64)
    generator = torch.Generator().manual_seed(2)
    chosen = torch.randint(4, (size,), generator=generator)
    w = means[chosen] + 0.03 * torch.randn(size, generator=generator, dtype=torch.float64)
    group = Group("all", {"w": (size,)}, torch.float64)
    point = {
        "all.means": means[1:],
        "all.slab_precisions": torch.full((3,), 0.03**-2).double(),
        "all.spike_precision": torch.tensor(0.03**-2).double(),
        "all.slab_shares": torch.full((3,), 1 / 3).double(),
        "all.zero_proportion": torch.tensor(0.25).double(),
        "all.weights": w,
    }
    return hyperposterior(FOUR, group, point, **settings)


@pytest.mark.integration
def test_the_log_density_is_that_of_the_draws():
    target = four_components(200)
    found = sample_hyperparameters(target, **SHORT)
    for chain in (0, 1):
        for draw in (0, 5, 9):
            values = [
                target.space.transforms[site].inv(draws[chain, draw]).reshape(-1)
                for site, draws in found.sites.items()
            ]
            expected = -target.potential(torch.cat(values))
            torch.testing.assert_close(found.log_density[chain, draw], expected)


@pytest.mark.integration
def test_draws_and_mixture_say_the_same_and_the_spike_stays_first():
    found = sample_hyperparameters(four_components(200), **SHORT)
    mixture, sites = found.components, found.sites
    assert mixture.means.shape == (2, 10, 4)
    assert mixture.fixed.tolist() == [True, False, False, False]
    torch.testing.assert_close(mixture.means[..., 1:], sites["all.means"])
    torch.testing.assert_close(mixture.deviations[..., 0], sites["all.spike_precision"].rsqrt())
    rest = (1 - sites["all.zero_proportion"]).unsqueeze(-1) * sites["all.slab_shares"]
    torch.testing.assert_close(mixture.proportions[..., 1:], rest)
    assert (ordered(mixture).means[..., 0] == 0).all()
    assert found.binning_error < 1e-2
    for values in (found.log_density, found.energy, found.gradients, found.diverging):
        assert values.shape == (2, 10)
    assert (found.gradients >= 1).all() and (found.step_sizes > 0).all()


@pytest.mark.integration
def test_one_seed_gives_the_same_draws_in_processes_and_another_gives_others():
    target, calls = four_components(200), []
    one = sample_hyperparameters(target, **SHORTEST, seed=3)
    two = sample_hyperparameters(target, **SHORTEST, seed=3, processes=2, progress=calls.append)
    other = sample_hyperparameters(target, **SHORTEST, seed=4)
    for site, draws in one.sites.items():
        assert torch.equal(draws, two.sites[site])
        assert not torch.equal(draws, other.sites[site])
        assert not torch.equal(draws[0], draws[1])
    assert torch.equal(one.energy, two.energy)
    for chain in (0, 1):
        told = [(c.done, c.total) for c in calls if c.stage == f"chain {chain}"]
        assert told == [(i + 1, 10) for i in range(10)]


@pytest.mark.integration
def test_the_caller_is_left_as_it_was():
    pyro.get_param_store()["mine"] = torch.ones(2)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    target = given(GaussianPrior(Gamma(3.0, 0.1)), some_weights())
    with pyro.poutine.trace() as trace, torch.no_grad():
        sample_hyperparameters(target, chains=1, warmup=10, draws=2)
    assert not [name for name in trace.trace.nodes if not name.startswith("_")]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert list(pyro.get_param_store().keys()) == ["mine"]


def test_what_progress_raises_ends_the_run():
    def stop(progress):
        raise KeyboardInterrupt(f"{progress.stage}: {progress.done} of {progress.total}")

    target = given(GaussianPrior(Gamma(3.0, 0.1)), some_weights())
    with pytest.raises(KeyboardInterrupt, match="chain 0: 1 of 30"):
        sample_hyperparameters(target, **SHORT, progress=stop)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(chains=0), "chains must be a whole number >= 1, got 0"),
        (dict(draws=2.5), "draws must be a whole number >= 1, got 2.5"),
        (dict(processes=0), "processes must be a whole number >= 1, got 0"),
        (dict(target_acceptance=1.0), r"target_acceptance must be in \(0, 1\), got 1.0"),
        (dict(dispersion=-1.0), "dispersion must be at least 0 deviations, got -1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, message):
    target = given(GaussianPrior(Gamma(3.0, 0.1)), some_weights())
    with pytest.raises(ValueError, match=message):
        sample_hyperparameters(target, **setting)


def test_a_prior_that_cannot_travel_is_refused():
    custom = sws.Custom(lambda group: GaussianPrior(Gamma(3.0, 0.1))(group))
    target = given(custom, some_weights())
    with pytest.raises(ValueError, match="cannot be sent to another process.*processes=1"):
        sample_hyperparameters(target, **SHORT, processes=2)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (fail_second, ValueError, "the second will not do"),
        (die, RuntimeError, 'guarded by if __name__ == "__main__"'),
    ],
)
@pytest.mark.slow
def test_what_fails_in_a_process_is_raised_here(run, error, message):
    with pytest.raises(error, match=message):
        in_processes(run, [1, 2], 2, ignore)


@pytest.mark.slow
def test_the_reference_problem_converges_and_agrees_with_the_unbinned_posterior():
    binned = sample_hyperparameters(four_components(2000), processes=2)
    exact = sample_hyperparameters(four_components(2000, exact=True), seed=1, processes=2)
    for found in (binned, exact):
        assert not found.diverging.any()
        for draws in found.sites.values():
            entries = draws.reshape(*draws.shape[:2], -1).unbind(-1)
            assert max(float(arviz().rhat(entry.numpy())) for entry in entries) < 1.01
            assert min(map(ess, entries)) > 400
        report = label_report(found.components)
        assert not report.swapped.any() and not report.crowded.any()
        # A chain's mean, of some 500 independent draws, in deviations: five standard errors.
        assert report.apart.abs().max() < 5 * 400**-0.5
    for site, draws in binned.sites.items():
        for ours, theirs in zip(
            draws.reshape(*draws.shape[:2], -1).unbind(-1),
            exact.sites[site].reshape(*draws.shape[:2], -1).unbind(-1),
            strict=True,
        ):
            error = (ours.var() / ess(ours) + theirs.var() / ess(theirs)).sqrt()
            assert (ours.mean() - theirs.mean()).abs() < 5 * error, site
    assert binned.binning_error < 1e-2
