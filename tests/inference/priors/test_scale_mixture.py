"""A spike of several widths against the heavy-tailed densities that it stands for."""

import numpy as np
import pytest
import torch
from every_prior import GROUP, WEIGHTS, density, somewhere
from scipy import integrate, stats

import pyro_sws as sws
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import ScaleMixture
from pyro_sws.weights.mixture import Mixture


def spike(spec, w, s=1.0):
    """The density of the spike's nodes at w, for a spike precision of s."""
    variances, masses = spec.quadrature()
    components = Mixture(*map(torch.from_numpy, (0 * masses, s / variances, masses)))
    return components.log_prob(torch.from_numpy(w)).exp().numpy()


def laplace(w):
    """exp(-|w| sqrt s) sqrt s / 2 at s = 1."""
    return stats.laplace.pdf(w)


def student(w):
    return stats.t(4).pdf(w)


# Between the cusp (or, of the horseshoe, the floor) and where the nodes end.
MIDDLE = np.geomspace(0.05, 3, 200)
TAIL = np.geomspace(3, 6, 50)


@pytest.mark.parametrize(
    "tail, exact, middle, far",
    [("laplace", laplace, 0.025, 0.25), ("student_t", student, 0.005, 0.03)],
)
def test_eight_nodes_are_close_to_the_density(tail, exact, middle, far):
    spec = ScaleMixture(tail)
    np.testing.assert_allclose(spike(spec, MIDDLE), exact(MIDDLE), rtol=middle)
    np.testing.assert_allclose(spike(spec, TAIL), exact(TAIL), rtol=far)


def test_sixteen_nodes_are_laplace_to_a_thousandth():
    w = np.geomspace(0.3, 6, 200)
    np.testing.assert_allclose(spike(ScaleMixture(nodes=16), w), laplace(w), rtol=1e-3)


@pytest.mark.parametrize("tail, degrees", [("laplace", 4.0), ("student_t", 3.0)])
def test_many_nodes_are_the_integral_between_their_ends(tail, degrees):
    # All variances but those in the outer thousandths on either side.
    density = stats.expon(scale=2) if tail == "laplace" else stats.invgamma(1.5, scale=1.5)
    low, high = density.ppf([1e-3, 1 - 1e-3])
    logs = np.linspace(np.log(low), np.log(high), 20_001)
    v = np.exp(logs)
    w = np.geomspace(0.3, 6, 20)
    values = stats.norm.pdf(w[:, None], 0, np.sqrt(v)) * density.pdf(v) * v
    expected = integrate.simpson(values, x=logs) / (1 - 2e-3)
    errors = [
        np.abs(spike(ScaleMixture(tail, degrees, nodes=n), w) / expected - 1).max()
        for n in (32, 128, 512, 2048)
    ]
    # Rectangles at the ends: the error goes as 1 / nodes.
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-3
    assert errors[0] / errors[-1] > 16


def test_a_horseshoe_with_a_floor_is_close_to_its_integral():
    spec = ScaleMixture("horseshoe", floor=0.1, nodes=16)
    w = np.geomspace(0.3, 6, 10)
    logs = np.linspace(np.log(0.1), np.log(1e6), 40_001)
    widths = np.exp(logs)  # half-Cauchy above the floor
    values = stats.norm.pdf(w[:, None], 0, widths) * stats.halfcauchy.pdf(widths) * widths
    expected = integrate.simpson(values, x=logs) / stats.halfcauchy.sf(0.1)
    np.testing.assert_allclose(spike(spec, w), expected, rtol=0.01)


@pytest.mark.parametrize("tail", ["laplace", "student_t"])
def test_the_spike_precision_is_the_scale(tail):
    spec = ScaleMixture(tail)
    np.testing.assert_allclose(spike(spec, MIDDLE / 3, s=9.0), 3 * spike(spec, MIDDLE), rtol=1e-12)


def test_a_floor_is_the_least_deviation():
    for floor in (0.01, 0.1, 1.0):
        spec = ScaleMixture("horseshoe", floor=floor)
        assert spec.quadrature()[0].min() == pytest.approx(floor**2)


@pytest.mark.parametrize("tail, floor", [("laplace", 0.0), ("student_t", 0.0), ("horseshoe", 0.1)])
def test_components_at_zero_are_one_value(tail, floor):
    spec = ScaleMixture(tail, floor=floor, nodes=6, slabs=3, zero_proportion=0.7)
    found = density(spec, GROUP, somewhere(spec, GROUP, WEIGHTS))
    part = GROUP.slices["a"]
    assert len(found.mixture) == 9 and len(found.codebook(part)) == 4
    zero = found.codebook(part).tolist().index(0.0)
    assert found.proportions(part)[zero].item() == pytest.approx(0.7)
    assert set(found.assign(torch.zeros(5).double()).tolist()) == {zero}


def test_a_file_holds_zero_once():
    net = torch.nn.Linear(20, 3)
    model = joint(net, ScaleMixture(slabs=4), "categorical", 10)
    posterior = sws.Posterior(
        model.groups,
        model.start(),
        {"all": density(model.priors["all"], model.groups["all"], model.start())},
        {},
        1.0,
    )
    (book,) = sws.quantize(posterior).codebooks.values()
    assert (book == 0).sum() == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tail": "horseshoe"}, "floor must be positive for a horseshoe.*; 0.1 is a tenth of its"),
        ({"tail": "horseshoe", "floor": 100.0}, "floor must be below 63.* got 100"),
        ({"floor": -1.0}, "floor must be at least 0, got -1.0"),
        ({"degrees": 0.0}, "degrees must be positive, got 0.0"),
        ({"nodes": 1}, "nodes must be at least 2, got 1"),
        ({"zero_proportion": 0.0}, r"zero_proportion must be in \(0, 1\), got 0.0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        ScaleMixture(**fields)
