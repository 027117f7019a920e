"""Priors before fitting: what each covers, how strong it is, and that looking changes nothing."""

import json
from dataclasses import dataclass

import pyro
import pytest
import torch
from problems import EVERY_HYPERPRIOR, ONE_GROUP, TWO_GROUPS, classifier
from typed_shapes import mismatches

from pyro_sws.assess.prior.description import PriorDescription, describe_priors, implied_deviation
from pyro_sws.inference.hyperpriors import Beta, Dirichlet, Gamma, Normal
from pyro_sws.inference.priors import PRIORS, Scaled, SpikeAndSlabs, Structured
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.weights.group import Group
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior


def described(prior, net=None):
    found = describe_priors(net or classifier()[0], [Rule(prior)])["groups"]["all"]
    return found["summary"], {row["site"]: row for row in found["sites"]}


def test_each_group_is_described_with_its_tensors():
    found = describe_priors(classifier()[0], TWO_GROUPS)
    assert found["uncovered"] == []
    assert {name: group["tensors"] for name, group in found["groups"].items()} == {
        "first": ["0.weight", "0.bias"],
        "rest": ["2.weight", "2.bias"],
    }
    assert found["groups"]["first"]["family"] == "SpikeAndSlabs"
    assert found["groups"]["first"]["summary"]["weights"] == 40


def test_uncovered_tensors_are_named():
    found = describe_priors(classifier()[0], [Rule(ONE_GROUP, "0.*")])
    assert found["uncovered"] == ["2.weight", "2.bias"]


def test_it_is_json():
    found = describe_priors(classifier()[0], TWO_GROUPS)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_hyperprior_s_strength_is_a_share_of_the_weights():
    _, sites = described(EVERY_HYPERPRIOR)
    size = 67
    # Beta(a, b) counts as a + b - 2 weights, Gamma(a, b) as 2 (a - 1), Dirichlet(c) as J (c - 1);
    # each of the two slabs' precisions speaks for half of the weights.
    assert sites["all.zero_proportion"]["share"] == pytest.approx(23 / size)
    assert sites["all.spike_precision"]["share"] == pytest.approx(98 / size)
    assert sites["all.slab_precisions"]["share"] == pytest.approx(14 / (size / 2))
    assert sites["all.slab_shares"]["share"] == pytest.approx(2 / size)
    assert sites["all.means"]["share"] == 0


def test_each_learned_site_shows_its_hyperprior_and_its_start():
    _, sites = described(EVERY_HYPERPRIOR)
    # Gamma(50, 0.5) has its mode at (50 - 1) / 0.5 = 98, a deviation of 0.101.
    assert sites["all.spike_precision"]["hyperprior"] == "Gamma(50, 0.5), mode at deviation 0.101"
    assert sites["all.zero_proportion"]["hyperprior"] == "Beta(20, 5)"
    assert sites["all.slab_shares"]["hyperprior"] == "Dirichlet(2)"
    assert sites["all.means"]["hyperprior"] == "free"
    assert sites["all.zero_proportion"]["start"] == [0.8, 0.8]
    assert sites["all.spike_precision"]["start"] == [11.1111, 11.1111]  # 1 / 0.3^2
    assert sites["all.means"]["shape"] == [2]


def test_only_what_is_learned_is_a_site():
    fixed = SpikeAndSlabs(
        slabs=2,
        spike_precision=100.0,
        slab_precision=100.0,
        slab_shares="equal",
        slab_means=Normal(0.5),
    )
    _, sites = described(fixed)
    assert list(sites) == ["all.means"]
    assert sites["all.means"]["hyperprior"] == "Normal(0, 0.5)"


def test_the_density_at_the_start_is_that_of_the_mixture():
    fixed = SpikeAndSlabs(
        slabs=2,
        zero_proportion=0.75,
        spike_precision=100.0,
        slab_precision=4.0,
        slab_shares="equal",
        initialization=(-1.0, 3.0),
    )
    summary, _ = described(fixed)
    assert summary["components"] == 3
    assert summary["expected zero share"] == 0.75
    # Variance 0.75 / 100 + 0.125 (1/4 + 1) + 0.125 (1/4 + 9) - 0.25^2 = 1.2575.
    assert summary["prior deviation at the start"] == pytest.approx(1.2575**0.5, rel=1e-5)
    assert summary["codebook at the start"] == [-1, 3]
    weights = torch.cat([p.detach().reshape(-1) for p in classifier()[0].parameters()]).double()
    components = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.75, 0.125, 0.125]).double()),
        torch.distributions.Normal(
            torch.tensor([0.0, -1.0, 3.0]).double(), torch.tensor([0.1, 0.5, 0.5]).double()
        ),
    )
    nats = -components.log_prob(weights).mean()
    assert summary["nats a weight at the start"] == pytest.approx(float(nats), rel=1e-5)


def test_a_prior_without_a_spike_expects_no_zeros():
    summary, sites = described(SpikeAndSlabs(slabs=2, zero_proportion=0))
    assert summary["expected zero share"] == 0 and summary["components"] == 2
    assert "all.spike_precision" not in sites


def test_a_gamma_without_a_mode_is_said_to_have_none():
    _, sites = described(SpikeAndSlabs(slabs=2, slab_precision=Gamma(1.0, 2.0)))
    assert sites["all.slab_precisions"]["hyperprior"] == "Gamma(1, 2), mode at deviation inf"
    _, sites = described(SpikeAndSlabs(slabs=2, slab_precision=Gamma(0.5, 2.0)))
    assert sites["all.slab_precisions"]["hyperprior"] == "Gamma(0.5, 2), no mode"
    _, sites = described(SpikeAndSlabs(slabs=2, slab_shares=Dirichlet(1.0)))
    assert sites["all.slab_shares"]["share"] == 0


def test_the_scales_of_a_prior_are_in_its_deviation_and_codebook():
    # Half of the weights at scale 1, half at 3: variance (1 + 9) / 2 x 0.04, means of 0.
    scales = torch.tensor([1.0, 3.0]).repeat_interleave(2)
    shape = Mixture(torch.zeros(1), torch.tensor([25.0]), torch.ones(1))
    group = Group("all", {"a": (2,), "b": (2,)})
    assert implied_deviation(MixturePrior(shape, scales), group) == pytest.approx((0.2**0.5, 0))
    _, sites = described(Scaled(SpikeAndSlabs(slabs=2)))
    assert sites["all.scales"]["hyperprior"] == "free"  # improper: it has no draws


def test_a_density_without_closed_form_has_the_deviation_of_its_draws():
    net = torch.nn.Linear(30, 20)
    given = SpikeAndSlabs(slabs=2, zero_proportion=0.5, initialization=(-1.0, 1.0))
    plain, _ = described(given, net)
    drawn, _ = described(Structured(given), net)  # no effects at the start: the same density
    assert "weights drawn for that deviation" not in plain
    n = drawn["weights drawn for that deviation"]
    assert n >= 100_000
    # 5 standard errors of a deviation: relatively, at most 1 / sqrt(2 n) for these light tails.
    key = "prior deviation at the start"
    assert drawn[key] == pytest.approx(plain[key], rel=5 / (2 * n) ** 0.5)
    assert drawn["expected zero share"] == plain["expected zero share"] == 0.5


def test_draws_are_of_what_has_a_hyperprior_and_of_the_weights():
    net = torch.nn.Linear(100, 100)
    prior = SpikeAndSlabs(
        slabs=2, zero_proportion=Beta(20.0, 5.0), spike_precision=1e4, slab_precision=1e4
    )
    found = describe_priors(net, prior, draws=40)["groups"]["all"]
    assert [list(draw["sites"]) for draw in found["draws"]] == [["all.zero_proportion"]] * 40
    zeros = torch.tensor([draw["sites"]["all.zero_proportion"][0] for draw in found["draws"]])
    # Beta(20, 5) has mean 0.8 and variance 0.16 / 26.
    assert abs(zeros.mean() - 0.8) < 5 * (0.16 / 26 / 40) ** 0.5
    # Given the drawn proportion, a binomial share of the 10,100 weights snaps to zero.
    for draw, zero in zip(found["draws"], zeros.tolist(), strict=True):
        assert abs(draw["zero share"] - zero) < 5 * (zero * (1 - zero) / 10_100) ** 0.5 + 1e-3


@pytest.mark.parametrize("family", PRIORS)
def test_every_family_is_described(family):
    description = describe_priors(classifier()[0], PRIORS[family](), draws=2)
    assert mismatches(description, PriorDescription) == []
    found = description["groups"]["all"]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["family"] == PRIORS[family].__name__
    assert 0 <= found["summary"]["expected zero share"] <= 1
    assert found["summary"]["prior deviation at the start"] > 0
    drawn = [set(draw["sites"]) for draw in found["draws"]]
    assert drawn == [{r["site"] for r in found["sites"] if r["hyperprior"] != "free"}] * 2


def test_a_start_of_other_weights_is_what_is_described():
    net = torch.nn.Linear(3, 1)
    start = {"weight": torch.tensor([[1.0, 2.0, 3.0]]), "bias": torch.tensor([2.0])}
    found = describe_priors(net, SpikeAndSlabs(slabs=2), start=start)["groups"]["all"]["summary"]
    assert found["the weights' range"] == [1, 3]
    assert found["the weights' deviation"] == pytest.approx(0.5**0.5, rel=1e-5)


@dataclass(frozen=True)
class Unstarted:
    """A prior that leaves the start of its sites to chance."""

    def __call__(self, group):
        return ONE_GROUP(group)

    def start(self, group, weights):
        return {}


def test_a_site_without_a_start_is_a_draw_and_not_from_the_caller_s_generator():
    state = torch.get_rng_state()
    summary, sites = described(Unstarted())
    assert {row["start"] for row in sites.values()} == {"a draw"}
    assert torch.equal(torch.get_rng_state(), state)
    assert described(Unstarted())[0] == summary


def test_looking_leaves_network_generator_and_store_as_they_were():
    net, *_ = classifier()
    before, state = [p.clone() for p in net.parameters()], torch.get_rng_state()
    first = describe_priors(net, TWO_GROUPS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not list(pyro.get_param_store().keys())
    assert describe_priors(net, TWO_GROUPS) == first


def test_a_network_of_any_outputs_is_described():
    net = torch.nn.Linear(3, 1).double()
    summary, _ = described(ONE_GROUP, net)
    assert summary["weights"] == 4
