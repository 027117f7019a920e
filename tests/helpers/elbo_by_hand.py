"""-ELBO of EVERY_HYPERPRIOR on problems.classifier, written out with torch's own distributions."""

import math
from operator import attrgetter

import torch
from problems import EVERY_HYPERPRIOR, classifier
from pyro import poutine
from torch import distributions as td
from torch.distributions import biject_to, constraints

from pyro_sws.inference.joint import joint

TAU, DATA_SIZE, BATCH = 0.3, 60, 20
SUPPORTS = {
    "all.means": constraints.real_vector,
    "all.slab_precisions": constraints.positive,
    "all.slab_shares": constraints.simplex,
    "all.zero_proportion": constraints.unit_interval,
    "all.spike_precision": constraints.positive,
    "all.weights": constraints.real_vector,
}
SCALARS = ("all.zero_proportion", "all.spike_precision")


def problem():
    net, inputs, targets = classifier()
    model = joint(net, EVERY_HYPERPRIOR, "categorical", DATA_SIZE, tau=TAU, dtype=torch.float64)
    return model, (inputs[:BATCH].double(), targets[:BATCH])


def log_joint(point, inputs, targets):
    """log p(targets | w) + tau log p(w, hyperparameters), in nats; the batch stands for all."""
    w = point["all.weights"]
    w1, b1, w2, b2 = w.split([32, 8, 24, 3])
    logits = torch.tanh(inputs @ w1.view(8, 4).T + b1) @ w2.view(3, 8).T + b2
    error = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    zero, spike = point["all.zero_proportion"], point["all.spike_precision"]
    slabs, shares = point["all.slab_precisions"], point["all.slab_shares"]
    mixture = td.MixtureSameFamily(
        td.Categorical(torch.cat([zero.view(1), (1 - zero) * shares])),
        td.Normal(
            torch.cat([torch.zeros(1, dtype=w.dtype), point["all.means"]]),
            torch.cat([spike.view(1), slabs]).rsqrt(),
        ),
    )
    complexity = -(
        mixture.log_prob(w).sum()
        + td.Gamma(*_numbers(50.0, 0.5)).log_prob(spike)
        + td.Gamma(*_numbers(8.0, 0.3)).log_prob(slabs).sum()
        + td.Beta(*_numbers(20.0, 5.0)).log_prob(zero)
        + td.Dirichlet(torch.full((2,), 2.0, dtype=w.dtype)).log_prob(shares)
    )  # the means are free: they cost nothing
    return -DATA_SIZE / BATCH * error - TAU * complexity


def _numbers(*values):
    return torch.tensor(values, dtype=torch.float64).unbind()


class Recorded:
    """A guide that keeps what it draws, particle by particle."""

    def __init__(self, guide):
        self.guide, self.draws = guide, []

    def __call__(self, *args):
        trace = poutine.trace(self.guide).get_trace(*args)
        sites = {name: site["value"].detach() for name, site in trace.iter_stochastic_nodes()}
        particles = sites["all.weights"].numel() // 67
        each = {}
        for name, value in sites.items():
            one = () if name in SCALARS else value.shape[-1:]
            around = (particles, 1) if particles > 1 else ()
            each[name] = value.expand(around + one).reshape(particles, *one)
        self.draws += [{name: v[i] for name, v in each.items()} for i in range(particles)]
        return trace.nodes["_RETURN"]["value"]


def log_weight(guide, draw, batch):
    """log p - tau log q at a draw, as a function of the guide's parameters: the noise is fixed."""
    point, log_q = {}, torch.zeros((), dtype=torch.float64)
    for site, support in SUPPORTS.items():
        if not hasattr(guide, "widths") or guide.weights == "delta" and site == "all.weights":
            owner = guide.locations if hasattr(guide, "locations") else guide
            point[site] = attrgetter(site)(owner)
            continue
        location, widths = attrgetter(site)(guide.locations), attrgetter(site)(guide.widths)
        transform = biject_to(support)
        u = transform.inv(draw[site])
        if hasattr(widths, "factor"):
            factor = widths.deviation[:, None] * widths.factor
            covariance = factor @ factor.T + widths.deviation.square().diag()
            noise, own = draw["noise"]
            moved = location + factor @ noise + widths.deviation * own
            torch.testing.assert_close(moved.detach(), u)
            log_q = log_q + td.MultivariateNormal(location, covariance).log_prob(moved)
        else:
            noise = ((u - location) / widths.deviation).detach()
            moved = location + widths.deviation * noise
            log_q = log_q - (0.5 * noise.square() + widths.deviation.log()).sum()
            log_q = log_q - 0.5 * math.log(2 * math.pi) * noise.numel()
        point[site] = transform(moved)
        if site != "all.weights":
            log_q = log_q - transform.log_abs_det_jacobian(moved, point[site]).sum()
    return log_joint(point, *batch) - TAU * log_q


def renyi(log_weights, alpha):
    """Li & Turner 2016, eq. 7 of log weights (P,)."""
    scaled = (1 - alpha) * log_weights
    return (scaled.logsumexp(0) - math.log(len(log_weights))) / (1 - alpha)
