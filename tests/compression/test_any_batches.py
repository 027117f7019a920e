"""Networks of several inputs, from batches of several forms, compressed, written and loaded."""

import pyro.distributions as dist
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import pyro_sws as sws
from pyro_sws.compression.network_reading import reading_of
from pyro_sws.inference.batch_reading import Reading, read_by
from pyro_sws.weights.structures import fed

GENERATOR = torch.Generator().manual_seed(0)
X, Z = torch.randn(96, 5, generator=GENERATOR), torch.randn(96, 3, generator=GENERATOR)
Y = (X.sum(1) + Z[:, 0] > 0).long() + (Z[:, 1] > 0.5).long()
NARROW = sws.SpikeAndSlabs(slabs=14, zero_proportion=0.1, spike_precision=1e5, slab_precision=1e4)
PARTS = [slice(i, i + 16) for i in range(0, 96, 16)]


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.x, self.z, self.out = nn.Linear(5, 8), nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x, z):
        return self.out(torch.relu(self.x(x) + self.z(z)))


class Named(Two):
    """As Hugging Face's do: more than one output, by name."""

    def forward(self, x, z):
        return {"loss": None, "logits": super().forward(x, z), "hidden": self.x(x)}


def net(kind=Two):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind()


def logits(net):
    with torch.no_grad():
        outputs = net.eval()(X, Z)
    return outputs["logits"] if isinstance(outputs, dict) else outputs


FORMS = {
    "triples": (DataLoader(TensorDataset(X, Z, Y), 16), {}),
    "nested": ([((X[p], Z[p]), Y[p]) for p in PARTS], {}),
    "keywords": ([({"z": Z[p], "x": X[p]}, Y[p]) for p in PARTS], {}),
    "labels": ([{"x": X[p], "z": Z[p], "labels": Y[p]} for p in PARTS], {}),
    "named": ([{"x": X[p], "z": Z[p], "y": Y[p]} for p in PARTS], {"targets": "y"}),
    "functions": (
        [{"a": {"x": X[p], "z": Z[p]}, "b": (Y[p], "ignored")} for p in PARTS],
        {"forward": lambda net, b: net(**b["a"]), "targets": lambda b: b["b"][0]},
    ),
    "Batches": (sws.Batches((X, Z), Y, 16), {}),
    "one batch": ([((X, Z), Y)], {}),
}


class ByName(Two):
    def forward(self, z=None, *, x=None):
        return super().forward(x, torch.zeros(len(x), 3) if z is None else z)


@pytest.mark.parametrize("name", ["x", "z"])
def test_an_only_input_is_the_argument_of_its_name(name):
    """By hand: the network is called by that name, or, of the first argument, without one."""
    own, data = net(ByName), {"x": X, "z": Z}
    if name == "z":
        own.forward = lambda z: Two.forward(own, torch.zeros(len(z), 5), z)
    reading = reading_of(own, Reading(targets="y"), [])
    ((inputs, targets),) = read_by([{name: data[name], "y": Y}], reading)
    assert targets is Y and torch.equal(fed(own, inputs), own(**{name: data[name]}))


@pytest.mark.parametrize("kind", [Two, Named])
@pytest.mark.parametrize("form", FORMS)
def test_the_loaded_network_computes_what_the_quantised_one_does(form, kind):
    given, more = FORMS[form]
    own = net(kind)
    run = sws.compress(
        own, given, validation=given, test=given, prior=NARROW, epochs=2, tau=1e-4, **more
    )
    loaded = sws.load(run.data, into=net(kind))
    tensors = {name: torch.as_tensor(t) for name, t in run.quantized.tensors().items()}
    own.load_state_dict(tensors)
    assert logits(loaded).abs().max() > 0.1
    assert torch.equal(logits(loaded), logits(own))
    assert run.report.data["training"] == 96
    wrong = 100 * (logits(loaded).argmax(1) != Y).double().mean().item()
    assert run.report.score["decoded"] == pytest.approx(wrong)


@pytest.mark.integration
@pytest.mark.parametrize("form", ["triples", "functions", "one batch"])
@pytest.mark.slow
def test_a_walk_takes_them_too(form):
    given, more = FORMS[form]
    run = sws.compress(net(), given, tolerance=5.0, budget=sws.Budget(passes=4), **more)
    assert run.frontier.smallest().within and logits(sws.load(run.data, into=net())).abs().max() > 0


def test_forms_make_no_difference():
    """The same examples in the same order give the same bytes."""
    runs = [
        sws.compress(net(), FORMS[form][0], prior=NARROW, epochs=1, tau=1e-4, **FORMS[form][1]).data
        for form in ("nested", "keywords", "labels", "named", "functions")
    ]
    assert len(set(runs)) == 1


@pytest.mark.parametrize(
    ("batch", "more", "said"),
    [
        (((X, Z[:, :2]), Y), {}, "cannot compute outputs for inputs, float32 of shape ((96, 5), "),
        (({"x": X, "w": Z}, Y), {}, "unexpected keyword argument 'w'"),
        (((X,), Y), {}, "missing 1 required positional argument"),
        (
            ((X, Z), Y),
            {"forward": lambda net, b: (net(*b[0]), 1)},
            "((96, 3), int)",
        ),
    ],
)
def test_what_a_network_cannot_take_is_said_before_the_fit(batch, more, said):
    with pytest.raises(ValueError) as caught:
        sws.compress(net(), [batch], epochs=1, **more)
    assert said in str(caught.value)


@pytest.mark.integration
def test_a_loss_takes_targets_of_any_structure():
    """Connectionist temporal classification: labels of other lengths than the outputs."""

    class Spotter(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(4, 8, batch_first=True), nn.Linear(8, 5)

        def forward(self, x):
            return self.out(self.rnn(x)[0]).log_softmax(-1)

    def ctc(outputs, targets):
        frames = torch.full((len(outputs),), outputs.shape[1])
        rows = outputs.transpose(0, 1), targets["labels"], frames, targets["lengths"]
        return nn.functional.ctc_loss(*rows, reduction="none")

    sounds = torch.randn(40, 10, 4, generator=torch.Generator().manual_seed(0))
    labels, lengths = torch.arange(120).reshape(40, 3) % 4 + 1, torch.arange(40) % 3 + 1
    batches = [
        {"sound": sounds[p], "labels": labels[p], "lengths": lengths[p]}
        for p in (slice(i, i + 8) for i in range(0, 40, 8))
    ]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = Spotter()
    run = sws.compress(
        own,
        batches,
        likelihood=sws.Loss(ctc),
        forward=lambda net, batch: net(batch["sound"]),
        targets=lambda batch: {"labels": batch["labels"], "lengths": batch["lengths"]},
        tolerance=2.0,
        budget=sws.Budget(passes=3),
    )
    loaded = sws.load(run.data, into=own)
    with torch.no_grad():
        wanted = ctc(loaded(sounds), {"labels": labels, "lengths": lengths}).double().mean()
    assert run.report.score["decoded"] == pytest.approx(wanted.item(), rel=1e-5)
    assert run.report.certificate is None


@pytest.mark.integration
def test_two_outputs_are_a_mean_and_what_its_variance_is():
    class Unsure(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.mean, self.spread = nn.Linear(5, 8), nn.Linear(8, 1), nn.Linear(8, 1)

        def forward(self, x):
            hidden = torch.tanh(self.hidden(x))
            return self.mean(hidden).squeeze(-1), self.spread(hidden).squeeze(-1)

    own, targets = net(Unsure), X.sum(1)
    run = sws.compress(
        own,
        sws.Batches(X, targets, 16),
        likelihood=sws.HeteroscedasticGaussian(score="rmse"),
        tolerance=1.0,
        budget=sws.Budget(passes=3),
    )
    with torch.no_grad():
        mean, _ = sws.load(run.data, into=own)(X)
    rmse = (mean - targets).square().double().mean().sqrt().item()
    assert run.report.score["decoded"] == pytest.approx(rmse, rel=1e-5)


class Shape(nn.Module):
    """Two outputs, which are a distribution's parameters."""

    def __init__(self):
        super().__init__()
        self.mean, self.spread = nn.Linear(5, 2), nn.Linear(5, 2)

    def forward(self, x):
        return self.mean(x), self.spread(x)


def own_density(outputs):
    return dist.Normal(outputs[..., 0], outputs[..., 1].exp())


def own_loss(outputs, targets):
    return -own_density(outputs).log_prob(targets)


@pytest.mark.parametrize("likelihood", [sws.Loss(own_loss), sws.FromDistribution(own_density)])
def test_several_outputs_of_a_function_of_one_s_own_are_made_one_by_forward(likelihood):
    batch, keys = (X, X[:, :2]), {"likelihood": likelihood, "prior": NARROW, "epochs": 1}
    told = r"Shape returns a tuple of shapes \(\(96, 2\), \(96, 2\)\); .* forward=.* and targets="
    with pytest.raises(ValueError, match=told):
        sws.compress(net(Shape), [batch], **keys)
    run = sws.compress(
        net(Shape),
        [batch],
        **keys,
        tau=1e-4,
        forward=lambda net, batch: torch.stack(net(batch[0]), -1),
        targets=lambda batch: batch[1],
    )
    with torch.no_grad():
        outputs = torch.stack(sws.load(run.data, into=net(Shape))(X), -1)
    wanted = own_loss(outputs, X[:, :2]).double().sum(1).mean()
    assert outputs.abs().max() > 0.1
    assert run.report.score["decoded"] == pytest.approx(wanted.item(), rel=1e-5)
