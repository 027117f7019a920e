"""One Gaussian is ridge; its file is a uniform grid."""

import numpy as np
import pytest
import torch
from every_prior import GROUP, WEIGHTS, density, traced
from problems import classifier
from scipy import stats

import pyro_sws as sws
from pyro_sws.inference.fit import complexity_cost
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import GaussianPrior


def test_its_cost_is_weight_decay():
    found = density(GaussianPrior(400.0), GROUP, {})
    constant = GROUP.size / 2 * np.log(2 * np.pi / 400.0)
    decay = 200.0 * WEIGHTS.square().sum().item()
    assert -found.log_prob(WEIGHTS).item() == pytest.approx(decay + constant, rel=1e-12)


def test_its_slope_is_exact():
    found = density(GaussianPrior(400.0), GROUP, {})
    torch.testing.assert_close(found.approximate_slopes(WEIGHTS), -400.0 * WEIGHTS)


def test_proportions_are_the_normal_mass_around_each_value():
    found = density(GaussianPrior(25.0, steps=3, reach=4.0), GROUP, {})
    part = GROUP.slices["a"]
    values = found.codebook(part).numpy() * found.scale(part)[0].item()
    np.testing.assert_allclose(values, 0.8 / 3 * np.arange(-3, 4), rtol=1e-12)
    normal, half = stats.norm(0, 0.2), 0.4 / 3
    inner = normal.cdf(values + half) - normal.cdf(values - half)
    inner[0], inner[-1] = normal.cdf(values[0] + half), normal.sf(values[-1] - half)
    np.testing.assert_allclose(found.proportions(part), inner, rtol=1e-9, atol=1e-15)


def test_a_weight_snaps_to_the_nearest_value_and_no_further_than_the_reach():
    found = density(GaussianPrior(100.0, steps=10, reach=5.0), GROUP, {})
    w = torch.tensor([-9.0, -0.5, -0.026, -0.024, 0.0, 0.024, 0.026, 0.074, 9.0]).double()
    book, index = found.codebook(slice(0, 1)), density_of(9).assign(w)
    np.testing.assert_allclose(
        book[index] * 0.05, [-0.5, -0.5, -0.05, 0.0, 0.0, 0.0, 0.05, 0.05, 0.5], atol=1e-15
    )


def density_of(size):
    group = sws.joint(torch.nn.Linear(size, 1, bias=False).double(), GaussianPrior(), "gaussian", 1)
    return density(GaussianPrior(100.0, steps=10, reach=5.0), group.groups["all"], {})


def test_a_learned_precision_starts_at_the_weights_own():
    prior = GaussianPrior(Gamma(3.0, 0.1))
    start = prior.start(GROUP, WEIGHTS)["all.precision"].item()
    assert start == pytest.approx(1 / np.mean(WEIGHTS.numpy() ** 2))
    assert prior.start(GROUP, 0 * WEIGHTS)["all.precision"].item() == 30.0


def test_a_learned_precision_is_most_probable_at_the_conjugate_posteriors_mode():
    prior = GaussianPrior(Gamma(3.0, 0.1))
    n, square = GROUP.size, WEIGHTS.square().sum().item()
    mode = (3.0 + n / 2 - 1) / (0.1 + square / 2)
    precision = torch.tensor(mode, dtype=torch.float64, requires_grad=True)
    trace = traced(prior, GROUP, {"all.precision": precision})
    value = trace.log_prob_sum() + trace.nodes["_RETURN"]["value"].log_prob(WEIGHTS)
    (slope,) = torch.autograd.grad(value, precision)
    assert abs(slope.item()) < 1e-12


def test_a_file_is_rounded_to_the_grid():
    net, inputs, targets = classifier()
    result = sws.compress(
        net,
        [(inputs, targets)],
        prior=GaussianPrior(4.0, steps=7),
        epochs=2,
        packing=sws.Packing(rewrite=False),
    )
    spacing = np.float32(np.float16(6.0 / 7 / 2))  # as a file has it
    fitted = result.posterior.weights
    for name, values in result.quantized.dequantize().items():
        steps = values / spacing
        np.testing.assert_array_equal(steps, steps.round())
        assert np.abs(values - fitted[name].numpy()).max() <= spacing * 0.5001
    cost = complexity_cost(
        joint(net, GaussianPrior(4.0), "categorical", 60), result.posterior.point
    )
    assert result.report.complexity_cost_nats == pytest.approx(cost, rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"precision": 0.0}, "precision must be positive, got 0.0"),
        ({"reach": -1.0}, "reach must be positive, got -1.0"),
        ({"steps": 0}, "steps must be in 1..2048, got 0"),
    ],
)
def test_what_cannot_be_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        GaussianPrior(**fields)
