"""The network's tree: densities are scipy's and softmax's, draws of targets those that they say."""

import warnings
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from problems import classifier
from scipy import stats
from torch import nn

import pyro_sws as sws
from pyro_sws.assess.draws import network_tree as module
from pyro_sws.assess.draws.inference_data import arviz, as_arviz, before_1, load_netcdf, save_netcdf
from pyro_sws.assess.draws.network_tree import network_tree
from pyro_sws.assess.draws.psis import loo
from pyro_sws.assess.draws.summary import summary
from pyro_sws.assess.point.predictive import draw_assignments
from pyro_sws.inference.fit import posterior_at
from pyro_sws.inference.guides import normal_guide
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Gaussian
from pyro_sws.inference.priors import GaussianPrior, SpikeAndSlabs
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.weights.quantize import quantize

SEVERAL = SpikeAndSlabs(slabs=4, zero_proportion=0.3, start_deviation=0.1)
NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]
DRAWS = 500  # errors are bounded by what so many leave
NOISE, DEVIATION = 0.5, 2.0  # of the regression's targets, and of its weights under the prior
RNG = np.random.default_rng(0)
X = np.column_stack([RNG.normal(size=(12, 2)), np.ones(12)])  # the last column is the bias's
Y = X @ [1.0, -0.5, 0.3] + RNG.normal(0, NOISE, 12)


@pytest.fixture(scope="module")
def pointed():
    net, inputs, targets = classifier()
    train = sws.Batches(inputs, targets, 20)
    result = sws.compress(
        net, train, prior=SEVERAL, tau=0.1, epochs=3, packing=sws.Packing(rewrite=False)
    )
    model = joint(net, SEVERAL, "categorical", 60, tau=0.1)
    return model, result.posterior, result.packed, [(inputs, targets)]


@pytest.fixture(scope="module")
def of_point(pointed):
    return network_tree(*pointed, guide="delta", draws=3, prior_draws=2)


def linear(likelihood=None, prior=None, outputs=1):
    """A linear network in doubles, at its start, and the regression's data."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Linear(2, outputs).double()
    prior = prior or GaussianPrior(DEVIATION**-2)
    model = joint(net, prior, likelihood or Gaussian(NOISE**-2), 12)
    targets = torch.from_numpy(Y)[:, None].repeat(1, outputs)
    return model, posterior_at(model, model.start()), [(torch.from_numpy(X[:, :2]), targets)]


def with_draws(posterior, weights):
    """(S, weights)."""
    return replace(posterior, draws={"all.weights": torch.as_tensor(weights)})


def tree_of(model, fitted, data, guide="normal", **settings):
    return network_tree(model, fitted, fitted, data, guide=guide, prior_draws=0, **settings)


def close_to(distribution, draws):
    """Whether the empirical distribution is as near as it is in 999 of 1000 cases (Kolmogorov)."""
    return stats.kstest(np.ravel(draws), distribution.cdf).pvalue > 1e-3


def test_draws_of_a_point_are_of_its_assignments_and_have_softmaxs_likelihood(pointed, of_point):
    _, fitted, merged, data = pointed
    assert of_point.attrs == {"inference_method": "delta", "tau": 0.1, "data": "test"}
    for s, network in enumerate(draw_assignments(merged, 3)):
        net, (inputs, targets) = classifier()[0], data[0]
        net.load_state_dict(network)
        with torch.no_grad():
            logs = net(inputs).double().log_softmax(1)[torch.arange(60), targets].numpy()
        np.testing.assert_allclose(of_point["log_likelihood"]["targets"][0, s], logs, atol=1e-5)
        cost = of_point["sample_stats"]["error_cost_nats"].values[0, s]
        assert cost == pytest.approx(-logs.sum(), rel=1e-6)
        at = of_point["posterior"].sel(draw=s, chain=0)
        for name, values in network.items():
            np.testing.assert_array_equal(at[name], values.numpy())
            assert at["nonzero"].sel(tensor=name) == np.count_nonzero(values.numpy())
            size = np.sqrt(np.mean(values.numpy() ** 2))
            assert at["size"].sel(tensor=name) == pytest.approx(size, rel=1e-5)
    np.testing.assert_array_equal(of_point["observed_data"]["targets"], data[0][1])
    assert of_point["log_likelihood"]["targets"].dims == ("chain", "draw", "example")


def test_the_constants_are_the_networks(of_point):
    constants = of_point["constant_data"]
    assert constants["tensor"].values.tolist() == NAMES
    assert constants["count"].values.tolist() == [32, 8, 24, 3]
    assert constants["training_examples"] == 60


def test_no_draws_are_the_network_as_it_is_snapped(pointed):
    model, fitted, merged, data = pointed
    tree = network_tree(model, fitted, merged, data, guide="delta", draws=0, prior_draws=0)
    assert tree["posterior"].sizes["draw"] == 1 and "prior" not in tree.children
    for name, values in quantize(merged).dequantize().items():
        np.testing.assert_array_equal(tree["posterior"][name].values[0, 0], values)


def test_a_points_draws_are_no_posterior_to_summarise(of_point):
    with pytest.raises(ValueError, match="a point has no spread"):
        summary(of_point)
    with pytest.raises(ValueError, match="a point has no spread"):
        loo(of_point)


def test_fitted_draws_have_the_normals_densities():
    hyperprior = Gamma(3.0, 2.0)
    model, fitted, data = linear(prior=GaussianPrior(hyperprior))
    weights = RNG.normal(size=(4, 3))
    tree = tree_of(model, with_draws(fitted, weights), data)
    assert tree.attrs["inference_method"] == "normal" and tree["posterior"].sizes["draw"] == 4
    logs = stats.norm(weights @ X.T, NOISE).logpdf(Y)
    np.testing.assert_allclose(tree["log_likelihood"]["targets"][0], logs, rtol=1e-6)
    np.testing.assert_allclose(tree["sample_stats"]["error_cost_nats"][0], -logs.sum(1))
    precision = float(fitted.point["all.precision"])
    costs = -stats.norm(0, precision**-0.5).logpdf(weights).sum(1)
    costs -= stats.gamma(3, scale=1 / 2).logpdf(precision)
    np.testing.assert_allclose(tree["sample_stats"]["complexity_cost_nats"][0], costs)
    np.testing.assert_array_equal(tree["posterior"]["weight"][0, :, 0], weights[:, :2])
    sizes = np.column_stack([np.sqrt((weights[:, :2] ** 2).mean(1)), abs(weights[:, 2])])
    np.testing.assert_allclose(tree["posterior"]["size"][0], sizes)


def test_weights_count_as_nonzero_if_they_would_snap_to_another_value():
    model, fitted, data = linear()  # snaps to multiples of 6 / 15 deviations
    step = DEVIATION * 6 / 15
    draws = step * np.array([[0.4, -0.6, 0.4], [0.6, 1.0, 3.0]])
    tree = tree_of(model, with_draws(fitted, draws), data)
    assert tree["posterior"]["nonzero"].values.tolist() == [[[1, 0], [2, 1]]]


def test_what_has_no_draws_stays_at_the_point():
    prior = GaussianPrior(1.0)
    model, fitted, data = linear(prior=[Rule(prior, "bias", "b"), Rule(prior, "*", "w")])
    draws = {"w.weights": torch.ones(2, 2).double()}
    tree = tree_of(model, replace(fitted, draws=draws), data)
    assert (tree["posterior"]["weight"] == 1).all()
    assert (tree["posterior"]["bias"] == float(fitted.point["b.weights"])).all()
    assert tree["posterior"]["tensor"].values.tolist() == list(fitted.weights)


@pytest.mark.integration
def test_leaving_one_out_is_exact_on_the_data_of_a_conjugate_fit():
    def given(x, y):
        covariance = np.linalg.inv(x.T @ x / NOISE**2 + np.eye(3) / DEVIATION**2)
        return covariance @ x.T @ y / NOISE**2, covariance

    draws = np.random.default_rng(1).multivariate_normal(*given(X, Y), size=DRAWS)
    model, fitted, data = linear()
    tree = tree_of(model, with_draws(fitted, draws), data, what="training")
    found = loo(tree)
    inverse = np.exp(-tree["log_likelihood"]["targets"].values[0].astype(float))
    error = inverse.std(0) / inverse.mean(0) / DRAWS**0.5
    for i in range(12):
        mean, covariance = given(np.delete(X, i, 0), np.delete(Y, i))
        deviation = np.sqrt(X[i] @ covariance @ X[i] + NOISE**2)
        exact = stats.norm(X[i] @ mean, deviation).logpdf(Y[i])
        assert abs(found.elpd_each[i] - exact) < 5 * error[i]


def test_a_normal_guides_tree_is_arvizs_too():
    model, _, data = linear(prior=GaussianPrior(Gamma(3.0, 2.0)))
    fitted = sws.fit(model, normal_guide(model, weight_draws=60), data, epochs=30).posterior
    tree = tree_of(model, fitted, data)
    az, found = arviz(), loo(tree)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that with so few draws some k-hat are large
        theirs = az.loo(as_arviz(tree))
    elpd = theirs.elpd_loo if before_1(az) else theirs.elpd
    assert np.isfinite(elpd) and found.elpd == pytest.approx(elpd)
    assert set(summary(tree).index) >= {"weight[0, 0]", "bias[0]", "size[weight]", "nonzero[bias]"}


@pytest.mark.integration
def test_targets_are_drawn_anew_from_every_networks_probabilities(pointed):
    model, fitted, _, data = pointed
    same = with_draws(fitted, fitted.point["all.weights"].expand(DRAWS, -1))
    drawn = tree_of(model, same, data)["posterior_predictive"]["targets"].values[0]
    net, (inputs, _) = classifier()[0], data[0]
    net.load_state_dict(fitted.weights)
    with torch.no_grad():
        p = net(inputs).double().softmax(1).numpy()
    shares = (drawn[..., None] == np.arange(3)).mean(0)
    assert (abs(shares - p) < 5 * np.sqrt(p * (1 - p) / DRAWS)).all()
    # Independent from network to network, and from example to example: none repeats another.
    assert len(np.unique(drawn, axis=0)) == DRAWS
    assert len(np.unique(drawn, axis=1).T) == 60


def test_a_learned_noise_is_that_of_the_point():
    model, fitted, data = linear(Gaussian(Gamma(8.0, 2.0)))
    assert float(fitted.point["noise_precision"]) == 4
    weights = RNG.normal(size=(100, 3))
    tree = tree_of(model, with_draws(fitted, weights), data)
    logs = stats.norm(weights @ X.T, 0.5).logpdf(Y)
    np.testing.assert_allclose(tree["log_likelihood"]["targets"][0], logs, rtol=1e-6)
    drawn = tree["posterior_predictive"]["targets"].values[0]
    assert drawn.dtype == float and close_to(stats.norm(0, 0.5), drawn - weights @ X.T)


def prior_of(model, fitted, data, draws):
    settings = {"guide": "delta", "draws": 0, "prior_draws": draws}
    tree = network_tree(model, fitted, fitted, data, **settings)
    return tree["prior"], tree["prior_predictive"]["targets"].values[0]


def test_networks_of_the_prior_have_hyperparameters_of_the_hyperprior():
    model, fitted, data = linear(prior=GaussianPrior(Gamma(3.0, 2.0)))
    prior, drawn = prior_of(model, fitted, data, 300)
    student = stats.t(6, scale=np.sqrt(2 / 3))  # a Normal whose precision is Gamma(3, 2)
    assert close_to(student, prior["size"].sel(tensor="bias").values * RNG.choice([-1, 1], 300))
    at = np.abs(X[:, 0]).argmin()  # by both weights and the noise; nearly N(0, .) given each
    spread = np.hypot(NOISE, np.sqrt(2 / 3 * 6 / 4 * (X[at] ** 2).sum()))  # t's variance: 6 / 4
    squares = drawn[:, at] ** 2
    assert abs(squares.mean() - spread**2) < 5 * squares.std() / 300**0.5


def test_the_priors_noise_is_of_its_hyperprior_and_its_zeros_as_many_as_are_probable():
    model, fitted, data = linear(Gaussian(Gamma(3.0, 2.0)), GaussianPrior(1e12))
    prior, drawn = prior_of(model, fitted, data, 300)
    student = stats.t(6, scale=np.sqrt(2 / 3))
    assert all(close_to(student, drawn[:, i]) for i in range(12))
    # One noise a network: of its twelve targets the mean squares are far from alike.
    assert np.square(drawn).mean(1).std() > 0.5
    p = 2 * stats.norm.sf(0.2)  # values are 0.4 deviations apart
    shares = prior["nonzero"].values[0] / [2, 1]
    error = np.sqrt(p * (1 - p) / (300 * np.array([2, 1])))
    assert (abs(shares.mean(0) - p) < 5 * error).all()


def test_several_labels_an_example_count_as_so_many_examples():
    model, fitted, [(inputs, _)] = linear("bernoulli", outputs=2)
    labels = torch.from_numpy(RNG.integers(0, 2, (12, 2)).astype(float))
    weights = RNG.normal(size=(3, 6))
    tree = tree_of(model, with_draws(fitted, weights), [(inputs, labels)])
    w, b = weights[:, :4].reshape(3, 2, 2), weights[:, 4:]
    logits = np.einsum("sok,nk->sno", w, X[:, :2]) + b[:, None]
    logs = stats.bernoulli(1 / (1 + np.exp(-logits))).logpmf(labels.numpy()).reshape(3, 24)
    np.testing.assert_allclose(tree["log_likelihood"]["targets"][0], logs, rtol=1e-5)
    np.testing.assert_array_equal(tree["observed_data"]["targets"], labels.reshape(-1))
    assert set(np.unique(tree["posterior_predictive"]["targets"])) == {0, 1}


def test_labels_that_are_ignored_are_not_observed(pointed, of_point):
    model, fitted, merged, [(inputs, targets)] = pointed
    labels = targets.clone()
    labels[::3] = -100
    ignoring = replace(model, likelihood=sws.Categorical(ignore_index=-100))
    settings = {"guide": "delta", "draws": 3, "prior_draws": 2}
    tree = network_tree(ignoring, fitted, merged, [(inputs, labels)], **settings)
    kept = (labels != -100).numpy()
    assert tree["observed_data"]["targets"].values.tolist() == targets.numpy()[kept].tolist()
    found, of_all = (t["log_likelihood"]["targets"].values for t in (tree, of_point))
    np.testing.assert_allclose(found, of_all[..., kept], rtol=1e-6)


def test_costs_of_a_float32_network_are_added_up_in_doubles():
    model = joint(nn.Linear(2, 1), GaussianPrior(1.0), "bernoulli", 12)
    fitted = posterior_at(model, model.start())
    inputs, labels = torch.from_numpy(X[:, :2]).float(), torch.ones(12, 1)
    tree = tree_of(model, fitted, [(inputs, labels)], "delta", draws=0)
    weights = {name: tree["posterior"][name].values[0, 0] for name in fitted.weights}
    logits = model.outputs({n: torch.from_numpy(w) for n, w in weights.items()}, inputs)
    cost = np.logaddexp(0, -logits.double().numpy()).sum()
    found = tree["sample_stats"]["error_cost_nats"].item()
    assert found == pytest.approx(cost, rel=1e-12)


def test_counts_too_large_for_a_draw_are_their_rate():
    model, fitted, [(inputs, _)] = linear("poisson")
    weights = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 60.0]])
    data = [(inputs, torch.ones(12, 1).double())]
    tree = tree_of(model, with_draws(fitted, weights), data)
    np.testing.assert_allclose(tree["log_likelihood"]["targets"][0, 0], 1 - np.e, rtol=1e-6)
    small, large = tree["posterior_predictive"]["targets"].values[0]
    assert (small == small.round()).all() and small.max() < 20
    np.testing.assert_allclose(large, np.exp(60))


@dataclass(frozen=True)
class Together(Gaussian):
    """Two numbers an example that covary: one event, which does not come apart."""

    COVARIANCE: ClassVar = np.array([[1.0, 0.8], [0.8, 1.0]])

    def __call__(self, outputs):
        covariance = torch.from_numpy(self.COVARIANCE)
        return dist.MultivariateNormal(outputs, covariance)


def test_targets_that_are_vectors_stay_whole():
    model, fitted, [(inputs, targets)] = linear(Together(), outputs=2)
    tree = tree_of(model, with_draws(fitted, np.zeros((2, 6))), [(inputs, targets)])
    logs = stats.multivariate_normal([0, 0], Together.COVARIANCE).logpdf(targets.numpy())
    np.testing.assert_allclose(tree["log_likelihood"]["targets"][0, 1], logs, rtol=1e-6)
    assert tree["posterior_predictive"]["targets"].shape == (1, 2, 12, 2)
    assert tree["observed_data"]["targets"].shape == (12, 2)


def test_values_of_many_weights_and_under_names_that_are_taken_are_left_out(monkeypatch, pointed):
    monkeypatch.setattr(module, "MOST_VALUES", 3 * 67 - 1)
    settings = {"guide": "delta", "prior_draws": 0}
    tree = network_tree(*pointed, draws=3, **settings)
    assert set(tree["posterior"].data_vars) == {"nonzero", "size"}
    tree = network_tree(*pointed, draws=2, **settings)
    assert set(tree["posterior"].data_vars) == {"nonzero", "size", *NAMES}

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.size = nn.Parameter(torch.ones(2, 1))
            self.draw = nn.Parameter(torch.ones(1))
            self.more = nn.ParameterDict({"a/b": torch.zeros(1), "c": torch.zeros(1)})

        def forward(self, inputs):
            return inputs @ self.size + self.draw + self.more["a/b"] + self.more["c"]

    model = joint(Odd(), GaussianPrior(1.0), "gaussian", 12)
    data = [(torch.zeros(12, 2), torch.zeros(12, 1))]
    tree = tree_of(model, posterior_at(model, model.start()), data, "delta")
    assert set(tree["posterior"].data_vars) == {"nonzero", "size", "more.c"}
    assert tree["posterior"]["tensor"].values.tolist() == ["size", "draw", "more.a/b", "more.c"]


def test_the_seed_decides_and_nothing_is_taken_from_the_callers_generator(pointed):
    state = torch.get_rng_state()
    shuffled = sws.Batches(*pointed[3][0], 20)

    def of(seed, prior_draws=2):
        settings = {"guide": "delta", "draws": 2, "prior_draws": prior_draws, "seed": seed}
        return network_tree(*pointed[:3], shuffled, **settings)

    one, other, longer = of(0), of(1), of(0, 3)
    xr.testing.assert_identical(one, of(0))
    torch.testing.assert_close(torch.get_rng_state(), state)
    for group in ("posterior", "posterior_predictive", "prior", "prior_predictive"):
        assert not one[group].to_dataset().equals(other[group].to_dataset())
    for group in ("posterior", "posterior_predictive", "log_likelihood", "observed_data"):
        xr.testing.assert_identical(one[group].to_dataset(), longer[group].to_dataset())


def test_a_tree_goes_to_a_file_and_back_and_to_arviz(tmp_path, of_point):
    save_netcdf(of_point, tmp_path / "network.nc")
    xr.testing.assert_identical(load_netcdf(tmp_path / "network.nc"), of_point)
    data = as_arviz(of_point)
    for group in of_point.children:
        assert set(data[group].data_vars) == set(of_point[group].data_vars)


def test_what_cannot_be_is_refused(pointed):
    model, fitted, merged, data = pointed
    for wrong in ({"draws": -1}, {"prior_draws": 1.5}):
        with pytest.raises(ValueError, match="a whole number >= 0, got"):
            network_tree(*pointed, guide="delta", **wrong)
    with pytest.raises(ValueError, match="a delta guide has none"):
        tree_of(model, with_draws(fitted, torch.zeros(2, 67)), data, "delta")
    with pytest.raises(ValueError, match="unknown codebook_dtype"):
        network_tree(*pointed, guide="delta", codebook_dtype="int8")
    with pytest.raises(ValueError, match="validation has no batches"):
        network_tree(model, fitted, merged, [], guide="delta", what="validation")

    class Turning(list):
        turns = 0

        def __iter__(self):
            self.turns += 1
            return iter([(x.roll(self.turns, 0), y.roll(self.turns)) for x, y in data])

    with pytest.raises(ValueError, match="another order every time"):
        network_tree(model, fitted, merged, Turning(), guide="delta")
