"""What a walk is held to: scores, tolerances and their standard errors, by hand."""

import math

import pytest
import torch
from torch import nn

import pyro_sws as sws
from pyro_sws.compression.walk import judge as judge_module
from pyro_sws.compression.walk.judge import judge, standard_error
from pyro_sws.inference.evaluation import evaluate


class Constant(nn.Module):
    """Says class 0, or the number ``value``, whatever it sees."""

    def __init__(self, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, outputs))
        self.outputs = outputs

    def forward(self, inputs):
        first = torch.zeros(self.outputs)
        first[0] = 1
        return (inputs[:, :1] * 0 + 1) @ (self.weight + first)


def labelled(wrong, n):
    targets = torch.zeros(n, dtype=torch.int64)
    targets[:wrong] = 1
    return [(torch.randn(n, 2), targets)]


def of(net, batches, likelihood="categorical", tolerance=None):
    model = sws.joint(net, sws.SpikeAndSlabs(), likelihood, 100)
    return judge(model, batches, "validation", tolerance)


def test_the_reference_is_the_networks_own_score():
    found = of(Constant(2), labelled(30, 1000))
    assert found.reference == pytest.approx(3.0)


def test_an_errors_tolerance_is_half_a_point_or_a_standard_error():
    large = of(Constant(2), labelled(300, 10_000))
    assert large.tolerance == 0.5 and large.limit == pytest.approx(3.5)
    small = of(Constant(2), labelled(3, 100))
    share = 4 / 102  # as if one more were wrong
    assert small.tolerance == pytest.approx(100 * math.sqrt(share * (1 - share) / 100))


def test_without_a_mistake_the_error_is_not_known_exactly():
    model = sws.joint(Constant(2), sws.SpikeAndSlabs(), "categorical", 100)
    found = evaluate(model, {}, labelled(0, 50), model.start())
    assert standard_error(found, model.likelihood) > 0


def test_another_scores_tolerance_is_two_percent():
    targets = torch.cat([torch.full((5000, 1), 3.0), torch.full((5000, 1), -1.0)])
    found = of(Constant(1), [(torch.randn(10_000, 2), targets)], "gaussian")
    assert found.reference == pytest.approx(2.0)  # off by 2 everywhere
    assert found.tolerance == pytest.approx(0.04)


def test_bits_have_two_percent_or_their_own_standard_error():
    """Outputs 1 and 0: a right label costs log2(1 + 1/e) bits, a wrong one log2(1 + e)."""
    likelihood = sws.Categorical(score="bits")
    right, wrong = math.log2(1 + math.exp(-1)), math.log2(1 + math.e)
    large = of(Constant(2), labelled(30_000, 100_000), likelihood)
    assert large.reference == pytest.approx(0.7 * right + 0.3 * wrong, rel=1e-5)
    assert large.error == pytest.approx((wrong - right) * math.sqrt(0.3 * 0.7 / 100_000), rel=1e-3)
    assert large.tolerance == pytest.approx(0.02 * large.reference)
    small = of(Constant(2), labelled(30, 100), likelihood)
    assert small.tolerance == small.error
    assert small.error == pytest.approx((wrong - right) * math.sqrt(0.3 * 0.7 / 100), rel=1e-3)


def test_labels_that_cost_nothing_leave_a_tolerance_still():
    """A network that is certain and right has 0 bits; 2 % of that would let nothing pass."""

    class Certain(Constant):
        def forward(self, inputs):
            return 1000 * super().forward(inputs)

    found = of(Certain(2), labelled(0, 50), sws.Categorical(score="bits"))
    assert found.reference == 0 and found.tolerance > 0


def test_a_tolerance_that_is_given_is_taken():
    assert of(Constant(2), labelled(3, 100), tolerance=0.25).tolerance == 0.25


def test_outputs_that_are_not_finite_have_the_worst_score():
    found = of(Constant(2), labelled(3, 100))
    assert found.score({"weight": torch.full((1, 2), math.nan)}, {}) == math.inf


def test_targets_of_data_that_cannot_be_are_an_error():
    with pytest.raises(ValueError):
        of(Constant(2), [(torch.full((4, 2), math.nan), torch.zeros(4, dtype=torch.int64))])


def test_of_rare_labels_a_tolerance_is_less_than_all_there_is_to_lose():
    """One label in 200 is another: always saying the common one errs by 0.5 percent."""

    class Right(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 1))

        def forward(self, inputs):
            return torch.cat([inputs[:, :1] * 0, inputs[:, :1] @ self.weight], 1)

    targets = torch.zeros(20_000, dtype=torch.int64)
    targets[:100] = 1
    inputs = (2.0 * targets - 1)[:, None]
    found = of(Right(), [(inputs, targets)])
    assert found.reference == 0 and found.tolerance == pytest.approx(0.25 * 0.5)


def test_labels_that_are_ignored_are_no_common_answer():
    """Padded batches of other lengths: of 400 labels that count, one in 100 is another."""

    class Right(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, 1))

        def forward(self, inputs):
            return torch.stack([inputs * 0, inputs * self.weight], -1)

    batches = []
    for length in (4, 8):
        labels = torch.zeros(100, length, dtype=torch.int64)
        labels[:2, 0] = 1
        labels[:, 2:] = -100
        batches.append((2.0 * labels.clamp_min(0) - 1, labels))
    found = of(Right(), batches, sws.Categorical(ignore_index=-100))
    assert found.reference == 0 and found.tolerance == pytest.approx(0.25)  # of 1 percent


def test_a_tolerance_below_the_scores_noise_is_doubted():
    few, many = (of(Constant(2), labelled(n // 20, n), tolerance=0.5) for n in (100, 40_000))
    (doubt,) = few.doubts(learnt_from=False)
    assert "0.5 percent" in doubt and f"{few.error:.3g}" in doubt and few.error > 0.5 > many.error
    assert many.doubts(learnt_from=False) == ()


def test_the_default_tolerance_is_not_doubted_for_being_the_standard_error_that_it_is():
    found = of(Constant(2), labelled(30, 400))
    assert found.tolerance == found.error and found.doubts(learnt_from=False) == ()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_a_predicted_noise_counts_and_its_tolerance_is_the_same_in_any_unit(unit):
    """Half of the targets are spread ten times as wide; one normal distribution does not know."""

    class Spread(Constant):
        def forward(self, inputs):
            log_variance = 2 * (unit * inputs[:, :1].abs()).log() + self.weight[0, 0]
            return torch.cat([0 * inputs[:, :1], log_variance], 1).unsqueeze(1)

    draw = torch.Generator().manual_seed(0)
    inputs = torch.tensor([0.1, 1.0] * 10_000)[:, None].repeat(1, 2)
    targets = unit * inputs[:, :1] * torch.randn(20_000, 1, generator=draw)
    found = of(Spread(1), [(inputs, targets)], sws.HeteroscedasticGaussian())
    constant = 0.5 * math.log(2 * math.pi * math.e * targets.double().var(correction=0).item())
    scales = unit * inputs[:, :1].double()
    own = -torch.distributions.Normal(0.0, scales).log_prob(targets.double()).mean().item()
    assert found.reference == pytest.approx(own, rel=1e-4)
    assert found.tolerance == pytest.approx(0.02 * (constant - own), rel=1e-3)


def test_what_was_judged_on_what_it_learns_from_is_doubted():
    (doubt,) = of(Constant(2), labelled(300, 10_000)).doubts(learnt_from=True)
    assert "give validation=" in doubt


def test_an_outlier_among_targets_does_not_make_room_for_losing_all():
    """Its square is most of the score and of its standard error: what a mean has must be left."""

    class Sign(Constant):
        def forward(self, inputs):
            return inputs[:, :1].sign() + self.weight[0, 0]

    inputs = torch.tensor([-1.0, 1.0] * 200)[:, None].repeat(1, 2)
    targets = inputs[:, :1] + 0.1
    targets[0] = 75.0
    found = of(Sign(1), [(inputs, targets)], "gaussian")
    spread = targets.std(correction=0).item()
    assert found.error > spread - found.reference  # by which a constant would pass
    assert found.tolerance == pytest.approx(0.25 * (spread - found.reference), rel=1e-3)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_a_perfect_fit_leaves_a_thousandth_of_the_targets_spread_in_their_own_unit(unit):
    class Exact(Constant):
        def forward(self, inputs):
            return inputs[:, :1] * (1 + self.weight[0, 0])

    targets = unit * torch.tensor([-1.0, 1.0] * 50)[:, None]
    found = of(Exact(1), [(targets.repeat(1, 2), targets)], "gaussian")
    assert found.reference == 0 and found.tolerance == pytest.approx(1e-3 * unit)


def test_the_score_of_a_mean_a_median_and_of_frequencies_bounds_what_may_be_lost():
    """By hand: targets 0 (three times), 1 and 6."""
    values = torch.tensor([0.0, 0.0, 0.0, 1.0, 6.0])[:, None]
    labels = torch.tensor([0, 0, 1, 1, 1, 1, 1, 1])
    data, model = [(torch.randn(5, 2), values)], "gaussian"
    constant = judge_module._constant_score
    joint = sws.joint(Constant(1), sws.SpikeAndSlabs(), model, 5)
    assert constant(joint, data, "") == pytest.approx(math.sqrt(27.2 / 5), rel=1e-6)
    joint = sws.joint(Constant(1), sws.SpikeAndSlabs(), "laplace", 5)
    assert constant(joint, data, "") == pytest.approx(7 / 5)
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    joint = sws.joint(Constant(2), sws.SpikeAndSlabs(), sws.Categorical(score="bits"), 8)
    assert constant(joint, [(torch.randn(8, 2), labels)], "") == pytest.approx(entropy)
    joint = sws.joint(Constant(2), sws.SpikeAndSlabs(), "categorical", 8)
    assert constant(joint, [(torch.randn(8, 2), labels)], "") == pytest.approx(25.0)


def test_a_tolerance_of_a_few_examples_is_said_to_be_their_noise():
    few, many = of(Constant(2), labelled(1, 10)), of(Constant(2), labelled(300, 10_000))
    assert few.tolerance > 5 and "standard error" in few.doubts(False)[0]
    assert many.doubts(False) == ()
