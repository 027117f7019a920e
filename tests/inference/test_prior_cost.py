"""The prior's cost in a loop of one's own is the joint's, to the last digits, with its gradient."""

import copy
import math

import pyro
import pytest
import torch
from every_prior import PRIORS
from problems import EVERY_HYPERPRIOR, TWO_GROUPS, classifier
from pyro import poutine
from torch import nn
from torch.nn.functional import cross_entropy
from written_out import written

import pyro_sws as sws
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.weights.quantize import quantize


def doubled():
    net, inputs, targets = classifier()
    return net.double(), inputs.double(), targets


@pytest.fixture(params=[*PRIORS, "two groups"])
def prior(request):
    return TWO_GROUPS if request.param == "two groups" else PRIORS[request.param]


def elsewhere(net, state):
    """Both at values that nothing is special about."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in (*net.parameters(), *state.parameters()):
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter += 0.02 * noise


def cost_of(net, state):
    return float(sws.prior_cost(net, state).detach())


def weights_of(net, groups):
    named = dict(net.named_parameters())
    return {f"{name}.weights": group.flatten(named) for name, group in groups.items()}


def test_it_is_minus_the_joints_log_density_in_pyro(prior):
    net, inputs, _ = doubled()
    state = sws.prior_state(net, prior)
    elsewhere(net, state)
    model = sws.joint(net, prior, "categorical", len(inputs))
    data = state.hyperparameters() | weights_of(net, model.groups)
    with pyro_step():
        trace = poutine.trace(poutine.condition(model, data=data)).get_trace(inputs)
        trace.compute_log_prob()
    sites = [site for name, site in trace.nodes.items() if name in data]
    assert len(sites) == len(data)
    expected = -sum(float(site["log_prob_sum"].detach()) for site in sites)
    assert cost_of(net, state) == pytest.approx(expected, rel=1e-10)


def test_it_is_what_numpy_and_scipy_say():
    net, *_ = doubled()
    state = sws.prior_state(net, EVERY_HYPERPRIOR)
    elsewhere(net, state)
    (group,) = state.groups.values()
    flat = weights_of(net, state.groups)["all.weights"].numpy()
    expected = written(EVERY_HYPERPRIOR, state.hyperparameters(), group).complexity(flat)
    assert cost_of(net, state) == pytest.approx(expected, rel=1e-9)


def test_one_gaussian_is_weight_decay():
    net, *_ = doubled()
    prior = sws.GaussianPrior(precision=4.0)
    state = sws.prior_state(net, prior)
    squares = sum(float(p.detach().square().sum()) for p in net.parameters())
    expected = 2.0 * squares - 67 / 2 * math.log(4.0 / (2 * math.pi))
    assert not list(state.parameters())
    assert cost_of(net, state) == pytest.approx(expected, rel=1e-10)


def test_its_gradient_is_that_of_finite_differences():
    net, *_ = doubled()
    state = sws.prior_state(net, EVERY_HYPERPRIOR)
    elsewhere(net, state)
    sws.prior_cost(net, state).backward()
    step = 1e-6
    for parameter in (net[0].weight, *state.parameters()):
        flat, i = parameter.detach().view(-1), 0
        costs = []
        for moved in (step, -2 * step):
            flat[i] += moved
            costs.append(cost_of(net, state))
        flat[i] += step
        expected = (costs[0] - costs[1]) / (2 * step)
        assert float(parameter.grad.view(-1)[i]) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_nothing_of_the_callers_is_touched():
    net, *_ = classifier()
    before, rng = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    state = sws.prior_state(net)
    sws.prior_cost(net, state)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert net.training and torch.equal(rng, torch.get_rng_state())
    assert not list(pyro.get_param_store().keys())


def test_pyros_handlers_around_it_do_not_see_it():
    net, *_ = classifier()
    state = sws.prior_state(net)
    with poutine.trace() as seen:
        sws.prior_cost(net, state)
    assert not seen.trace.stochastic_nodes


def test_a_state_goes_through_its_state_dict():
    net, *_ = classifier()
    state = sws.prior_state(net, EVERY_HYPERPRIOR)
    elsewhere(net, state)
    other = sws.prior_state(net, EVERY_HYPERPRIOR)
    other.load_state_dict(state.state_dict())
    assert cost_of(net, other) == cost_of(net, state)


def test_a_network_that_changes_its_dtype_keeps_its_cost():
    net, *_ = classifier()
    state = sws.prior_state(net, EVERY_HYPERPRIOR)
    single = cost_of(net, state)
    assert cost_of(net.double(), state) == pytest.approx(single, rel=1e-6)


def trained(tau=0.01, steps=150):
    """From scratch under the prior, in a loop of plain torch."""
    net, inputs, targets = classifier()
    prior = sws.SpikeAndSlabs(
        slabs=4,
        zero_proportion=0.5,
        spike_precision=sws.Gamma(5.0, 0.05),
        slab_precision=sws.Gamma(5.0, 0.05),
    )
    state = sws.prior_state(net, prior)
    groups = [{"params": net.parameters(), "lr": 2e-2}, *state.param_groups(sws.Rates(means=1e-2))]
    optimiser = torch.optim.Adam(groups)
    for _ in range(steps):
        loss = cross_entropy(net(inputs), targets)
        loss = loss + tau * sws.prior_cost(net, state) / len(inputs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net, state, inputs, targets


@pytest.mark.integration
def test_a_larger_tau_trains_a_network_that_the_prior_finds_cheaper():
    costs = [cost_of(*trained(tau)[:2]) for tau in (1e-3, 1e-2, 1e-1)]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.integration
def test_a_network_trained_under_it_is_encoded_with_the_mixture_that_it_learned():
    net, state, inputs, targets = trained()
    run = sws.compress(net, [(inputs, targets)], start=state)
    own = dict(net.named_parameters())
    assert all(torch.equal(t, own[name].detach()) for name, t in run.posterior.weights.items())
    for site, value in state.hyperparameters().items():
        torch.testing.assert_close(run.posterior.point[site], value)
    assert run.report.score["posterior"] == run.report.score["before"]
    assert sws.decode(run.data) == run.quantized
    expected = quantize(sws.merge(run.posterior)).codebooks["all"]
    assert run.quantized.codebooks["all"].tolist() == expected.tolist()
    assert [row["epoch"] for row in run.history] == [0]


def test_a_state_of_another_network_is_no_start():
    net, inputs, targets = classifier()
    other = nn.Sequential(*list(net)[:-1], nn.Linear(net[-1].in_features, 7))
    state = sws.prior_state(other)
    with pytest.raises(ValueError, match="make the state of this network"):
        sws.compress(net, [(inputs, targets)], start=state)


@pytest.mark.integration
def test_a_fit_goes_on_from_the_state_where_it_is_given_epochs():
    net, state, inputs, targets = trained(steps=20)
    going_on = sws.compress(net, [(inputs, targets)], start=state, epochs=1, seed=0)
    anew = sws.compress(net, [(inputs, targets)], prior=state.rules, epochs=1, seed=0)
    start = state.hyperparameters()["all.means"]
    moved = (going_on.posterior.point["all.means"] - start).abs().max()
    assert 0 < moved < (anew.posterior.point["all.means"] - start).abs().max()


def test_a_run_without_epochs_is_a_folder_like_any_other(tmp_path):
    net, inputs, targets = classifier()
    run = sws.compress(net, [(inputs, targets)], epochs=0)
    run.save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    assert opened.history == run.history and opened.plan.fit.epochs == 0


def test_the_row_of_a_fit_without_epochs_is_of_its_start():
    net, inputs, targets = classifier()
    model = sws.joint(net, EVERY_HYPERPRIOR, "categorical", len(inputs), tau=0.5)
    told = []
    done = sws.fit(
        model, sws.delta_guide(model), [(inputs, targets)], epochs=0, callback=told.append
    )
    (row,) = done.history
    error = float(cross_entropy(net(inputs), targets, reduction="sum").detach())
    assert row["error_cost_nats"] == pytest.approx(error, rel=1e-5)
    cost = cost_of(net, sws.prior_state(net, EVERY_HYPERPRIOR))
    assert row["complexity_cost_nats"] == pytest.approx(cost, rel=1e-5)
    assert row["negative_elbo_nats"] == pytest.approx(error + 0.5 * cost, rel=1e-5)
    assert [(t.done, t.total) for t in told] == [(0, 0)]
    for site, value in model.start().items():
        torch.testing.assert_close(done.posterior.point[site], value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda net, state: sws.prior_state(net.state_dict()), TypeError, "net is a dict"),
        (
            lambda net, state: sws.prior_state(net, "grid"),
            ValueError,
            r"prior: got the name 'grid'; give the family, sws.Grid\(\)",
        ),
        (
            lambda net, state: sws.prior_state(net, density=sws.Density(prior_subsample=0.5)),
            ValueError,
            "prior_subsample and autocast are for fit",
        ),
        (
            lambda net, state: sws.prior_cost(net, state.hyperparameters()),
            TypeError,
            "state must be of PriorState",
        ),
        (
            lambda net, state: sws.prior_cost(net[2], state),
            ValueError,
            "net has no parameter '0.weight', which the state's prior covers",
        ),
        (
            lambda net, state: sws.prior_cost(nn.Sequential(nn.Linear(4, 9)), state),
            ValueError,
            r"parameter '0.weight' has shape \(9, 4\) in net and \(8, 4\) in the state",
        ),
        (
            lambda net, state: sws.compress(
                net, [(torch.zeros(2, 4), torch.zeros(2).long())], start=state, prior=sws.Grid()
            ),
            ValueError,
            "start is a PriorState, which has its own prior; leave prior= away",
        ),
        (
            lambda net, state: sws.joint(
                net, state.rules, "categorical", 1, start={"all.means": torch.zeros(3)}
            ),
            ValueError,
            r"start: 'all.means' has shape \(3,\); the prior's has \(16,\)",
        ),
        (
            lambda net, state: sws.joint(
                net, state.rules, "categorical", 1, start={"all.mean": torch.zeros(16)}
            ),
            ValueError,
            "start: no prior covers a parameter 'all.mean'",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, error, message):
    net, *_ = classifier()
    state = sws.prior_state(net)
    with pytest.raises(error, match=message):
        call(net, state)
