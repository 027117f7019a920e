"""The mixture's tree: sums over bins are those of the weights, and draws those of scipy's laws."""

from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from scipy import stats

from pyro_sws.assess.draws.inference_data import as_arviz, load_netcdf, save_netcdf
from pyro_sws.assess.draws.mixture_tree import mixture_tree
from pyro_sws.inference.hyperposterior.laplace import laplace_hyperparameters
from pyro_sws.inference.hyperposterior.sampled_mixture import sampled_mixture
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.priors import (
    PRIORS,
    DirichletProcess,
    GaussianPrior,
    Grid,
    Scaled,
    ScaleMixture,
    SparseDirichlet,
    SpikeAndSlabs,
    Ternary,
)
from pyro_sws.inference.priors.custom import Custom
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.posterior import Posterior
from pyro_sws.weights.weight_prior import MixturePrior

SIZE = 400
GROUP = Group("all", {"w": (SIZE,)}, torch.float64)
PRIOR = SpikeAndSlabs(
    2, Beta(30.0, 20.0), Gamma(50.0, 0.02), Gamma(20.0, 0.02), Dirichlet(2.0), Normal(0.5)
)
TRUTH = Mixture(
    *(torch.tensor(x).double() for x in ([0.0, -0.4, 0.5], [2500.0] * 3, [0.6, 0.1, 0.3]))
)


def sampled(prior=PRIOR):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flat = TRUTH.sample((SIZE,))
    point = {**prior.start(GROUP, flat), "all.weights": flat}
    posterior = Posterior({"all": GROUP}, point, {"all": MixturePrior(TRUTH)}, {}, 1.0)
    return sampled_mixture(prior, posterior, "all")


@pytest.fixture(scope="module")
def target():
    return sampled()


@pytest.fixture(scope="module")
def draws(target):
    return laplace_hyperparameters(target.target, draws=200)


@pytest.fixture(scope="module")
def tree(target, draws):
    return mixture_tree(target, draws)


@pytest.mark.integration
def test_the_likelihood_of_all_bins_is_that_of_all_weights(target, tree, draws):
    total = tree["log_likelihood"]["weights"].sum("bin").values
    c = draws.components
    for s in (0, 17, 199):
        mixture = Mixture(c.means[0, s], c.deviations[0, s] ** -2, c.proportions[0, s])
        exact = mixture.log_prob(target.target.flat).sum().item()
        assert total[0, s] == pytest.approx(exact, abs=0.05)


def test_the_log_prior_is_that_of_the_hyperpriors(tree, draws):
    for s in (3, 99):
        at = {name.removeprefix("all."): v[0, s].numpy() for name, v in draws.sites.items()}
        logs = [
            stats.norm(0, 0.5).logpdf(at["means"]).sum(),
            stats.gamma(20, scale=50).logpdf(at["slab_precisions"]).sum(),
            stats.gamma(50, scale=50).logpdf(at["spike_precision"]),
            stats.beta(30, 20).logpdf(at["zero_proportion"]),
            stats.dirichlet([2, 2]).logpdf(at["slab_shares"]),
        ]
        assert tree["log_prior"]["hyperparameters"].values[0, s] == pytest.approx(sum(logs))


def test_components_are_named_and_slabs_ascend_in_every_draw(tree):
    for group in ("prior", "posterior"):
        means = tree[group]["means"]
        assert means.coords["component"].values.tolist() == ["spike", "slab.0", "slab.1"]
        assert (means.sel(component="spike") == 0).all()
        assert (means.sel(component="slab.0") < means.sel(component="slab.1")).all()


def test_prior_draws_are_those_of_the_hyperpriors(tree):
    prior = tree["prior"]
    precision = prior["spike_precision"].values.ravel()
    assert stats.kstest(precision, stats.gamma(50, scale=50).cdf).pvalue > 1e-3
    spike = prior["deviations"].sel(component="spike").values.ravel()
    np.testing.assert_allclose(spike, precision**-0.5)
    # Either of two ordered means, taken at random, is Normal again.
    means = prior["means"].sel(component=["slab.0", "slab.1"]).values.ravel()
    assert stats.kstest(means, stats.norm(0, 0.5).cdf).pvalue > 1e-3
    zero = prior["proportions"].sel(component="spike").values.ravel()
    assert stats.kstest(zero, stats.beta(30, 20).cdf).pvalue > 1e-3


def test_observed_weights_are_all_there_and_predicted_ones_alike(target, tree):
    assert int(tree["observed_data"]["weights"].sum()) == SIZE
    low, high = (tree["constant_data"][f"bin_{end}"].values for end in ("low", "high"))
    c = tree["posterior"]
    cdf = sum(
        c["proportions"].values[0, :, j, None]
        * (
            stats.norm(c["means"].values[0, :, j, None], c["deviations"].values[0, :, j, None]).cdf(
                high
            )
            - stats.norm(
                c["means"].values[0, :, j, None], c["deviations"].values[0, :, j, None]
            ).cdf(low)
        )
        for j in range(3)
    )
    predicted = tree["posterior_predictive"]["weights"].values[0]
    expected = SIZE * cdf
    apart = (predicted - expected).sum(0) / np.sqrt(expected.sum(0) + 1e-9)
    assert np.abs(apart[expected.sum(0) > 20]).max() < 5


def test_what_is_free_has_no_prior_draws():
    free = sampled(replace(PRIOR, spike_precision="free"))
    prior = mixture_tree(free, laplace_hyperparameters(free.target, draws=30), prior_draws=10)[
        "prior"
    ]
    assert "deviations" not in prior and "spike_precision" not in prior
    assert {"means", "proportions", "zero_proportion"} <= set(prior.data_vars)


def fitted_to(prior):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flat = TRUTH.sample((SIZE,))
    point = {**prior.start(GROUP, flat), "all.weights": flat}
    with pyro_step(), torch.no_grad():
        density = poutine.condition(prior, data=point)(GROUP)
    return Posterior({"all": GROUP}, point, {"all": density}, {}, 1.0)


AT_TRUTH = dict(zero_proportion=0.6, initialization=(-0.4, 0.5), start_deviation=0.02)
FAMILIES = {  # all but Structured, which has no mixture that all weights share
    "spike_and_slabs": SpikeAndSlabs(2, **AT_TRUTH),
    "scaled": Scaled(replace(PRIOR, initialization="em")),
    "dirichlet_process": DirichletProcess(2, **AT_TRUTH),
    "sparse_dirichlet": SparseDirichlet(2, **AT_TRUTH),
    "grid": Grid(steps=2),
    "ternary": Ternary(),
    "scale_mixture": ScaleMixture("laplace", nodes=3, slabs=2, **AT_TRUTH),
    "gaussian": GaussianPrior(Gamma(30.0, 2.0)),
}


@pytest.mark.integration
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_s_prior_and_posterior_are_in_the_weights_own_units(name):
    assert {*FAMILIES, "structured"} == PRIORS.keys()
    prior = FAMILIES[name]
    target = sampled_mixture(prior, fitted_to(prior), "all")
    tree = mixture_tree(target, laplace_hyperparameters(target.target, draws=30), prior_draws=30)
    for variable in {"means", "deviations", "proportions"} & set(tree["prior"].data_vars):
        assert tree["prior"][variable].shape[2:] == tree["posterior"][variable].shape[2:]
    predicted = tree["posterior_predictive"]["weights"].sum("bin")
    assert (predicted <= SIZE).all() and predicted.mean() > 0.9 * SIZE
    assert np.isfinite(tree["log_prior"]["hyperparameters"]).all()


def test_a_gaussian_s_deviations_are_those_of_its_precision():
    prior = GaussianPrior(Gamma(30.0, 2.0))
    target = sampled_mixture(prior, fitted_to(prior), "all")
    tree = mixture_tree(target, laplace_hyperparameters(target.target, draws=30))
    for group in ("prior", "posterior"):
        deviations = tree[group]["deviations"].values[..., 0]
        np.testing.assert_allclose(deviations, tree[group]["precision"].values ** -0.5)


@pytest.mark.integration
def test_levels_on_a_free_spacing_have_no_prior():
    target = sampled_mixture(Grid(steps=2), fitted_to(Grid(steps=2)), "all")
    tree = mixture_tree(target, laplace_hyperparameters(target.target, draws=30))
    assert "means" in tree["posterior"] and "means" not in tree["prior"]


def test_it_goes_through_arviz_and_a_file(tree, tmp_path):
    save_netcdf(tree, tmp_path / "mixture.nc")
    back = load_netcdf(tmp_path / "mixture.nc")
    np.testing.assert_array_equal(back["posterior"]["means"], tree["posterior"]["means"])
    assert back.attrs["inference_method"] == "laplace"
    assert as_arviz(back)["posterior"]["means"].shape == (1, 200, 3)


@pytest.mark.integration
def test_seeds_decide_and_the_caller_s_generator_stays(target, draws, tree):
    before = torch.get_rng_state()
    again = mixture_tree(target, draws)
    assert torch.equal(torch.get_rng_state(), before)
    for group in ("prior", "prior_predictive", "posterior_predictive"):
        assert again[group].to_dataset().equals(tree[group].to_dataset())


def with_ratios(group):
    density = PRIOR(group)
    precisions = density.mixture.precisions
    pyro.deterministic(f"{group.name}.ratios", precisions[1:] / precisions[0])
    pyro.deterministic(f"{group.name}.widest", precisions.min())
    return density


def test_what_a_prior_computes_is_there_in_every_draw():
    custom = sampled(Custom(with_ratios, starts=PRIOR.start))
    draws = laplace_hyperparameters(custom.target, draws=20)
    posterior = mixture_tree(custom, draws, prior_draws=5)["posterior"]
    spike, slabs = (
        draws.sites[f"all.{name}"].numpy() for name in ("spike_precision", "slab_precisions")
    )
    np.testing.assert_allclose(posterior["ratios"].values, slabs / spike[..., None])
    np.testing.assert_allclose(
        posterior["widest"].values, np.minimum(spike, slabs.min(-1)), rtol=1e-12
    )
