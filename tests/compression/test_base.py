"""compress(base=): files of differences, of every kind of fit, and what they prove."""

import copy

import pytest
import torch
from torch import nn

import pyro_sws as sws

SEEN, N, TEST = 300, 1000, 300


def labels(x, turned):
    return (x[:, 0] + (0.8 * x[:, 1] if turned else 0) > 0).long()


@pytest.fixture(scope="module")
def data():
    x = torch.randn(SEEN + N + TEST, 5, generator=torch.Generator().manual_seed(0))
    return x, labels(x, turned=True)


def learn(net, x, y, steps):
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def nets(data):
    torch.manual_seed(0)
    x, y = data
    base = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    base = learn(base, x[:SEEN], labels(x[:SEEN], turned=False), 150)
    net = learn(copy.deepcopy(base), x[SEEN : SEEN + N], y[SEEN : SEEN + N], 60)
    return net, base


@pytest.fixture(scope="module")
def train(data):
    return sws.Batches(data[0][SEEN : SEEN + N], data[1][SEEN : SEEN + N], 100)


KINDS = {
    "fit": {"tau": 0.1, "epochs": 3},
    "refined": {"tau": 0.1, "epochs": 2, "refinement": sws.Refinement(epochs=2)},
    "walk": {"fit": sws.Walk(), "budget": sws.Budget(passes=5), "tolerance": 2.0},
    "post-training": {"fit": sws.PostTraining(files=2), "tolerance": 2.0},
}


@pytest.fixture(scope="module", params=KINDS)
def run(request, nets, train):
    return sws.compress(nets[0], train, base=nets[1], **KINDS[request.param])


def test_the_file_on_the_base_is_the_network_that_was_measured(run, nets, data):
    net, base = nets
    decoded = sws.load(run.data, into=net, base=base)
    x, y = data[0][SEEN : SEEN + N], data[1][SEEN : SEEN + N]
    with torch.no_grad():
        assert torch.equal(decoded(x), run.decoded(x))
        error = 100 * float((decoded(x).argmax(1) != y).double().mean())
    assert run.report.score["decoded"] == pytest.approx(error)
    assert run.report.file_bytes == len(run.data)


def test_its_weights_are_the_base_plus_those_of_the_file(run, nets):
    net, base = nets
    found, added = sws.load(run.data, net, base).state_dict(), sws.decode(run.data).tensors()
    for name, tensor in base.state_dict().items():
        assert torch.equal(found[name], tensor + torch.as_tensor(added[name].copy()).to(tensor))


def test_without_the_base_it_cannot_be_read(run, nets):
    net, base = nets
    with pytest.raises(ValueError, match="holds differences to a base, [0-9a-f]{16}; give that"):
        sws.load(run.data, into=net)
    with pytest.raises(ValueError, match="give the network that it was made against"):
        sws.load(run.data, into=net, base=net)


def test_its_folder_is_the_same_run(run, tmp_path):
    run.save(tmp_path / "run")
    again = sws.Run.open(tmp_path / "run")
    assert again.quantized == run.quantized and again.posterior.base == run.quantized.base != b""


def test_all_files_of_a_walk_are_differences(run):
    for point in run.frontier or ():
        assert sws.decode(point.data).base == run.quantized.base


def test_it_proves_nothing_until_one_says_what_the_base_saw(run, nets, train, data):
    net, base = nets
    assert run.report.certificate is None
    assert "must not have seen the examples" in run.report.certificate_reason
    with pytest.raises(sws.NotCertifiable, match="give base_saw="):
        sws.certify(run.data, net, train, base=base)
    saw = [(data[0][:SEEN], data[1][:SEEN])]
    found = sws.certify(run.data, net, train, base=base, base_saw=saw)
    assert found.certificate.training_examples == N
    assert "of the 300 that it was trained on, none is among them" in found.assumes[-1]
    more = sws.Batches(data[0][SEEN - 7 :], data[1][SEEN - 7 :])
    with pytest.raises(sws.NotCertifiable, match="the base saw 7 of the certified examples"):
        sws.certify(run.data, net, more, base=base, base_saw=saw)
    assert sws.certify(run.data, net, train, base=base, base_saw=()).certificate is not None


def test_a_network_equal_to_its_base_makes_a_file_of_next_to_nothing(nets, train):
    base = nets[1]
    run = sws.compress(base, train, base=base, tau=0.1, epochs=0)
    assert sws.decode(run.data).nonzero == 0
    decoded = sws.load(run.data, into=base, base=base)
    for name, tensor in base.state_dict().items():
        assert torch.equal(decoded.state_dict()[name], tensor)
