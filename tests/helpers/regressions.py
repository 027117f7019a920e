"""Linear regressions whose posterior is known in closed form."""

import numpy as np
import torch

import pyro_sws as sws

NOISE, PRECISION = 4.0, 2.0  # precisions of the noise, and of the prior


def regression(orthogonal=True, size=3, count=40):
    """x (count, size), y (count,)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, size))
    x = np.linalg.qr(x)[0] * np.linspace(6.0, 4.0, size) if orthogonal else x + rng.normal()
    return x, x @ np.linspace(1.0, -0.5, size) + rng.normal(size=count) / NOISE**0.5


def ridge(x, y, tau=1.0, prior=None, noise=NOISE):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = torch.nn.Linear(x.shape[1], 1, bias=False, dtype=torch.float64)
    prior = prior or sws.GaussianPrior(PRECISION)
    model = sws.joint(net, prior, sws.Gaussian(noise), len(x), tau=tau)
    return model, (torch.tensor(x), torch.tensor(y).unsqueeze(1))


def exact(x, y, tau):
    """Mean and covariance of p(w | D), of which tau = 1; else of p(D | w)^(1 / tau) p(w)."""
    precision = x.T @ x * NOISE / tau + PRECISION * np.eye(x.shape[1])
    return np.linalg.solve(precision, x.T @ y * NOISE / tau), np.linalg.inv(precision)
