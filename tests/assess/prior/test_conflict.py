"""Fitted values in their hyperpriors against scipy, and trained weights among draws."""

import dataclasses
import json

import pyro.distributions as dist
import pytest
import torch
from problems import EVERY_HYPERPRIOR, TWO_GROUPS, classifier
from scipy import integrate, stats

from pyro_sws.assess.prior.conflict import _tail_of, check_trained_weights, hyperparameter_tails
from pyro_sws.assess.prior.hyperparameters import Site
from pyro_sws.assess.prior.starting_point import starting_point
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.isolation import pyro_step
from pyro_sws.inference.joint import joint
from pyro_sws.inference.likelihoods import Gaussian
from pyro_sws.inference.priors import DirichletProcess, SpikeAndSlabs
from pyro_sws.inference.priors.dirichlet_process import logarithm


def placed(hyperprior, value):
    value = torch.as_tensor(value, dtype=torch.float64)
    return _tail_of(Site("all.some_precision", hyperprior, value))


def double(*values):
    return (torch.tensor(value, dtype=torch.float64) for value in values)


DENSITIES = {
    "gamma": (dist.Gamma(*double(5.0, 0.5)), [3.0, 10.0, 31.0]),
    "beta": (dist.Beta(*double(20.0, 5.0)), [0.4, 0.8, 0.97]),
    "normal": (dist.Normal(*double(0.5, 2.0)), [-3.0, 0.4]),
    "lognormal": (dist.LogNormal(*double(0.5, 0.7)), [0.2, 5.0]),
    "halfnormal": (dist.HalfNormal(*double(2.0)), [0.1, 3.0]),
    "exponential": (dist.Exponential(*double(3.0)), [0.01, 0.9]),
    "log of a gamma": (
        logarithm(dist.Gamma(*double(5.0, 0.5))),
        [1.0, 3.4],
    ),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_the_tail_is_the_integral_of_the_density(name):
    density, values = DENSITIES[name]
    low = {"normal": -40.0, "log of a gamma": -20.0}.get(name, 1e-12)
    for value in values:

        def p(x):
            return float(density.log_prob(torch.tensor(x, dtype=torch.float64)).exp())

        below = integrate.quad(p, low, value, epsabs=1e-10)[0]
        expected = 2 * min(below, 1 - below)
        assert placed(density, value).tail == pytest.approx(expected, rel=1e-6)


def test_a_share_of_a_dirichlet_lies_in_its_beta():
    concentration = torch.tensor([2.0, 3.0, 5.0])
    found = placed(dist.Dirichlet(concentration), [0.01, 0.49, 0.5])
    assert found.tail == pytest.approx(2 * stats.beta(2, 8).cdf(0.01), rel=1e-5)
    assert found.entries == 3 and found.corrected == pytest.approx(3 * found.tail)


def test_far_tails_keep_their_digits():
    assert placed(dist.Normal(0.0, 1.0), 20.0).tail == pytest.approx(
        2 * stats.norm.sf(20), rel=1e-6
    )
    assert 0 < placed(dist.Gamma(5000.0, 2.0), 3500.0).tail < 1e-60


def test_of_many_entries_the_furthest_counts_corrected_for_their_number():
    values = torch.tensor([10.0, 9.0, 30.0, 11.0])
    found = placed(dist.Gamma(5.0, 0.5).expand((4,)).to_event(1), values)
    least = 2 * stats.gamma(5, scale=2).sf(30)
    assert found.tail == pytest.approx(least, rel=1e-5)
    assert found.corrected == pytest.approx(4 * least, rel=1e-5)
    assert found.value == "deviation 0.1826"
    assert placed(dist.Gamma(5.0, 0.5).expand((4,)).to_event(1), 9 + values / 10).corrected == 1


def test_a_median_is_in_the_middle_and_what_is_free_is_nowhere():
    assert placed(dist.Normal(0.3, 2.0), 0.3).tail == pytest.approx(1)
    free = placed(dist.Normal(0.0, 1.0).mask(False), 40.0)
    assert free.tail is None and not free.far
    assert placed(dist.StudentT(3.0), 0.0).tail is None


def test_uniform_draws_of_a_hyperprior_have_uniform_tails():
    gamma = dist.Gamma(torch.tensor(5.0, dtype=torch.float64), 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tails = [placed(gamma, value).tail for value in gamma.sample((500,))]
    assert stats.kstest(tails, "uniform").pvalue > 1e-4


def test_every_site_of_a_fit_is_placed_where_it_is():
    net, *_ = classifier()
    model = joint(net, TWO_GROUPS, "categorical", 60)
    point = model.start()
    point["first.zero_proportion"] = torch.tensor(0.3)  # Beta(20, 5) has it near 0.8
    found = hyperparameter_tails(model, point)
    assert list(found) == ["first", "rest"]
    by_name = {placed.name: placed for placed in found["first"]}
    zeros = by_name["first.zero_proportion"]
    assert zeros.tail == pytest.approx(2 * stats.beta(20, 5).cdf(0.3), rel=1e-4) and zeros.far
    spike = float(point["first.spike_precision"])
    law = stats.gamma(50, scale=2)
    expected = 2 * min(law.cdf(spike), law.sf(spike))
    assert by_name["first.spike_precision"].tail == pytest.approx(expected, rel=1e-4)
    told = [dataclasses.asdict(placed) for placed in found["rest"]]
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_what_depends_on_another_site_is_judged_given_that():
    net, *_ = classifier()
    model = joint(net, DirichletProcess(4), "categorical", 60)
    point = model.start()
    point["all.log_concentration"] = torch.tensor(1.5)
    point["all.log_hazards"] = torch.tensor([-1.0, -1.0, -1.0])
    (hazards,) = [p for p in hyperparameter_tails(model, point)["all"] if "hazards" in p.name]
    below = stats.expon(scale=torch.tensor(-1.5).exp().item()).cdf(torch.tensor(-1.0).exp().item())
    assert hazards.tail == pytest.approx(2 * min(below, 1 - below), rel=1e-4)


def test_a_learned_noise_is_placed_too():
    net, *_ = classifier()
    model = joint(net, SpikeAndSlabs(slabs=2), Gaussian(Gamma(3.0, 1.0)), 60)
    (noise,) = hyperparameter_tails(model, model.start())["likelihood"]
    assert noise.name == "noise_precision"
    law = stats.gamma(3)
    assert noise.tail == pytest.approx(2 * min(law.cdf(3), law.sf(3)), rel=1e-5)


def checked(net, prior, **more):
    found = check_trained_weights(joint(net, prior, "categorical", 60), **more)["all"]
    return {each.figure: each for each in found}


# No hyperparameter is drawn: the means, free, stay where they start.
FIXED = SpikeAndSlabs(2, 0.6, 900.0, 100.0, "equal", initialization=(-0.3, 0.3), slab_means="free")


def drawn_net(seed=0, size=2000):
    """A network whose weights are a draw of FIXED."""
    net = torch.nn.Linear(size, 1, bias=False)
    model = joint(net, FIXED, "categorical", 60)
    with torch.random.fork_rng(), torch.no_grad(), pyro_step():
        torch.manual_seed(seed)
        density = starting_point(model, "all", model.start()).density
        net.weight.copy_(density.sample(size).view(1, -1))
    return net


def test_weights_from_another_prior_are_out_of_place():
    net = torch.nn.Linear(500, 1, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.linspace(-3, 3, 500))
    found = checked(net, FIXED, draws=50)
    assert found["deviation"].tail == pytest.approx(2 / 51)
    assert found["deviation"].trained == pytest.approx(6 / 12**0.5, rel=1e-2)
    assert found["deviation"].high < found["deviation"].trained


def test_weights_from_the_prior_itself_are_in_place():
    tails = [checked(drawn_net(seed), FIXED, draws=50) for seed in range(5)]
    # Each of the 15 lies below 2 / 51 with a probability of 4 %: five of them with one of 2e-4.
    assert sum(each.tail <= 2 / 51 for found in tails for each in found.values()) < 5


def test_the_range_of_draws_is_that_of_the_mixture():
    found = checked(drawn_net(), FIXED, draws=200)["deviation"]
    # 0.6 of variance 1/900; 0.4 at +-0.3, of variance 1/100.
    square = 0.6 / 900 + 0.4 * (0.3**2 + 0.1**2)
    fourth = 0.6 * 3 / 900**2 + 0.4 * (0.3**4 + 6 * 0.3**2 * 0.1**2 + 3 * 0.1**4)
    # The standard error of a deviation from 2,000 weights; 90 % lie within 1.645 of them.
    error = ((fourth - square**2) / (4 * square * 2000)) ** 0.5
    ends = square**0.5 - 1.645 * error, square**0.5 + 1.645 * error
    # Of 200 draws an end is itself known to about 0.15 standard errors: 5 times that.
    assert (found.low, found.high) == pytest.approx(ends, abs=0.75 * error)


def test_nothing_is_taken_from_the_callers_generator_and_draws_are_asked_for():
    state = torch.get_rng_state()
    net = classifier()[0]
    assert checked(net, EVERY_HYPERPRIOR, draws=3) == checked(net, EVERY_HYPERPRIOR, draws=3)
    torch.testing.assert_close(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="at least 1"):
        checked(net, EVERY_HYPERPRIOR, draws=0)
