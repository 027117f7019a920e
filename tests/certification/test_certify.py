"""certify: counts that are counted here once more, and a refusal for each assumption that fails."""

import json

import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

import pyro_sws as sws

N, HELD = 1500, 400


@pytest.fixture(scope="module")
def points():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(N + HELD + 300, 6, generator=generator)
    return inputs, (inputs[:, 0] + 0.3 * inputs[:, 1] > 0).long()


@pytest.fixture(scope="module")
def net(points):
    inputs, targets = points
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(inputs[:N]), targets[:N]).backward()
        optimiser.step()
    return net.eval()


@pytest.fixture(scope="module")
def train(points):
    return sws.Batches(points[0][:N], points[1][:N], 100)


@pytest.fixture(scope="module")
def held(points):
    return [(points[0][N : N + HELD], points[1][N : N + HELD])]


@pytest.fixture(scope="module")
def run(net, train):
    return sws.compress(net, train, tau=0.3, epochs=20)


def wrong(net, inputs, targets):
    with torch.no_grad():
        return int((net(inputs).argmax(1) != targets).sum())


def test_it_counts_the_decoded_networks_mistakes_and_all_bits(net, train, run, points):
    found = sws.certify(run.data, net, train).certificate
    decoded = sws.load(run.data, into=net)
    assert found.training_mistakes == wrong(decoded, points[0][:N], points[1][:N])
    assert found.training_examples == N
    assert found.description_bits == 8 * len(run.data) + 20
    tail = stats.binom.logcdf(found.training_mistakes, N, found.bound_percent / 100)
    price = torch.tensor(0.05).log() - found.description_bits * torch.tensor(2.0).log()
    assert tail == pytest.approx(float(price), rel=1e-5)
    assert found.bound_percent <= found.kl_percent <= found.hoeffding_percent


def test_the_runs_own_report_says_the_same(net, train, run):
    found = sws.certify(run.data, net, train).certificate
    assert run.report.certificate["bound_percent"] == found.bound_percent
    assert run.report.certificate["side_bits"] == 20


def test_the_weights_of_the_network_that_it_is_given_do_not_matter(net, train, run):
    other = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    assert sws.certify(run.data, other, train).certificate == (
        sws.certify(run.data, net, train).certificate
    )


def test_what_was_tried_costs_its_logarithm(net, train, run):
    plain = sws.certify(run.data, net, train, side=sws.SideInformation(codec_bits=0)).certificate
    side = sws.SideInformation(tried=1024, codec_bits=0)
    found = sws.certify(run.data, net, train, side=side).certificate
    assert found.description_bits == plain.description_bits + 10
    assert found.bound_percent > plain.bound_percent


def test_held_out_examples_prove_clopper_and_pearsons_bound(net, train, run, held):
    found = sws.certify(run.data, net, train, holdout=held).holdout
    k = wrong(sws.load(run.data, into=net), *held[0])
    assert (found.mistakes, found.examples) == (k, HELD)
    expected = stats.beta.ppf(0.95, k + 1, HELD - k)
    assert found.bound_percent == pytest.approx(100 * expected, rel=1e-9)
    more = sws.certify(run.data, net, holdout=held, looks=16).holdout
    expected = stats.beta.ppf(1 - 0.05 / 16, k + 1, HELD - k)
    assert more.bound_percent == pytest.approx(100 * expected, rel=1e-9)


def test_of_a_frontier_all_bounds_hold_at_once():
    found = sws.frontier_certificates([3, 5, 9], 200, delta=0.06)
    expected = [100 * stats.beta.ppf(0.98, k + 1, 200 - k) for k in (3, 5, 9)]
    assert [f.bound_percent for f in found] == pytest.approx(expected, rel=1e-9)


def test_disagreement_on_fresh_inputs_bounds_the_network_itself(net, train, run, points):
    fresh = points[0][N + HELD :]
    found = sws.certify(run.data, net, train, unlabelled=fresh)
    with torch.no_grad():
        answers = [each(fresh).argmax(1) for each in (net, sws.load(run.data, into=net))]
    m = int((answers[0] != answers[1]).sum())
    assert (found.agreement.disagreements, found.agreement.examples) == (m, 300)
    expected = 100 * stats.beta.ppf(0.95, m + 1, 300 - m)
    assert found.agreement.bound_percent == pytest.approx(expected, rel=1e-9)
    both = found.certificate.bound_percent + found.agreement.bound_percent
    assert found.uncompressed_percent == pytest.approx(both)


def test_the_bits_of_labels_are_bounded_above_their_mean(net, train, run, points):
    found = sws.certify(run.data, net, train).bits
    decoded = sws.load(run.data, into=net)
    with torch.no_grad():
        p = decoded(points[0][:N]).softmax(1).gather(1, points[1][:N, None]).double()
    mean = -((1 - found.smoothing) * p + found.smoothing / 2).log2().mean()
    assert found.training_bits == pytest.approx(float(mean), rel=1e-6)
    assert found.training_bits < found.bound_bits < found.guess_bits == 1


def test_the_sentence_and_the_table_say_every_bound(net, train, run, held, points):
    found = sws.certify(run.data, net, train, holdout=held, unlabelled=points[0][N + HELD :])
    table = json.loads(json.dumps(found.to_dict()))
    for kind in ("certificate", "holdout", "agreement"):
        assert f"at most {table[kind]['bound_percent']:.2f} %" in table["sentence"]
    assert f"{len(run.data):,} bytes" in table["sentence"] and len(table["assumes"]) >= 4


class Centred(nn.Module):
    def __init__(self, mean, persistent):
        super().__init__()
        self.layer = nn.Linear(6, 2)
        self.register_buffer("mean", mean, persistent=persistent)

    def forward(self, x):
        return self.layer(x - self.mean)


def test_a_buffer_outside_the_file_is_refused_unless_it_is_said_to_be_fixed(points, train):
    net = Centred(points[0][:N].mean(0), persistent=False)
    data = sws.compress(net, train, tau=0.1, epochs=1).data
    with pytest.raises(sws.NotCertifiable, match=r"computes with mean, buffers that are not in"):
        sws.certify(data, net, train)
    assert sws.certify(data, net, train, fixed=["mean"]).certificate is not None
    with pytest.raises(ValueError, match="fixed names means, which is no buffer outside the file"):
        sws.certify(data, net, train, fixed=["means"])


def test_a_buffer_in_the_file_is_paid_for(points, train):
    net = Centred(points[0][:N].mean(0), persistent=True)
    data = sws.compress(net, train, tau=0.1, epochs=1).data
    assert sws.certify(data, net, train).certificate is not None


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        return self.layer(nn.functional.dropout(x, 0.5))


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.passes = nn.Linear(6, 2), 0

    def forward(self, x):
        self.passes += 1
        return self.layer(x) * (1 + 0.1 * self.passes)


def encoded(net):
    """A file of any network's weights, rounded."""
    books = {n: (p.detach() * 4).round() / 4 for n, p in net.named_parameters()}
    symbols, codebooks = {}, {}
    for name, tensor in books.items():
        values, found = tensor.unique(return_inverse=True)
        codebooks[name], symbols[name] = values.numpy(), found.numpy().astype("uint8")
    return sws.encode(sws.Quantized(symbols, codebooks, {n: n for n in books}, {}))


@pytest.mark.parametrize(
    ("kind", "words"),
    [(Dropping, "draws as it computes"), (Counting, "other outputs when it is run again")],
)
def test_a_network_that_is_no_function_is_refused(kind, words, train):
    net = kind()
    with pytest.raises(sws.NotCertifiable, match=words):
        sws.certify(encoded(net), net, train)


def not_finite():
    net = nn.Sequential(nn.Linear(6, 2))
    with torch.no_grad():
        net[0].weight.fill_(1e30)
        net[0].bias.fill_(0)
    return net


def test_outputs_that_are_not_finite_are_refused(points):
    net = not_finite()
    train = sws.Batches(points[0][:50] * 1e30, points[1][:50])
    with pytest.raises(sws.NotCertifiable, match="not finite"):
        sws.certify(encoded(net), net, train)


def listed_again(points):
    return [(points[0][:100], points[1][:100])] * 8


def one_twice(points):
    return [(points[0][:100], points[1][:100]), (points[0][:1], points[1][:1])]


def weighted(points):
    data = TensorDataset(points[0][:100], points[1][:100])
    sampler = WeightedRandomSampler(torch.arange(1.0, 101), 100, replacement=False)
    return DataLoader(data, 10, sampler=sampler)


class Moved(TensorDataset):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + torch.randn(x.shape), y


def augmented(points):
    return DataLoader(Moved(points[0][:100], points[1][:100]), 10)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (listed_again, "draws 800 times from 100 examples; repeats prove nothing"),
        (one_twice, "1 of the 101 examples of train are equal to another one"),
        (weighted, "drawn with weights"),
        (augmented, "changes its examples each time"),
    ],
)
def test_draws_that_are_not_examples_are_refused(make, words, net, run, points):
    with pytest.raises(sws.NotCertifiable, match=words):
        sws.certify(run.data, net, make(points))


def test_equal_examples_count_where_one_says_that_they_are_draws(net, run, points):
    found = sws.certify(run.data, net, one_twice(points), data_size=101)
    assert found.certificate.training_examples == 101
    assert any("equal to another one are independent" in line for line in found.assumes)


def test_held_out_examples_that_were_trained_on_are_refused(net, train, run, points):
    with pytest.raises(sws.NotCertifiable, match="400 of the 400 held-out examples are training"):
        sws.certify(run.data, net, train, holdout=[(points[0][:400], points[1][:400])])


def test_inputs_that_were_trained_on_are_not_fresh(net, train, run, points):
    with pytest.raises(sws.NotCertifiable, match="300 of the 300 unlabelled inputs are training"):
        sws.certify(run.data, net, train, unlabelled=points[0][:300])


def test_a_file_is_bytes_or_a_path_and_no_folder(net, train, run, tmp_path):
    run.save(tmp_path / "n.sws")
    found = [sws.certify(f, net, train) for f in (tmp_path / "n.sws", bytearray(run.data))]
    assert found[0] == found[1] == sws.certify(run.data, net, train)
    with pytest.raises(IsADirectoryError, match="is a folder; name the file in it"):
        sws.certify(tmp_path, net, train)


def test_losses_that_are_no_mistakes_are_refused(run, net, points):
    numbers = sws.Batches(points[0][:N], points[0][:N, :2])
    with pytest.raises(sws.NotCertifiable, match="Gaussian has no loss of 0 or 1"):
        sws.certify(run.data, net, numbers, likelihood="gaussian")


def test_without_examples_there_is_nothing_to_prove(run, net):
    with pytest.raises(TypeError, match="nothing is proved without examples"):
        sws.certify(run.data, net)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"tried": 0}, "tried must be at least 1"), ({"codec_bits": -1.0}, "codec_bits must be")],
)
def test_side_information_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        sws.SideInformation(**arguments)


def test_post_training_on_the_networks_own_answers_has_no_certificate(net, points):
    report = sws.compress(net, points[0][:300], fit=sws.PostTraining(files=1)).report
    assert report.certificate is None and report.holdout is None
    assert "which may have seen these very inputs" in report.certificate_reason
