"""A file from a trained network and some inputs: no labels, no training."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import pyro_sws as sws
from pyro_sws.compression.post_training.agreement import Agreement
from pyro_sws.compression.post_training.parted import parted
from pyro_sws.compression.walk.values import default_rules

pytestmark = pytest.mark.integration
QUICK = sws.PostTraining(files=4)


@pytest.fixture(scope="module")
def digits():
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


@pytest.fixture(scope="module")
def trained(digits):
    images, labels = digits
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(net(images[:1200]), labels[:1200]).backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="module")
def run(trained, digits):
    return sws.compress(trained, digits[0][:1200], fit=sws.PostTraining(files=8))


def divergence(net, other, inputs):
    with torch.no_grad():
        own, decoded = net(inputs).log_softmax(-1), other(inputs).log_softmax(-1)
    return float(F.kl_div(decoded, own, log_target=True, reduction="batchmean"))


def test_file_predicts_as_the_network_does(run, trained, digits):
    fresh = digits[0][1200:]
    assert len(run.data) < 4 * sum(p.numel() for p in trained.parameters()) / 10
    assert divergence(trained, run.decoded, fresh) < 0.03
    loaded = sws.load(run.data, into=trained)
    with torch.no_grad():
        assert torch.equal(loaded(fresh), run.decoded(fresh))


def test_frontier_has_scores_of_what_its_files_decode_to(run, trained, digits):
    given = [(part, part) for part in digits[0][:1200].split(256)]
    held_out = [inputs for inputs, _ in parted(given, 5000)[1]]
    for point in run.frontier.front:
        decoded = sws.load(point.data, into=trained)
        own = divergence(trained, decoded, torch.cat(held_out))
        assert own == pytest.approx(point.score, rel=1e-3, abs=1e-7)
    assert run.frontier.unit == "nats"
    assert run.frontier.smallest().score <= 0.01


def test_folder_opens_as_the_run_that_was_saved(run, tmp_path):
    run.save(tmp_path / "run")
    opened = sws.Run.open(tmp_path / "run")
    assert opened.data == run.data
    assert opened.plan.post_training == run.plan.post_training
    assert opened.report.post_training == run.report.post_training
    assert [point.data for point in opened.frontier] == [point.data for point in run.frontier]
    assert (
        "divergence from the network's own predictions"
        in (tmp_path / "run" / "report.html").read_text()
    )


@pytest.mark.slow
def test_more_tolerance_is_a_smaller_file(run, trained, digits):
    small = sws.compress(trained, digits[0][:1200], fit=sws.PostTraining(files=8), tolerance=0.1)
    assert len(small.data) < len(run.data)


@pytest.mark.slow
def test_labels_are_scored_where_there_are_any(trained, digits):
    batches = sws.Batches(digits[0][:1200], digits[1][:1200])
    labelled = sws.compress(trained, batches, fit=QUICK, tolerance=3.0)
    assert labelled.frontier.unit == "percent"


@pytest.mark.slow
def test_network_and_generator_are_left_as_they_were(trained, digits):
    before = {name: p.clone() for name, p in trained.state_dict().items()}
    state = torch.get_rng_state()
    sws.compress(trained, digits[0][:300], fit=QUICK, tolerance=0.1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, before[name]) for name, p in trained.state_dict().items())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"tau": 0.1}, "tau = 0.1"),
        ({"budget": sws.Budget(passes=1)}, "budget"),
        ({"start": {"0.bias": torch.zeros(40)}}, "start is for a fit"),
        ({"prior": sws.GaussianPrior()}, "the prior of group 'all' is GaussianPrior"),
        ({"ranks": sws.Ranks(0, 2)}, "one process"),
    ],
)
def test_settings_of_a_fit_are_refused(trained, digits, more, told):
    with pytest.raises(ValueError, match=told):
        sws.compress(trained, digits[0][:64], fit=QUICK, **more)


@pytest.mark.slow
def test_a_network_that_is_sure_of_itself_is_not_destroyed(trained, digits):
    """Its predictions have next to no curvature, and what a bit is worth goes by that."""
    with torch.no_grad():
        sure = nn.Sequential(trained[0], trained[1], nn.Linear(40, 10))
        sure[2].weight.copy_(5 * trained[2].weight)
        sure[2].bias.copy_(5 * trained[2].bias)
    result = sws.compress(sure.eval(), digits[0][:600], fit=sws.PostTraining(), tolerance=0.1)
    assert result.report.score["decoded"] < 5


def test_inputs_there_must_be_unless_none_are_asked_for(trained):
    with pytest.raises(ValueError, match="inputs have no batches; give at least one"):
        sws.compress(trained, [], fit=QUICK)
    assert isinstance(sws.compress(trained, None, fit=sws.PostTraining()), sws.Shrunk)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float64,
        pytest.param(torch.float16, marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_networks_of_other_dtypes_get_them_back(trained, digits, dtype):
    net, inputs = copy.deepcopy(trained).to(dtype), digits[0][:200].to(dtype)
    result = sws.compress(net, inputs, fit=sws.PostTraining(rate=1e-7), tolerance=10.0)
    loaded = sws.load(result.data, into=net)
    assert {p.dtype for p in loaded.parameters()} == {dtype}
    assert divergence(net.double(), loaded.double(), digits[0][200:].double()) < 0.05


def test_a_network_without_values_is_refused(digits):
    with pytest.raises(ValueError, match="is on the meta device and has no values"):
        sws.compress(nn.Linear(64, 10, device="meta"), digits[0][:50], fit=QUICK)


def test_validation_inputs_need_no_labels_and_are_what_files_are_judged_on(trained, digits):
    judged = digits[0][1200:]
    fit = sws.PostTraining(rate=1e-7)
    result = sws.compress(trained, digits[0][:300], validation=judged, fit=fit, tolerance=10.0)
    (point,) = result.frontier
    decoded = sws.load(point.data, into=trained)
    assert point.score == pytest.approx(divergence(trained, decoded, judged), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("labelled", [True, False])
def test_shuffled_batches_leave_the_generator_alone(trained, digits, labelled):
    images, labels = digits[0][:200], digits[1][:200]
    dataset = torch.utils.data.TensorDataset(images, *([labels] if labelled else []))
    loader = torch.utils.data.DataLoader(dataset, batch_size=50, shuffle=True)
    state = torch.get_rng_state()
    fit = sws.PostTraining(rate=1e-7)
    first, again = (sws.compress(trained, loader, fit=fit, tolerance=50.0) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert first.data == again.data


@pytest.mark.parametrize(
    ("said", "told"),
    [({}, 1), ({"noise_precision": 4.0}, 0), ({"noise_precision": sws.Gamma(2.0, 1.0)}, 1)],
)
def test_noise_that_nobody_knows_is_warned_of(digits, said, told):
    net, fit = nn.Linear(64, 1), sws.PostTraining(rate=1e-9)
    likelihood, inputs = sws.Gaussian(**said), digits[0][:50]
    run = sws.compress(net, inputs, likelihood=likelihood, fit=fit)
    assert sum("noise is not known" in warning for warning in run.report.warnings) == told
    run = sws.compress(net, inputs, likelihood=likelihood, fit=fit, tolerance=10.0)
    assert not any("noise is not known" in warning for warning in run.report.warnings)


def test_without_predictions_labels_are_needed(trained, digits):
    loss = sws.Loss(partial(F.cross_entropy, reduction="none"))
    with pytest.raises(TypeError, match="give pairs"):
        sws.compress(trained, digits[0][:64], likelihood=loss, fit=QUICK)


@pytest.mark.parametrize("likelihood", [sws.Gaussian(noise_precision=4.0), sws.Bernoulli()])
def test_agreement_of_other_likelihoods(likelihood):
    """In closed form: squares over twice the variance; 0 and 1 by their logarithms."""
    torch.manual_seed(0)
    net, inputs = nn.Linear(4, 3), torch.randn(50, 4)
    model = sws.joint(net, default_rules(net), likelihood, 50)
    weights = {"weight": net.weight.detach() + 0.1, "bias": net.bias.detach()}
    with torch.no_grad():
        own, other = net(inputs).double(), F.linear(inputs, *weights.values()).double()
    p, q = own.sigmoid(), other.sigmoid()
    expected = {
        "Gaussian": (own - other).square() / (2 * 0.5**2),
        "Bernoulli": p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log(),
    }[type(likelihood).__name__]
    score = Agreement(model, [(inputs, own.float())], "held-out").score(weights, {})
    assert score == pytest.approx(float(expected.mean()), rel=1e-4)


@pytest.mark.parametrize("size", [1.0, 100.0])
def test_of_unknown_noise_outputs_move_by_a_share_of_their_variance(size):
    """Whatever the outputs' units: nats at a precision of 1 would be of the square of those."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
    with torch.no_grad():
        net[2].weight *= size
        net[2].bias *= size
    inputs = torch.randn(400, 8)
    run = sws.compress(net, inputs, likelihood="gaussian", fit=sws.PostTraining())
    with torch.no_grad():
        own, other = net(inputs), sws.load(run.data, into=net)(inputs)
    moved = (other - own).square().mean() / own.var(0, correction=0).mean()
    assert moved < 1.5e-3  # 1e-3 of the quarter that files are judged on
    assert run.report.post_training["tolerance"] == pytest.approx(
        0.5e-3 * float(own[300:].var(0, correction=0).mean()), rel=0.5
    )


def test_predicted_nats_are_of_a_prediction_like_the_score():
    """Here of each of eight tokens."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(16, 12), nn.Linear(12, 16))
    tokens = torch.randint(16, (200, 8))
    run = sws.compress(net, tokens, fit=sws.PostTraining(), tolerance=0.03)
    row = run.report.post_training
    assert row["predicted_nats"] == pytest.approx(row["score"], rel=1)  # eight times as many, else
    assert "nats a prediction are lost" in run.report.text()
