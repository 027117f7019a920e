"""What the curvature chose, trained on."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import pyro_sws as sws
from pyro_sws.compression.refine import RefinementRates

pytestmark = pytest.mark.integration
FIT = sws.PostTraining()
TRAINING = sws.Refinement(epochs=40, rates=RefinementRates(weights=1e-2))


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


@pytest.mark.slow
def test_the_file_is_shorter_within_the_same_tolerance(trained, digits):
    images, labels = digits
    data = {
        "train": sws.Batches(images[:1200], labels[:1200]),
        "validation": sws.Batches(images[1200:1500], labels[1200:1500]),
        "tolerance": 2.0,
    }
    plain = sws.compress(trained, fit=FIT, **data)
    refined = sws.compress(trained, fit=FIT, refinement=TRAINING, **data)
    assert len(refined.data) < 0.9 * len(plain.data)
    own, last = refined.report.post_training, refined.frontier[-1]
    assert own["score"] == last.score <= own["reference"] + 2.0
    assert refined.report.refinement["epochs"] == last.passes == 40
    with torch.no_grad():
        wrong = refined.decoded(images[1200:1500]).argmax(-1) != labels[1200:1500]
    assert 100 * float(wrong.float().mean()) == pytest.approx(last.score, abs=1e-4)


@pytest.mark.slow
def test_without_labels_it_learns_what_the_network_says(trained, digits):
    run = sws.compress(trained, digits[0][:1200], fit=FIT, refinement=TRAINING)
    first = next(point for point in run.frontier if point.passes)
    as_short = [p.score for p in run.frontier if not p.passes and p.bytes <= first.bytes]
    assert first.score < 0.7 * min(as_short)


@pytest.mark.slow
def test_one_that_brings_nothing_leaves_the_file_as_it_was(trained, digits):
    inputs = digits[0][:600]
    slow = RefinementRates(weights=1e-9, means=1e-9)
    settings = sws.Refinement(epochs=1, rates=slow)
    refined = sws.compress(trained, inputs, fit=FIT, tolerance=0.05, refinement=settings)
    plain = sws.compress(trained, inputs, fit=FIT, tolerance=0.05)
    assert refined.data == plain.data
    assert refined.report.refinement is None
    assert any("refinement made no file" in warning for warning in refined.report.warnings)
