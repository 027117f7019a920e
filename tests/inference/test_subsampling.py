"""The prior on some of the weights: unbiased, exactly as often as said, and cheap to get wrong."""

from dataclasses import dataclass

import pytest
import torch
from every_prior import density, somewhere
from problems import EVERY_HYPERPRIOR, ONE_GROUP, TWO_GROUPS, classifier
from pyro import poutine

from pyro_sws.inference.density import Density
from pyro_sws.inference.distributed import Ranks
from pyro_sws.inference.fit import complexity_cost, fit
from pyro_sws.inference.guides import delta_guide
from pyro_sws.inference.hyperpriors import Beta, Gamma
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.priors import GaussianPrior, Grid, Scaled, SpikeAndSlabs, Structured
from pyro_sws.inference.subsampling import draw_subset
from pyro_sws.inference.weight_distribution import WeightDistribution
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior

CPU = torch.device("cpu")
VARYING = SpikeAndSlabs(2, Beta(8.0, 2.0))


def subset_at(monkeypatch, u, size, share, ranks=Ranks()):  # noqa: B008
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor(u, dtype=torch.float64))
    return draw_subset(size, share, ranks, CPU)


@pytest.mark.parametrize("size, share", [(10, 0.3), (12, 0.25), (67, 0.1), (5, 1.0), (3, 0.01)])
def test_each_weight_is_drawn_with_the_same_probability(monkeypatch, size, share):
    # Which indices are drawn changes at multiples of 1 / size: midpoints of such cells are exact.
    grid = (torch.arange(size) + 0.5) / size
    counts = torch.zeros(size)
    for u in grid.tolist():
        subset = subset_at(monkeypatch, u, size, share)
        assert len(subset.sample.unique()) == len(subset.sample), "no weight twice"
        counts[subset.sample] += 1 / len(grid)
    torch.testing.assert_close(counts, torch.full((size,), len(subset.sample) / size))


@dataclass(frozen=True)
class Told(MixturePrior):
    """A prior that is told its slopes."""

    slopes: torch.Tensor | None = None

    def approximate_slopes(self, flat, indices=None):
        return self.slopes[indices]


class Untold:
    """A prior of an older kind, without slopes."""

    def __init__(self, prior):
        self.log_prob = prior.log_prob


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("share", [0.2, None])
@pytest.mark.parametrize("slopes", ["own", "exact", "wrong", "none"])
def test_the_mean_over_draws_and_ranks_is_the_whole_density(monkeypatch, count, share, slopes):
    generator = torch.Generator().manual_seed(0)
    flat = 0.3 * torch.randn(36, generator=generator, dtype=torch.float64)
    scales = 0.5 + torch.rand(36, generator=generator, dtype=torch.float64)
    parts = [torch.tensor(v, dtype=torch.float64) for v in ([0, 0.5], [90.0, 40.0], [0.8, 0.2])]
    prior = MixturePrior(Mixture(*parts), scales)
    flat.requires_grad_()
    expected = prior.log_prob(flat)
    (gradient,) = torch.autograd.grad(expected, flat)
    priors = {
        "own": prior,
        "exact": Told(prior.mixture, scales, slopes=gradient),
        "wrong": Told(prior.mixture, scales, slopes=gradient.flip(0)),
        "none": Untold(prior),
    }
    grid = ((torch.arange(36) + 0.5) / 36).tolist()  # exact, as above: a rank has 36 / count
    group = Group("all", {"w": (36,)}, torch.float64)
    values, gradients = [], []
    for rank in range(count):
        for u in grid:
            subset = subset_at(monkeypatch, u, 36, share, Ranks(rank, count))
            found = WeightDistribution(priors[slopes], group, subset=subset).log_prob(flat)
            values.append(found.detach())
            gradients.append(torch.autograd.grad(found, flat)[0])
    torch.testing.assert_close(torch.stack(values).mean(), expected.detach())
    torch.testing.assert_close(torch.stack(gradients).mean(0), gradient)
    spread = (torch.stack(gradients) - gradient).abs().max() / gradient.abs().max()
    if count == 1 and share is not None:
        most = {"exact": 1e-12, "own": 1e-3}  # the sampling hardly shows
        assert spread < most[slopes] if slopes in most else spread > 0.1


@pytest.mark.integration
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("share", [0.2, None])
@pytest.mark.parametrize(
    "prior",
    [
        Structured(VARYING, width_deviation=0.5),
        Structured(VARYING, by=("column",)),
        Scaled(VARYING, by="row"),
        Grid(3, zero_proportion=0.8),
        GaussianPrior(Gamma(3.0, 0.1)),
    ],
)
def test_where_weights_differ_the_mean_is_the_whole_too(monkeypatch, prior, count, share):
    group = Group("all", {"w": (4, 6), "conv": (2, 2, 3, 1)}, torch.float64)  # 36 weights
    flat = 0.3 * torch.randn(36, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    point = somewhere(prior, group, flat)
    tensors = [flat, *(value for site, value in point.items() if site != "all.scales")]
    for tensor in tensors:
        tensor.requires_grad_()

    def evaluated(subset):
        own = density(prior, group, point)
        value = WeightDistribution(own, group, subset=subset).log_prob(flat)
        return value.detach(), torch.autograd.grad(value, tensors)

    expected, gradients = evaluated(None)
    grid = ((torch.arange(36) + 0.5) / 36).tolist()
    each = [
        evaluated(subset_at(monkeypatch, u, 36, share, Ranks(rank, count)))
        for rank in range(count)
        for u in (grid if share else grid[:1])
    ]
    torch.testing.assert_close(torch.stack([value for value, _ in each]).mean(), expected)
    for i, gradient in enumerate(gradients):
        torch.testing.assert_close(torch.stack([g[i] for _, g in each]).mean(0), gradient)


def test_the_last_place_stays_inside(monkeypatch):
    below_one = 1 - 2**-53
    for size in (7, 100, 266_610):
        subset = subset_at(monkeypatch, below_one, size, 0.37)
        assert subset.sample.max() == size - 1


def test_without_a_share_and_alone_nothing_is_drawn():
    before = torch.random.get_rng_state()
    assert draw_subset(10, None, Ranks(), CPU) is None
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.integration
@pytest.mark.parametrize("prior", [ONE_GROUP, EVERY_HYPERPRIOR, TWO_GROUPS])
def test_hyperparameters_gradients_average_to_the_exact_ones(prior):
    net, _, _ = classifier()
    exact = joint(net, prior, "categorical", 60)
    sampled = joint(net, prior, "categorical", 60, density=Density(prior_subsample=0.25))
    start = exact.start()
    sites = [site for site in start if not site.endswith("shares")]

    def gradient(model):
        values = {site: start[site].clone().requires_grad_() for site in sites}
        with pyro_step():
            held = poutine.condition(model.sample_weights, data={**start, **values})
            log_prob = poutine.trace(held).get_trace().log_prob_sum()
        found = torch.autograd.grad(log_prob, list(values.values()))
        return torch.cat([g.reshape(-1) for g in found])

    with torch.random.fork_rng():
        torch.manual_seed(0)
        expected = gradient(exact)
        draws = torch.stack([gradient(sampled) for _ in range(200)])
    # Five standard errors of the mean, entry by entry.
    bound = 5 * draws.std(0) / len(draws) ** 0.5 + 1e-4 * expected.abs()
    assert ((draws.mean(0) - expected).abs() <= bound).all()
    assert draws.std(0).max() > 0


def test_a_fit_on_some_weights_reports_the_exact_complexity():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", 60, density=Density(prior_subsample=0.5))
    fitted = fit(model, delta_guide(model), [(inputs, targets)], epochs=5)
    whole = joint(net, ONE_GROUP, "categorical", 60)
    expected = complexity_cost(whole, fitted.posterior.point)
    assert fitted.history[-1]["complexity_cost_nats"] == pytest.approx(expected, rel=1e-6)
    assert fitted.history[-1]["complexity_cost_nats"] == complexity_cost(
        model, fitted.posterior.point
    )


def test_the_same_seed_draws_the_same_subset():
    net, inputs, targets = classifier()
    model = joint(net, ONE_GROUP, "categorical", 60, density=Density(prior_subsample=0.5))
    points = [
        fit(model, delta_guide(model), [(inputs, targets)], epochs=3, seed=s).posterior.point
        for s in (1, 1, 2)
    ]
    assert torch.equal(points[0]["all.weights"], points[1]["all.weights"])
    assert not torch.equal(points[0]["all.weights"], points[2]["all.weights"])
