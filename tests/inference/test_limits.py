"""Limits in which the method becomes something known."""

import math

import numpy as np
import pytest
import torch
from problems import ONE_GROUP, classifier
from torch import nn

from pyro_sws.inference.fit import fit
from pyro_sws.inference.fitting import Fitting, Rates
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Gaussian
from pyro_sws.inference.priors import SpikeAndSlabs


def one_gaussian(precision):
    """No spike, one slab of mean 0 and the given precision: the prior of ridge regression."""
    return SpikeAndSlabs(
        slabs=1,
        zero_proportion=0.0,
        slab_precision=precision,
        initialization=(0.0,),
        start_deviation=0.5,
    )


def fixed_means(**rates):
    return Rates(**{"weights": 0.1, "means": 0.0, **rates})


@pytest.mark.integration
@pytest.mark.parametrize("precision", [4.0, Gamma(1e10, 1e10 / 4.0)])
@pytest.mark.parametrize("tau", [1.0, 0.1])
def test_one_pinned_slab_without_spike_is_ridge(precision, tau):
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(40, 3)), 0.5
    y = x @ [1.0, -2.0, 0.5] + noise * rng.normal(size=40)
    ridge = np.linalg.solve(x.T @ x + tau * 4.0 * noise**2 * np.eye(3), x.T @ y)

    net = nn.Linear(3, 1, bias=False, dtype=torch.float64)
    batch = (torch.tensor(x), torch.tensor(y).unsqueeze(1))
    model = joint(net, one_gaussian(precision), Gaussian(noise**-2), 40, tau=tau)
    fitted = fit(
        model, delta_guide(model), [batch], settings=Fitting(epochs=400, rates=fixed_means())
    )
    found = fitted.posterior.weights["weight"].numpy().ravel()
    np.testing.assert_allclose(found, ridge, rtol=1e-4)


def test_vanishing_tau_is_plain_training_on_the_same_batches():
    net, inputs, targets = classifier()
    batches = list(zip(inputs.split(20), targets.split(20), strict=True))
    model = joint(net, ONE_GROUP, "categorical", 60, tau=1e-12)
    rates = Rates(weights=0.01)
    fitted = fit(
        model,
        delta_guide(model),
        batches,
        settings=Fitting(epochs=10, rates=rates, schedule="constant"),
    )

    plain = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(10):
        for x, y in batches:
            plain.zero_grad()
            # Sums over the whole data, as in the ELBO; Adam's epsilon is then as small a part.
            (3 * nn.functional.cross_entropy(net(x), y, reduction="sum")).backward()
            plain.step()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(
            fitted.posterior.weights[name], parameter.detach(), rtol=1e-4, atol=1e-5
        )


@pytest.mark.integration
def test_a_gamma_of_large_shape_pins_its_precision():
    net, inputs, targets = classifier()
    pinned = SpikeAndSlabs(slabs=2, slab_precision=Gamma(1e7, 1e5), start_deviation=0.12)
    model = joint(net, pinned, "categorical", 60)
    rates = Rates(precisions=0.02)
    fitted = fit(
        model, delta_guide(model), [(inputs, targets)], settings=Fitting(epochs=100, rates=rates)
    )
    precisions = fitted.posterior.point["all.slab_precisions"]
    # Its mode is (shape - 1) / rate = 100, and its deviation there 100 / sqrt(shape).
    torch.testing.assert_close(precisions, torch.full((2,), 100.0), rtol=5e-3, atol=0)


@pytest.mark.integration
def test_a_lone_gaussians_precision_is_the_gammas_conjugate_mode():
    # Fixed weights of known spread: the MAP precision is (n / 2 + a - 1) / (sum w^2 / 2 + b).
    net = nn.Linear(50, 1, bias=False, dtype=torch.float64)
    w = net.weight.detach().flatten()
    a, b = 5.0, 0.3
    model = joint(net, one_gaussian(Gamma(a, b)), Gaussian(1.0), 4)
    batch = (torch.zeros(4, 50, dtype=torch.float64), torch.zeros(4, 1, dtype=torch.float64))
    rates = fixed_means(weights=0.0, precisions=0.05)
    fitted = fit(model, delta_guide(model), [batch], settings=Fitting(epochs=300, rates=rates))
    expected = (len(w) / 2 + a - 1) / (float(w.square().sum()) / 2 + b)
    found = float(fitted.posterior.point["all.slab_precisions"])
    assert math.log(found) == pytest.approx(math.log(expected), abs=1e-4)
