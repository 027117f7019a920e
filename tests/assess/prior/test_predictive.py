"""The prior predictive against closed forms, and that drawing from a prior changes nothing."""

import json
import math
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import pytest
import torch
from problems import EVERY_HYPERPRIOR, TWO_GROUPS, classifier
from torch import nn
from typed_shapes import mismatches

from pyro_sws.assess.prior.predictive import PriorPredictiveSummary, prior_predictive
from pyro_sws.inference.hyperpriors import Gamma
from pyro_sws.inference.likelihoods import Gaussian as Noise
from pyro_sws.inference.priors import PRIORS, GaussianPrior, SpikeAndSlabs, Structured
from pyro_sws.inference.priors.rules import Rule
from pyro_sws.weights.mixture import Mixture
from pyro_sws.weights.weight_prior import MixturePrior


@dataclass(frozen=True)
class Constant:
    """All weights at one value, but for rounding."""

    value: float

    def __call__(self, group):
        return MixturePrior(
            Mixture(group.constant(self.value).view(1), group.constant(1e30).view(1), ONE)
        )

    def start(self, group, weights):
        return {}


@dataclass(frozen=True)
class Wide:
    """A Gaussian, whose deviation is drawn: 1 or 3, as often."""

    def __call__(self, group):
        at = pyro.sample(f"{group.name}.width", dist.Bernoulli(group.constant(0.5)))
        deviation = 1 + 2 * at.view(1)
        return MixturePrior(Mixture(torch.zeros(1), deviation**-2, ONE))

    def start(self, group, weights):
        return {f"{group.name}.width": group.constant(0.0)}


ONE = torch.ones(1)
INPUTS = torch.randn(30, 4, generator=torch.Generator().manual_seed(1))


def relu_network(bias=0.0):
    net = nn.Sequential(nn.Linear(4, 50), nn.ReLU(), nn.Linear(50, 3))
    with torch.no_grad():
        net[0].bias.fill_(bias)
    return net


def test_weights_of_0_leave_every_class_as_probable():
    net = nn.Linear(4, 3)
    with torch.no_grad():
        net.weight.mul_(10)
    found = prior_predictive(net, Constant(0.0), INPUTS, draws=3)
    assert found.maximum_entropy_nats == math.log(3)
    for draw in found.draws:
        assert draw.entropy_nats == pytest.approx(math.log(3))
        assert draw.zero_share == 1 and draw.output_deviation == pytest.approx(0, abs=1e-12)
    (warning,) = found.warnings
    assert "takes all classes for equally probable (the entropy is at least 100 % of" in warning
    assert found.trained.entropy_nats < 0.9 * math.log(3)


def test_a_network_that_is_untrained_itself_is_not_contradicted():
    net = nn.Linear(4, 3)
    with torch.no_grad():
        net.weight.zero_(), net.bias.zero_()
    assert prior_predictive(net, Constant(0.0), INPUTS).warnings == ()


def test_huge_weights_are_certain_of_everything():
    (warning,) = prior_predictive(nn.Linear(4, 3), GaussianPrior(precision=1e-12), INPUTS).warnings
    assert "certain of every prediction" in warning


def test_a_bernoulli_s_entropy_is_at_most_log_2():
    found = prior_predictive(nn.Linear(4, 5), Constant(0.0), INPUTS, likelihood="bernoulli")
    assert found.maximum_entropy_nats == math.log(2)
    assert found.draws[0].entropy_nats == pytest.approx(math.log(2))


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson", Noise(Gamma(2.0, 1.0))])
def test_other_likelihoods_have_outputs_and_no_entropy(likelihood):
    found = prior_predictive(
        nn.Linear(4, 1), GaussianPrior(), INPUTS, likelihood=likelihood, draws=2
    )
    assert found.maximum_entropy_nats is None and found.draws[0].entropy_nats is None
    assert found.draws[0].output_deviation > 0 and found.warnings == ()


def test_a_normal_prior_of_known_deviation_gives_outputs_of_known_deviation(n=3_000):
    # For an input x, w x + b has variance s^2 (|x|^2 + 1); each output of a draw is independent.
    net, x = nn.Linear(4, n), INPUTS[:1]
    found = prior_predictive(net, GaussianPrior(precision=0.25), x, likelihood="gaussian", draws=5)
    variance = 4 * (float(x.square().sum()) + 1)
    # Of 5 n outputs: the relative standard error of a normal's deviation is 1 / sqrt(2 x 5 n).
    assert found.output_deviation == pytest.approx(variance**0.5, rel=5 / (10 * n) ** 0.5)


def test_the_deviation_over_all_draws_is_that_of_their_outputs_together():
    # The bias alone: within a draw all outputs are equal, and the draws differ.
    net = nn.Linear(4, 1)
    zeros = torch.zeros(10, 4)
    found = prior_predictive(net, GaussianPrior(), zeros, likelihood="gaussian", draws=20)
    means = torch.tensor([draw.output_mean for draw in found.draws]).double()
    assert max(draw.output_deviation for draw in found.draws) == 0
    assert found.output_deviation == pytest.approx(float(means.std(correction=0)))


def test_hyperparameters_are_drawn_and_not_left_at_their_start(n=20_000):
    net, one = nn.Linear(1, n, bias=False), torch.ones(1, 1)
    found = prior_predictive(net, Wide(), one, likelihood="gaussian", draws=40)
    rounded = [round(draw.output_deviation) for draw in found.draws]
    assert set(rounded) == {1, 3}  # 5 standard errors of a deviation are 5 / sqrt(2 n) = 2.5 %
    assert abs(rounded.count(3) - 20) < 5 * (40 / 4) ** 0.5
    assert found.kept == ()


def test_what_is_free_stays_at_its_start():
    prior = SpikeAndSlabs(
        slabs=2,
        zero_proportion=0.0,
        slab_precision="free",
        initialization=(-1.0, 1.0),
        start_deviation=1e-3,
    )
    net = nn.Linear(1, 20_000, bias=False)
    found = prior_predictive(net, prior, torch.ones(1, 1), likelihood="gaussian", draws=3)
    assert set(found.kept) == {"all.means", "all.slab_precisions", "all.slab_shares"}
    for draw in found.draws:  # half of the outputs at -1, half at 1
        assert draw.output_deviation == pytest.approx(1, abs=5e-3)
        assert abs(draw.output_mean) < 5 / 20_000**0.5


def test_the_share_of_weights_that_snap_to_0_is_the_zero_proportion(n=20_000):
    prior = SpikeAndSlabs(
        slabs=2,
        zero_proportion=0.7,
        initialization=(-1.0, 1.0),
        slab_precision=1e4,
        spike_precision=1e4,
    )
    net = nn.Linear(1, n, bias=False)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([0.0, 1.0]).repeat(n // 2).view(n, 1))
    found = prior_predictive(net, prior, INPUTS[:1, :1], draws=3)
    assert found.trained.zero_share == 0.5
    for draw in found.draws:
        assert abs(draw.zero_share - 0.7) < 5 * (0.7 * 0.3 / n) ** 0.5


def test_groups_count_by_their_weights():
    rules = [Rule(Constant(0.0), "weight", "a"), Rule(Constant(1.0), "bias", "b")]
    assert prior_predictive(nn.Linear(4, 1), rules, INPUTS).draws[0].zero_share == 0.8


def test_units_that_a_draw_kills_are_counted_and_those_of_the_network_given():
    rules = [Rule(Constant(-1e6), "0.bias", "b"), Rule(GaussianPrior(), "*", "w")]
    found = prior_predictive(relu_network(), rules, INPUTS, draws=4)
    assert [draw.dead_share for draw in found.draws] == [1, 1, 1, 1]
    assert found.trained.dead_share < 0.5
    assert any("in 4 of 4 networks drawn every rectified unit is 0" in w for w in found.warnings)


def test_a_network_given_with_a_very_negative_bias_is_all_dead():
    rules = [Rule(GaussianPrior(), "*.weight", "w")]  # the biases have no prior, and stay
    found = prior_predictive(relu_network(bias=-1e6), rules, INPUTS, draws=2)
    assert found.trained.dead_share == 1 and found.draws[1].dead_share == 1


def test_half_of_the_units_of_a_symmetric_prior_are_dead_on_one_input(n=5_000):
    net = nn.Sequential(nn.Linear(4, n), nn.ReLU(), nn.Linear(n, 2))
    found = prior_predictive(net, GaussianPrior(), INPUTS[:1], draws=3)
    for draw in found.draws:
        assert abs(draw.dead_share - 0.5) < 5 * (0.25 / n) ** 0.5


def test_functional_calls_are_not_seen():
    class Functional(nn.Linear):
        def forward(self, inputs):
            return torch.relu(super().forward(inputs))

    assert prior_predictive(Functional(4, 3), GaussianPrior(), INPUTS).trained.dead_share is None


def test_batches_of_any_size_are_one_pass():
    inputs = INPUTS.repeat(9, 1)  # 270, more than go through at once
    one = prior_predictive(relu_network(), GaussianPrior(), inputs, draws=1, seed=3)
    assert one.examples == 270
    again = prior_predictive(relu_network(), GaussianPrior(), INPUTS, draws=1, seed=3)
    assert one.draws[0].dead_share == again.draws[0].dead_share
    assert one.draws[0].entropy_nats == pytest.approx(again.draws[0].entropy_nats)


@pytest.mark.parametrize("family", PRIORS)
def test_every_family_has_a_predictive_and_it_is_json(family):
    net, inputs, _ = classifier()
    found = prior_predictive(net, PRIORS[family](), inputs, draws=2).to_dict()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert mismatches(found, PriorPredictiveSummary) == []
    assert len(found["draws"]) == 2
    low, mean, high = (found["summary"]["entropy_nats"][k] for k in ("lowest", "mean", "highest"))
    assert 0 <= low <= mean <= high <= math.log(3) + 1e-6


def test_outputs_that_overflow_are_none_in_json():
    found = prior_predictive(nn.Linear(4, 3), Constant(3e38), 10 * INPUTS.abs())
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.to_dict()["draws"][0]["entropy_nats"] is None and found.warnings == ()


def test_looking_leaves_network_generator_and_store_as_they_were():
    net = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3)
    )
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    pyro.param("mine", torch.tensor(1.0))
    first = prior_predictive(net, EVERY_HYPERPRIOR, INPUTS)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net.training and all(m.training for m in net.modules())
    assert all(p.requires_grad for p in net.parameters())
    assert list(pyro.get_param_store().keys()) == ["mine"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert prior_predictive(net, EVERY_HYPERPRIOR, INPUTS) == first
    assert prior_predictive(net, EVERY_HYPERPRIOR, INPUTS, seed=1).draws != first.draws


def test_the_reference_is_the_network_given_or_the_start():
    net, inputs, _ = classifier()
    net.eval()
    found = prior_predictive(net, TWO_GROUPS, inputs).trained
    outputs = net(inputs).detach()
    entropy = torch.distributions.Categorical(logits=outputs).entropy().mean()
    assert found.entropy_nats == pytest.approx(float(entropy), rel=1e-6)
    assert found.output_mean == pytest.approx(float(outputs.mean()), abs=1e-7)
    zeros = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    found = prior_predictive(net, TWO_GROUPS, inputs, start=zeros)
    assert found.trained.output_deviation == 0


def test_structured_effects_are_drawn_too():
    # Log-odds of deviation 8 make most tensors all zero or nothing: the share varies by far more.
    net = nn.Linear(4, 3)
    plain = prior_predictive(net, SpikeAndSlabs(slabs=2, zero_proportion=0.5), INPUTS, draws=30)
    varied = Structured(SpikeAndSlabs(slabs=2, zero_proportion=0.5), by=("tensor",), deviation=8.0)
    spread = prior_predictive(net, varied, INPUTS, draws=30)
    variance = [
        torch.tensor([draw.zero_share for draw in found.draws]).var() for found in (plain, spread)
    ]
    assert variance[1] > 2 * variance[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"draws": 0}, "draws must be at least 1, got 0"),
        ({"inputs": torch.zeros(0, 4)}, r"there are no inputs, only \(0, 4\); give at least one"),
        ({"inputs": torch.zeros(2, 7)}, r"the network fails on inputs of shape \(2, 7\): mat1"),
        ({"likelihood": "categoric"}, "unknown likelihood 'categoric'"),
    ],
)
def test_what_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        prior_predictive(nn.Linear(4, 3), GaussianPrior(), **{"inputs": INPUTS, **arguments})
