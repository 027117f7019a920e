"""A site that groups share is one site: sampled once, counted once, and of one density."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from problems import classifier
from pyro import poutine
from pyro.infer import Predictive, Trace_ELBO
from torch import distributions as td

import pyro_sws as sws
from pyro_sws.assess.prior.predictive import prior_predictive
from pyro_sws.inference.hyperposterior.target import hyperposterior

TAU = 0.3


def around_one_scale(group, rate=5.0):
    """One Gaussian for a group's weights; its mean is a group's own, its precision all groups'."""
    one = group.constant(1.0)
    precision = pyro.sample("shared.precision", dist.Gamma(10 * one, rate)).reshape(())
    mean = pyro.sample(f"{group.name}.mean", dist.Normal(0 * one, 1.0)).reshape(())
    return sws.MixturePrior(sws.Mixture(mean.view(1), precision.view(1), one.view(1)))


RULES = [
    sws.Rule(sws.Custom(around_one_scale), "0.*", "first"),
    sws.Rule(sws.Custom(around_one_scale), "2.*", "last"),
]


def problem(rules=RULES):
    net, inputs, targets = classifier()
    model = sws.joint(net, rules, "categorical", 60, tau=TAU, dtype=torch.float64)
    return net, model, (inputs.double(), targets)


def by_hand(net, batch, point):
    """-log p(targets | w) - tau log p(w, hyperparameters), by torch."""
    net = net.double()
    error = torch.nn.functional.cross_entropy(net(batch[0]), batch[1], reduction="sum")
    precision = point["shared.precision"]
    log_p = td.Gamma(10 * torch.ones((), dtype=torch.float64), 5.0).log_prob(precision)
    for name, layer in (("first", net[0]), ("last", net[2])):
        mean = point[f"{name}.mean"]
        log_p = log_p + td.Normal(torch.zeros_like(mean), 1.0).log_prob(mean)
        for tensor in layer.parameters():
            log_p = log_p + td.Normal(mean, precision.rsqrt()).log_prob(tensor).sum()
    return float((error - TAU * log_p).detach())


@pytest.mark.parametrize("particles", [{}, {"num_particles": 2, "vectorize_particles": True}])
def test_a_shared_site_counts_once(particles):
    net, model, batch = problem()
    start = {"first.mean": 0.1, "last.mean": -0.2, "shared.precision": 3.0}
    start = {site: torch.tensor(value, dtype=torch.float64) for site, value in start.items()}
    guide = sws.delta_guide(model, start)
    value = Trace_ELBO(max_plate_nesting=1, **particles).loss(model, guide, *batch)
    assert value == pytest.approx(by_hand(net, batch, start), rel=1e-6)


def test_groups_have_one_value_of_it():
    _, model, batch = problem()
    with torch.random.fork_rng():
        nodes = poutine.trace(model).get_trace(*batch).nodes
        drawn = Predictive(model, num_samples=3, parallel=True)(batch[0])
    precisions = [nodes[f"{g}.weights"]["fn"].prior.mixture.precisions for g in ("first", "last")]
    assert precisions[0] == precisions[1] == nodes["shared.precision"]["value"]
    assert len(drawn["shared.precision"].unique()) == 3


@pytest.mark.integration
@pytest.mark.parametrize("guide", [sws.delta_guide, sws.laplace_guide])
def test_a_fit_moves_it_towards_both_groups(guide):
    _, model, batch = problem()
    rates = sws.Rates(other=0.1, precisions=0.1, weights=0.0)
    settings = sws.Fitting(epochs=60, rates=rates, schedule="constant")
    posterior = sws.fit(model, guide(model), [batch], settings).posterior
    weights = {name: model.start()[f"{name}.weights"] for name in ("first", "last")}
    # The maximum under Gamma(10, 5), the means being those of the weights but for their prior.
    n = sum(len(w) for w in weights.values())
    squares = sum(float((w - w.mean()).square().sum()) for w in weights.values())
    expected = (10 - 1 + n / 2) / (5 + squares / 2)
    assert float(posterior.point["shared.precision"]) == pytest.approx(expected, rel=0.02)
    precisions = [prior.mixture.precisions for prior in posterior.priors.values()]
    assert torch.equal(*precisions)


def test_another_density_in_another_group_is_refused():
    other = sws.Rule(sws.Custom(around_one_scale, {"rate": 6.0}), "2.*", "last")
    _, model, batch = problem([RULES[0], other])
    with pytest.raises(ValueError, match="'shared.precision' has one density in one group"):
        model(*batch)


def test_no_group_is_called_shared():
    with pytest.raises(ValueError, match="group must not be 'shared'"):
        sws.Rule(sws.SpikeAndSlabs(), group="shared")


def test_chains_of_one_group_keep_it_as_it_was_fitted():
    _, model, _ = problem()
    target = hyperposterior(model.priors["first"], model.groups["first"], model.start())
    assert list(target.space.shapes) == ["first.mean"]
    assert float(target.mixture(target.start).precisions) == pytest.approx(2.0)


def test_networks_drawn_from_the_prior_share_it(monkeypatch):
    seen = []

    def remembered(group):
        density = around_one_scale(group)
        seen.append(float(density.mixture.precisions))
        return density

    net, _, (inputs, _) = problem()
    prior = sws.Custom(remembered)
    rules = [sws.Rule(prior, "0.*", "a"), sws.Rule(prior, "2.*", "b")]
    prior_predictive(net.float(), rules, inputs.float(), draws=3)
    drawn = seen[-6:]
    assert drawn[0::2] == drawn[1::2] and len(set(drawn)) == 3


@pytest.mark.integration
def test_a_compression_under_a_shared_site_is_saved_and_opened(tmp_path):
    net, inputs, targets = classifier()
    run = sws.compress(net, [(inputs, targets)], prior=RULES, guide="normal", epochs=2)
    run.save(tmp_path / "run")
    again = sws.Run.open(tmp_path / "run").posterior
    assert torch.equal(again.point["shared.precision"], run.posterior.point["shared.precision"])
    trees = run.to_arviz().mixtures
    assert set(trees) == {"first", "last"}
