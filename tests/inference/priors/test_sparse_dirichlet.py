"""Shares from independent Gammas, against scipy's Dirichlet, and their one maximum."""

import numpy as np
import pytest
import torch
from every_prior import density, somewhere, traced
from scipy import optimize, stats
from scipy.special import softmax

from pyro_sws.inference.priors import SparseDirichlet
from pyro_sws.weights.group import Group

GROUP = Group("all", {"w": (60,)}, torch.float64)
WEIGHTS = torch.linspace(-0.5, 0.5, 60, dtype=torch.float64)


def log_density(prior, log_gammas):
    point = {**prior.start(GROUP, WEIGHTS), "all.log_gammas": log_gammas}
    trace = traced(prior, GROUP, point)
    trace.compute_log_prob()
    return trace.nodes["all.log_gammas"]["log_prob"]


@pytest.mark.parametrize("concentration", [0.5, 4.0, 30.0])
def test_shares_are_dirichlet_and_independent_of_the_sum(concentration):
    # With S = sum g and x = g / S: |d(x, S) / d log g| = S x_1 ... x_J.
    prior = SparseDirichlet(4, concentration)
    y = somewhere(prior, GROUP, WEIGHTS, distance=1.0)["all.log_gammas"]
    x, total = softmax(y.numpy()), np.exp(y.numpy()).sum()
    expected = stats.dirichlet.logpdf(x, [concentration / 4] * 4) + np.log(x).sum()
    expected += stats.gamma.logpdf(total, concentration) + np.log(total)
    assert log_density(prior, y).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("concentration", [0.1, 1.0, 20.0])
def test_without_weights_there_is_one_maximum(concentration):
    # With 8 slabs the first two have concentrations below 1 a slab: unbounded in the simplex.
    prior = SparseDirichlet(8, concentration)

    def cost(y):
        y = torch.tensor(y, requires_grad=True)
        value = log_density(prior, y)
        return -value.item(), -torch.autograd.grad(value, y)[0].numpy()

    for seed in range(3):
        start = np.random.default_rng(seed).normal(scale=3.0, size=8)
        found = optimize.minimize(cost, start, jac=True, options={"gtol": 1e-9})
        np.testing.assert_allclose(np.exp(found.x), concentration / 8, rtol=1e-5)


def test_slabs_start_with_equal_shares_at_that_maximum():
    prior = SparseDirichlet(5, 2.0)
    start = prior.start(GROUP, WEIGHTS)
    np.testing.assert_allclose(start["all.log_gammas"], np.log(2.0 / 5), rtol=1e-12)
    found = density(prior, GROUP, start).mixture.proportions
    np.testing.assert_allclose(found, [0.999] + [0.001 / 5] * 5, rtol=1e-9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"concentration": 0.0}, "concentration must be positive, got 0.0"),
        ({"slabs": 0}, "slabs must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        SparseDirichlet(**fields)
