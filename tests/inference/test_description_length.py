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
from scipy.special import log_softmax, logsumexp

from pyro_sws.inference.fit import Rates, complexity_cost, fit, read_posterior
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Gaussian
from pyro_sws.inference.steps import pyro_step

N = 60


def values(point):
    return {name: value.double().numpy() for name, value in point.items()}


def log_mixture(w, means, precisions, proportions):
    normals = stats.norm.logpdf(w[:, None], means, precisions**-0.5)
    return logsumexp(normals + np.log(proportions), axis=1).sum()


def log_gamma(x, shape, rate):
    return stats.gamma.logpdf(x, shape, scale=1 / rate).sum()


def log_weights(p, group, zero):
    """log p(weights | mixture) of a group whose zero proportion is ``zero``."""
    return log_mixture(
        p[f"{group}.weights"],
        np.append(0.0, p[f"{group}.means"]),
        np.append(p[f"{group}.spike_precision"], p[f"{group}.slab_precisions"]),
        np.append(zero, (1 - zero) * p[f"{group}.slab_shares"]),
    )


def log_simple(p, group):
    """ONE_GROUP's log-density: fixed zero proportion, two Gammas, free means and shares."""
    spike, slabs = p[f"{group}.spike_precision"], p[f"{group}.slab_precisions"]
    gammas = log_gamma(spike, 5000.0, 2.0) + log_gamma(slabs, 250.0, 0.1)
    return log_weights(p, group, 0.999) + gammas


def log_every(p, group):
    """EVERY_HYPERPRIOR's log-density."""
    zero, shares = p[f"{group}.zero_proportion"], p[f"{group}.slab_shares"]
    spike, slabs = p[f"{group}.spike_precision"], p[f"{group}.slab_precisions"]
    return (
        log_weights(p, group, zero)
        + log_gamma(spike, 50.0, 0.5)
        + log_gamma(slabs, 8.0, 0.3)
        + stats.beta.logpdf(zero, 20.0, 5.0)
        # scipy wants the shares to sum to 1 in double precision
        + stats.dirichlet.logpdf(shares / shares.sum(), [2.0, 2.0])
    )


def error_cost(weights, inputs, targets):
    """Cross-entropy in nats, summed, of the network written out."""
    w1, b1, w2, b2 = np.split(weights, [32, 40, 64])
    hidden = np.tanh(inputs @ w1.reshape(8, 4).T + b1)
    log_p = log_softmax(hidden @ w2.reshape(3, 8).T + b2, axis=1)
    return -log_p[np.arange(len(targets)), targets].sum()


CASES = {
    "one group": (ONE_GROUP, lambda p: log_simple(p, "all"), ["all"]),
    "every hyperprior": (EVERY_HYPERPRIOR, lambda p: log_every(p, "all"), ["all"]),
    "two groups": (
        TWO_GROUPS,
        lambda p: log_every(p, "first") + log_simple(p, "rest"),
        ["first", "rest"],
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tau", [1.0, 0.005])
@pytest.mark.parametrize("batch", [N, 20])
def test_negative_elbo_is_the_description_length(case, tau, batch):
    prior, log_prior, groups = CASES[case]
    net, inputs, targets = classifier()
    model = joint(net, prior, "categorical", N, tau=tau)
    # A fitted point, so that nothing is special about it.
    guide = delta_guide(model)
    fit(model, guide, [(inputs, targets)], epochs=5)
    with pyro_step():
        loss = Trace_ELBO().loss(model, guide, inputs[:batch], targets[:batch])

    p = values(guide.median())
    flat = np.concatenate([p[f"{g}.weights"] for g in groups])
    error = N / batch * error_cost(flat, inputs[:batch].double().numpy(), targets[:batch].numpy())
    complexity = -log_prior(p)
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
    ours = fit(model, delta_guide(model), [(inputs, targets)], epochs=8, schedule="constant")
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
    fitted = fit(model, delta_guide(model), [(inputs, targets)], epochs=1, rates=Rates(**still))
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
    p = values(guide.median())
    w, b = p["all.weights"][:2], p["all.weights"][2]
    residual = y.double().numpy().ravel() - x.double().numpy() @ w - b
    error = -stats.norm.logpdf(residual, scale=20.0**-0.5).sum()
    complexity = -log_simple(p, "all") - stats.gamma.logpdf(20.0, 3.0, scale=10.0)
    assert loss == pytest.approx(error + tau * complexity, rel=1e-5)
    assert complexity_cost(model, guide.median()) == pytest.approx(complexity, rel=1e-5)
    assert read_posterior(model, guide).point["noise_precision"].item() == pytest.approx(20.0)
