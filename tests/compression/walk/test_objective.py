"""Walks that seek the least certificate or description: values counted here once more."""

import pytest
import torch
from torch import nn

import pyro_sws as sws

N = 400


@pytest.fixture(scope="module")
def points():
    inputs = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    return inputs, (inputs[:, 0] + 0.4 * inputs[:, 1] > 0).long()


@pytest.fixture(scope="module")
def net(points):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 2))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(points[0]), points[1]).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def train(points):
    return sws.Batches(*points, 50)


@pytest.fixture(scope="module", params=["certificate", "mdl"])
def run(request, net, train):
    return request.param, sws.compress(net, train, tau=request.param, budget=sws.Budget(passes=30))


def value(objective, net, point, points):
    """Of a frontier's file, from its bytes alone."""
    decoded = sws.load(point.data, into=net)
    with torch.no_grad():
        outputs = decoded(points[0])
    if objective == "mdl":
        nats = nn.functional.cross_entropy(outputs.double(), points[1], reduction="sum")
        return 8 * len(point.data) + float(nats) / 0.6931471805599453
    wrong = int((outputs.argmax(1) != points[1]).sum())
    side = sws.SideInformation()
    return sws.certificate_of_counts(len(point.data), wrong, N, side=side).bound_percent


def test_every_files_score_is_the_objectives_value(run, net, points):
    objective, run = run
    for point in list(run.frontier)[:-1][::5]:
        assert point.score == pytest.approx(value(objective, net, point, points), rel=1e-5)


def test_the_file_that_comes_back_has_the_least(run):
    _, run = run
    frontier = run.frontier
    assert frontier.smallest().score == min(p.score for p in frontier) == frontier.reference
    assert frontier.tolerance == 0 and frontier.unit == {"certificate": "percent"}.get(
        frontier.objective, "bits"
    )


def test_it_is_less_than_what_a_tolerance_gives(run, net, train):
    objective, run = run
    plain = sws.compress(net, train, budget=sws.Budget(passes=30))
    if objective == "certificate":
        own, other = (r.report.certificate["bound_percent"] for r in (run, plain))
    else:
        own, other = (r.report.description["total_bits"] for r in (run, plain))
    assert own < other


def test_the_report_says_what_was_sought(run, tmp_path):
    objective, run = run
    assert run.report.walk["objective"] == objective
    assert {"certificate": "the bound was least", "mdl": "the description was least"}[
        objective
    ] in run.report.text()
    run.save(tmp_path / "run")
    assert sws.Run.open(tmp_path / "run").frontier.objective == objective


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tau": "bound"}, "tau must be a number, or 'certificate', 'mdl' of a walk; got 'bound'"),
        ({"tau": "mdl", "tolerance": 1.0}, "tolerance = 1 and the objective 'mdl': give one"),
        ({"tau": "mdl", "fit": sws.Fitting()}, "tau = 'mdl' is of a walk, and fit is Fitting"),
        ({"tau": "certificate", "likelihood": "gaussian"}, "for a loss of 0 or 1 an example"),
    ],
)
def test_what_cannot_be_sought_is_refused(net, points, more, words):
    targets = points[0][:, :2] if "likelihood" in more else points[1]
    with pytest.raises(ValueError, match=words):
        sws.compress(net, sws.Batches(points[0], targets), **more)


def test_a_walk_has_no_other_objective():
    with pytest.raises(ValueError, match="objective must be bytes, certificate or mdl"):
        sws.Walk(objective="size")
