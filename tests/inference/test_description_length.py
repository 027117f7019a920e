"""The central claim: under a delta guide -ELBO is error cost + tau x complexity cost, in nats.

The right-hand side is written with numpy and scipy alone.
"""

import numpy as np
import pyro
import pytest
import torch
from problems import EVERY_HYPERPRIOR, ONE_GROUP, TWO_GROUPS, classifier
from pyro.infer import SVI, Trace_ELBO
from scipy import stats
from written_out import error_cost, written

from pyro_sws.inference.fit import complexity_cost, fit, read_posterior
from pyro_sws.inference.fitting import Fitting, Rates
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Gaussian

N = 60


CASES = {"one group": ONE_GROUP, "every hyperprior": EVERY_HYPERPRIOR, "two groups": TWO_GROUPS}


def complexity_of(model, point):
    """-log p(weights, hyperparameters), written out, over the groups."""
    return sum(
        written(model.priors[name], point, group).complexity(numpy(point[f"{name}.weights"]))
        for name, group in model.groups.items()
    )


def numpy(value):
    return value.double().numpy()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau", [1.0, 0.005])
@pytest.mark.parametrize("batch", [N, 20])
def test_negative_elbo_is_the_description_length(case, tau, batch):
    net, inputs, targets = classifier()
    model = joint(net, CASES[case], "categorical", N, tau=tau)
    # A fitted point, so that nothing is special about it.
    guide = delta_guide(model)
    fit(model, guide, [(inputs, targets)], epochs=5)
    with pyro_step():
        loss = Trace_ELBO().loss(model, guide, inputs[:batch], targets[:batch])

    point = guide.median()
    flat = np.concatenate([numpy(point[f"{group}.weights"]) for group in model.groups])
    error = N / batch * error_cost(flat, numpy(inputs[:batch]), targets[:batch].numpy())
    complexity = complexity_of(model, point)
    tolerance = 1e-5 * (abs(error) + tau * abs(complexity))
    assert loss == pytest.approx(error + tau * complexity, abs=tolerance)
    assert complexity_cost(model, guide.median()) == pytest.approx(complexity, rel=1e-5)


def test_minibatches_average_to_the_full_batch():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", N)
    guide = delta_guide(model)
    with pyro_step():
        parts = zip(inputs.split(20), targets.split(20), strict=True)
        losses = [Trace_ELBO().loss(model, guide, x, y) for x, y in parts]
        assert np.mean(losses) == pytest.approx(
            Trace_ELBO().loss(model, guide, inputs, targets), rel=1e-5
        )


def test_plain_svi_takes_the_same_steps():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", N, tau=0.1)
    ours = fit(
        model,
        delta_guide(model),
        [(inputs, targets)],
        settings=Fitting(epochs=8, schedule="constant"),
    )
    with pyro.get_param_store().scope():
        adam = pyro.optim.Adam(lambda name: {"lr": Rates().of(name)})  # the same rates, Pyro's way
        svi = SVI(model, delta_guide(model), adam, Trace_ELBO())
        losses = [svi.step(inputs, targets) for _ in range(8)]
    found = [row["negative_elbo_nats"] for row in ours.history]
    assert losses == pytest.approx(found, rel=1e-6)


def test_history_adds_up():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", N, tau=0.1)
    # No movement: the epoch's mean and its end are one point.
    still = dict.fromkeys(("weights", "means", "precisions", "proportions", "other"), 0.0)
    fitted = fit(
        model,
        delta_guide(model),
        [(inputs, targets)],
        settings=Fitting(epochs=1, rates=Rates(**still)),
    )
    (row,) = fitted.history
    total = row["error_cost_nats"] + 0.1 * row["complexity_cost_nats"]
    assert row["negative_elbo_nats"] == pytest.approx(total, rel=1e-5)


def test_a_learned_noise_is_part_of_the_complexity_cost():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 2, generator=generator)
    net = torch.nn.Linear(2, 1)
    y = net(x).detach() + 0.1 * torch.randn(30, 1, generator=generator)
    tau = 0.5
    model = joint(net, ONE_GROUP, Gaussian(Gamma(3.0, 0.1)), 30, tau=tau)
    guide = delta_guide(model, {"noise_precision": torch.tensor(20.0)})
    with pyro_step():
        loss = Trace_ELBO().loss(model, guide, x, y)
    w, b = numpy(guide.median()["all.weights"])[:2], numpy(guide.median()["all.weights"])[2]
    residual = numpy(y).ravel() - numpy(x) @ w - b
    error = -stats.norm.logpdf(residual, scale=20.0**-0.5).sum()
    complexity = complexity_of(model, guide.median()) - stats.gamma.logpdf(20.0, 3.0, scale=10.0)
    assert loss == pytest.approx(error + tau * complexity, rel=1e-5)
    assert complexity_cost(model, guide.median()) == pytest.approx(complexity, rel=1e-5)
    assert read_posterior(model, guide).point["noise_precision"].item() == pytest.approx(20.0)
