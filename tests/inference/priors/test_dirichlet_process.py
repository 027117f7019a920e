"""Sticks and their concentration, against numpy, scipy, and a process without truncation."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from every_prior import density, somewhere, traced
from scipy import optimize, stats

from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.priors import DirichletProcess
from pyro_sws.inference.priors.dirichlet_process import broken
from pyro_sws.weights.group import Group

GROUP = Group("all", {"w": (60,)}, torch.float64)
WEIGHTS = torch.linspace(-0.5, 0.5, 60, dtype=torch.float64)


def test_shares_are_the_pieces_of_a_broken_stick():
    hazards = np.random.default_rng(0).exponential(2.0, size=9)
    v = 1 - np.exp(-hazards)
    left = np.append(1.0, np.cumprod(1 - v))
    expected = np.append(v * left[:-1], left[-1])
    found = broken(torch.tensor(hazards))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.sum().item() == pytest.approx(1, abs=1e-15)


def test_tiny_and_huge_hazards_keep_their_shares():
    hazards = torch.tensor([1e-20, 1.0, 1e4], dtype=torch.float64)
    found = broken(hazards)
    assert found[0].item() == pytest.approx(1e-20) and found[-1] == 0
    assert found[1].item() == pytest.approx(1 - np.exp(-1))


def test_a_log_hazard_has_the_density_of_its_stick():
    # v = 1 - exp(-h) is Beta(1, concentration); y = log h: dv / dy = exp(-h) h.
    prior = DirichletProcess(6)
    point = somewhere(prior, GROUP, WEIGHTS)
    trace = traced(prior, GROUP, point)
    trace.compute_log_prob()
    h = point["all.log_hazards"].exp().numpy()
    concentration = point["all.log_concentration"].exp().item()
    found = trace.nodes["all.log_hazards"]["log_prob"].item()
    sticks = stats.beta.logpdf(1 - np.exp(-h), 1, concentration) - h + np.log(h)
    assert found == pytest.approx(sticks.sum(), rel=1e-10)


def maximum(prior, counts):
    """log concentration and hazards where counts and hyperprior together are most probable."""
    start = prior.start(GROUP, WEIGHTS)
    size = prior.truncation

    def cost(x):
        x = torch.tensor(x, requires_grad=True)
        own = {"all.log_concentration": x[0], "all.log_hazards": x[1:]}
        trace = traced(prior, GROUP, {**start, **own})
        trace.compute_log_prob()
        value = sum(trace.nodes[site]["log_prob"] for site in own)
        shares = trace.nodes["_RETURN"]["value"].mixture.proportions[1:] / 0.001
        value = value + (counts * shares[: len(counts)].log()).sum()
        (gradient,) = torch.autograd.grad(value, x)
        return -value.item(), -gradient.numpy()

    options = {"maxiter": 5000, "ftol": 1e-16, "gtol": 1e-8, "maxcor": 50}
    found = optimize.minimize(cost, np.zeros(size), jac=True, method="L-BFGS-B", options=options)
    return np.exp(found.x[0]), np.exp(found.x[1:])


@pytest.mark.parametrize("hyperprior", [Gamma(1.0, 1.0), Gamma(3.0, 0.5)])
def test_the_truncation_does_not_move_the_point_estimate(hyperprior):
    counts = torch.tensor([40.0, 25.0, 10.0], dtype=torch.float64)
    prior = DirichletProcess(concentration=hyperprior)
    found = {t: maximum(replace(prior, truncation=t), counts) for t in (5, 20, 80)}
    for concentration, hazards in found.values():
        used = hazards[:3]
        expected = (hyperprior.shape + 3) / (hyperprior.rate + used.sum())
        assert concentration == pytest.approx(expected, rel=1e-5)
        assert concentration == pytest.approx(found[5][0], rel=1e-5)
        np.testing.assert_allclose(hazards[3:], 1 / concentration, rtol=1e-4)
        np.testing.assert_allclose(used, found[5][1][:3], rtol=1e-4)


def test_slabs_start_with_equal_shares():
    prior = DirichletProcess(7)
    found = density(prior, GROUP, prior.start(GROUP, WEIGHTS)).mixture.proportions
    np.testing.assert_allclose(found, [0.999] + [0.001 / 7] * 7, rtol=1e-9)


def test_one_slab_has_no_stick():
    prior = DirichletProcess(1)
    start = prior.start(GROUP, WEIGHTS)
    assert start["all.log_hazards"].shape == (0,)
    torch.testing.assert_close(
        density(prior, GROUP, start).mixture.proportions, torch.tensor([0.999, 0.001]).double()
    )


def test_a_truncation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="truncation must be at least 1, got 0"):
        DirichletProcess(truncation=0)
