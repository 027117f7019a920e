"""A network that predicts its own noise: densities are scipy's and torch's, scores a hand's."""

import numpy as np
import pytest
import torch
from every_likelihood import outputs
from scipy import stats
from torch import nn
from torch.nn.functional import gaussian_nll_loss

import pyro_sws as sws
from pyro_sws.compression.pretrain import Pretraining, pretrain
from pyro_sws.compression.walk.judge import standard_error
from pyro_sws.inference.evaluation import evaluate_network
from pyro_sws.inference.likelihoods import Gaussian, HeteroscedasticGaussian

SHAPES = [(5,), (5, 3), (5, 2, 4)]  # of targets
FLOAT64 = torch.device("cpu"), torch.float64


def second(inputs, scale):
    """The output that means this scale."""
    return {
        "log_variances": 2 * scale.log(),
        "raw_scales": scale.expm1().log(),
        "variances": scale.square(),
    }[inputs]


@pytest.mark.parametrize("inputs", ["log_variances", "raw_scales", "variances"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_log_prob_is_scipys(shape, inputs):
    mean, targets, scale = outputs(shape), outputs(shape, 1), outputs(shape, 2).exp()
    spec = HeteroscedasticGaussian(inputs=inputs)
    out = torch.stack([mean, second(inputs, scale)], -1)
    spec.check(out, targets)
    expected = stats.norm.logpdf(targets, mean, scale).reshape(5, -1).sum(1)
    np.testing.assert_allclose(spec(out).log_prob(targets), expected)
    pair = mean, second(inputs, scale)
    spec.check(pair, targets)
    np.testing.assert_allclose(spec(pair).log_prob(targets), expected)


def test_the_score_in_nats_is_torchs_loss():
    mean, targets, scale = outputs((5, 3)), outputs((5, 3), 1), outputs((5, 3), 2).exp()
    out = torch.stack([mean, 2 * scale.log()], -1)
    spec = HeteroscedasticGaussian(score="nll")
    found = spec.score(float(spec.losses(out, targets).mean()))
    assert found == pytest.approx(gaussian_nll_loss(mean, targets, scale**2, full=True).item())


def test_other_scores_are_of_the_means_whatever_the_noise():
    mean, targets = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 0.0], [4.0, 0.0]])
    out = torch.stack([mean, outputs((2, 2)).float()], -1)
    squared, absolute = (HeteroscedasticGaussian(score=name) for name in ("rmse", "mae"))
    assert squared.losses(out, targets).tolist() == [2, 8]
    assert squared.score(5.0) == pytest.approx(5**0.5) and squared.score_name == "rmse"
    assert absolute.losses(out, targets).tolist() == [1, 2] and absolute.score(1.5) == 1.5


def test_with_one_noise_for_all_it_is_gaussian():
    mean, targets = outputs((5, 3)), outputs((5, 3), 1)
    out = torch.stack([mean, torch.full_like(mean, -np.log(4.0))], -1)
    found = HeteroscedasticGaussian()(out).log_prob(targets)
    torch.testing.assert_close(found, Gaussian(4.0)(mean).log_prob(targets))


@pytest.mark.parametrize("inputs", ["log_variances", "raw_scales", "variances"])
def test_a_variance_that_underflows_leaves_a_density(inputs):
    extreme = 0.0 if inputs == "variances" else -1e4
    out = torch.tensor([[0.0, extreme]])
    assert HeteroscedasticGaussian(inputs=inputs)(out).log_prob(torch.zeros(1)).isfinite().all()


def test_a_negative_log_density_has_a_standard_error():
    """The losses are -log p, of targets that a small noise makes dense: below 0 on average."""
    mean, targets = torch.zeros(400, dtype=torch.float64), 0.01 * outputs((400,))
    out = torch.stack([mean, torch.full_like(mean, 2 * np.log(0.01))], -1)
    spec = HeteroscedasticGaussian(score="nll")
    found = evaluate_network(nn.Identity(), spec, [(out, targets)], FLOAT64)
    losses = -stats.norm.logpdf(targets, 0, 0.01)
    assert found.score == pytest.approx(losses.mean()) and found.score < -2
    assert standard_error(found, spec) == pytest.approx(losses.std() / 20)


@pytest.mark.parametrize(
    ("out", "targets", "words"),
    [
        (torch.zeros(4, 3), torch.zeros(4), r"must be \(batch, ..., 2\), a mean .* \(4, 3\)$"),
        (torch.zeros(4), torch.zeros(4), r"must be \(batch, ..., 2\)"),
        (torch.zeros(4, 6), torch.zeros(4, 3), r"as by nn.Unflatten\(1, \(3, 2\)\)$"),
        (torch.zeros(4, 2), torch.zeros(4, 2), r"targets must have shape \(4,\)"),
        (torch.zeros(4, 2), torch.zeros(4, 1), r"give targets.squeeze\(-1\)$"),
        (torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64), "must be floats, got int64"),
    ],
)
def test_outputs_and_targets_that_cannot_be_are_refused(out, targets, words):
    with pytest.raises(ValueError, match=f"^heteroscedastic_gaussian: .*{words}"):
        HeteroscedasticGaussian().check(out, targets)


def test_a_variance_below_0_is_refused():
    with pytest.raises(ValueError, match='smallest of the network\'s is -1; .*="log_variances"'):
        HeteroscedasticGaussian(inputs="variances").check(-torch.ones(4, 2), torch.zeros(4))


@pytest.mark.slow
def test_a_walk_keeps_what_a_network_knows_of_its_noise():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(600, 2, generator=generator)
    scale = 0.1 + inputs[:, 1].exp()
    targets = inputs[:, 0] + scale * torch.randn(600, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    spec = HeteroscedasticGaussian(score="nll")
    batches = sws.Batches(inputs, targets, 100)
    trained = pretrain(net, batches, spec, Pretraining(epochs=30, rate=1e-2))
    budget = sws.Budget(passes=6)
    result = sws.compress(trained, batches, likelihood=spec, tolerance=0.05, budget=budget)
    score = result.report.score
    assert score["decoded"] <= score["before"] + 0.06 and score["name"] == "nll"
    assert result.report.certificate is None
    seen = sws.load(result.data, into=trained)(inputs)[:, 1].detach() / 2
    assert torch.corrcoef(torch.stack([seen, scale.log()]))[0, 1] > 0.8


def test_named_outputs_are_refused_as_none_says_which_is_the_mean():
    outputs = {"mean": torch.zeros(2), "var": torch.ones(2)}
    with pytest.raises(ValueError, match="got a dict of 'mean', 'var'; return a pair"):
        HeteroscedasticGaussian.joined(outputs)
