"""A file's network for other programs: what is written computes what the quantised network does."""

import importlib.util
import warnings
import zipfile

import numpy as np
import pytest
import torch
from problems import classifier
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

import pyro_sws as sws
from pyro_sws.compression.walk.values import default_rules
from pyro_sws.runs import export as module

ONNX = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in module.ONNX_LIBRARIES),
    reason="the libraries of the onnx extra are not there",
)
PROGRAMS = [".pt2", pytest.param(".onnx", marks=ONNX)]


class Images(nn.Module):
    """A convolution, buffers, and a weight that is in two places."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.first = nn.Linear(4 * 36, 16)
        self.square = nn.Linear(16, 16)
        self.again = nn.Linear(16, 16)
        self.again.weight = self.square.weight
        self.last = nn.Linear(16, 3)

    def forward(self, x):
        x = self.norm(self.conv(x)).relu().flatten(1)
        return self.last(self.again(self.square(self.first(x).relu()).relu()).relu())


def compressed(net, inputs, targets):
    """Under a prior so fine that not all weights become 0: the outputs depend on the inputs."""
    prior = default_rules(net)
    return sws.compress(net, [(inputs, targets)], prior=prior, tau=1e-6, epochs=1)


@pytest.fixture(scope="module")
def images():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, inputs = Images(), torch.randn(24, 1, 8, 8)
    targets = torch.arange(24) % 3
    return compressed(net, inputs, targets), net, inputs


@pytest.fixture(scope="module")
def small():
    net, inputs, targets = classifier()
    return compressed(net, inputs, targets), net, inputs


def quantised(run, net, inputs):
    with torch.no_grad():
        return sws.load(run.data, into=net)(inputs)


def runner(path):
    """What another program would do with the file."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])


def test_a_state_dict_has_every_name_and_the_quantised_values(images, tmp_path):
    run, net, inputs = images
    sws.export(run, tmp_path / "net.safetensors")
    fresh = Images()
    fresh.load_state_dict(load_file(tmp_path / "net.safetensors"))
    with torch.no_grad():
        assert torch.equal(fresh.eval()(inputs), quantised(run, net, inputs))


@pytest.mark.parametrize("source", ["bytes", "path", "folder's run"])
def test_weights_alone_need_no_network(small, tmp_path, source):
    run, net, _ = small
    run.save(tmp_path / "net.sws")
    run.save(tmp_path / "run")
    given = {
        "bytes": run.data,
        "path": tmp_path / "net.sws",
        "folder's run": sws.Run.open(tmp_path / "run"),
    }
    sws.export(given[source], tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as arrays:
        expected = sws.decode(run.data).tensors()
        assert set(arrays) == set(expected)
        assert all(np.array_equal(arrays[name], expected[name]) for name in expected)


@pytest.mark.integration
@pytest.mark.parametrize("ending", PROGRAMS)
def test_a_program_computes_what_the_quantised_network_does(images, tmp_path, ending):
    run, net, inputs = images
    path = tmp_path / f"net{ending}"
    sws.export(run, path, example=inputs[:4])
    expected = quantised(run, net, inputs)
    assert expected.std(0).min() > 1e-3  # it depends on the inputs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own reader
        run_it = runner(path)
    for count in (1, 4, 24):
        with torch.no_grad():
            outputs = run_it(inputs[:count])
        scale = float(expected.abs().max())
        assert float((outputs - expected[:count]).abs().max()) <= 1e-5 * scale
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.integration
@pytest.mark.parametrize("ending", PROGRAMS)
def test_a_program_of_a_file_is_that_of_its_network(small, tmp_path, ending):
    run, net, inputs = small
    run.save(tmp_path / "net.sws")
    path = tmp_path / f"net{ending}"
    sws.export(tmp_path / "net.sws", path, into=net, example=inputs[:1], dynamic_batch=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = runner(path)(inputs[:1]).detach()
    torch.testing.assert_close(outputs, quantised(run, net, inputs[:1]), rtol=1e-5, atol=1e-6)


class Two(nn.Module):
    """Two inputs and options; outputs by name, one of them whole numbers, one that is none."""

    def __init__(self):
        super().__init__()
        self.x, self.z, self.out = nn.Linear(5, 8), nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, x, z, scale=None, slope=0.0):
        hidden = F.leaky_relu(self.x(x) + self.z(z), slope)
        logits = self.out(hidden) if scale is None else scale * self.out(hidden)
        return {"logits": logits, "more": (hidden, hidden.argmax(-1)), "loss": None}


@pytest.fixture(scope="module")
def two():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, x, z = Two(), torch.randn(12, 5), torch.randn(12, 3)
    return compressed(net, (x, z), torch.arange(12) % 3), net, x, z


EXAMPLES = {
    "positional": lambda x, z: (x, z),
    "keywords": lambda x, z: {"z": z, "x": x},
    "a batch with labels": lambda x, z: {"x": x, "z": z, "labels": x[:, 0]},
    "what all share": lambda x, z: [x, z, torch.tensor(2.0)],
    "what is no tensor": lambda x, z: {"x": x, "z": z, "slope": 0.5},
}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "ending"),
    [*((name, ".pt2") for name in EXAMPLES), pytest.param("keywords", ".onnx", marks=ONNX)],
)
def test_inputs_and_outputs_have_any_structure(two, tmp_path, name, ending):
    run, net, x, z = two
    sws.export(run, tmp_path / f"net{ending}", example=EXAMPLES[name](x[:4], z[:4]))
    given = EXAMPLES[name](x, z)
    args = given if isinstance(given, tuple | list) else ()
    keywords = {k: v for k, v in given.items() if k != "labels"} if not args else {}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = several(tmp_path / f"net{ending}", args, keywords)
        outputs = sws.load(run.data, into=net)(*args, **keywords)
    hidden, most = outputs["more"]
    assert outputs["logits"].abs().max() > 0.1
    torch.testing.assert_close(found, [outputs["logits"], hidden, most], rtol=1e-5, atol=1e-6)


def several(path, args, keywords):
    """The tensors that another program gets of the file."""
    if path.suffix == ".pt2":
        outputs = torch.export.load(path).module()(*args, **keywords)
        return [outputs["logits"], *outputs["more"]]
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {name: tensor.numpy() for name, tensor in keywords.items()})
    return [torch.from_numpy(output) for output in outputs]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"x": torch.zeros(2, 5), "w": torch.zeros(2, 3)}, "unexpected keyword argument 'w'"),
        ((torch.zeros(2, 5), torch.zeros(3, 3)), "example= have tensors of different lengths"),
        ((torch.zeros(0, 5), torch.zeros(0, 3)), r"got shape \(\(0, 5\), \(0, 3\)\)"),
        ((1, 2.0), r"a batch .* or a dict of keywords, got \(1, 2.0\)"),
    ],
)
def test_an_example_that_no_program_is_traced_on_is_refused(two, tmp_path, example, message):
    with pytest.raises(ValueError, match=message):
        sws.export(two[0], tmp_path / "net.pt2", example=example)
    assert not list(tmp_path.iterdir())


class Masked(nn.Module):
    """Another network without its second input."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x, mask=None):
        return self.layer(x if mask is None else x * mask)


@pytest.mark.integration
def test_an_example_with_fewer_inputs_than_the_batches_had_is_told(tmp_path, caplog):
    x, mask = torch.randn(12, 5), torch.rand(12, 5).round()
    run = compressed(Masked(), {"x": x, "mask": mask}, torch.arange(12) % 3)
    sws.export(run, tmp_path / "whole.pt2", example={"x": x, "mask": mask})
    assert "example=" not in caplog.text
    sws.export(run, tmp_path / "part.pt2", example=x)
    assert "example= has 1 of the 2 tensors that the network was given" in caplog.text


class Unlike(Two):
    """Its last output has another value in a program."""

    def forward(self, x, z):
        outputs = super().forward(x, z)
        return outputs["logits"], outputs["more"][0] + torch.compiler.is_compiling()


@pytest.mark.integration
def test_every_output_is_compared(two, tmp_path):
    run, _, x, z = two
    with pytest.raises(ValueError, match="outputs differ from the quantised network's by 1,"):
        sws.export(run, tmp_path / "net.pt2", into=Unlike(), example=(x, z))
    assert not list(tmp_path.iterdir())


@pytest.mark.integration
def test_no_example_is_in_the_program(small, tmp_path):
    run, net, inputs = small
    secret = torch.full((3, 4), 12345.678)
    sws.export(run, tmp_path / "net.pt2", example=secret)
    with zipfile.ZipFile(tmp_path / "net.pt2") as archive:
        contents = b"".join(archive.read(name) for name in archive.namelist())
    assert secret[0, :1].numpy().tobytes() not in contents


class Halves(nn.Module):
    """Computes other outputs of a program than of itself."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x) + (2.0 if torch.compiler.is_compiling() else 1.0)


@pytest.mark.integration
def test_a_program_of_other_outputs_is_not_left_there(tmp_path):
    _, inputs, targets = classifier()
    net = Halves()
    run = sws.compress(net, [(inputs, targets)], epochs=1)
    (tmp_path / "net.pt2").write_text("an older one")
    with pytest.raises(ValueError, match="outputs differ from the quantised network's by"):
        sws.export(run, tmp_path / "net.pt2", example=inputs)
    assert (tmp_path / "net.pt2").read_text() == "an older one"
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]


class Routed(nn.Module):
    """Its path depends on values, which no graph has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        outputs = self.linear(x)
        return outputs if outputs.sum() > 1e9 else 2 * outputs


@pytest.mark.integration
def test_a_network_that_no_graph_expresses_is_told(tmp_path):
    _, inputs, targets = classifier()
    run = sws.compress(Routed(), [(inputs, targets)], epochs=1)
    with pytest.raises(ValueError, match="torch.export cannot express Routed: "):
        sws.export(run, tmp_path / "net.pt2", example=inputs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("path", "given", "message"),
    [
        ("net.pt", {}, "a network is exported to .safetensors, .npz, .pt2, .onnx; name the file"),
        ("net.pt2", {}, r"a program is traced on inputs; give example=, a batch .* got None"),
        ("net.pt2", {"example": torch.zeros(0, 4)}, r"got shape \(0, 4\)"),
        ("net.pt2", {"example": torch.zeros(2, 7)}, "cannot compute outputs for inputs"),
        ("gone/net.npz", {}, "no folder"),
    ],
)
def test_what_cannot_be_exported_is_refused(small, tmp_path, path, given, message):
    run, *_ = small
    with pytest.raises((ValueError, OSError), match=message):
        sws.export(run, tmp_path / path, **given)
    assert not list(tmp_path.iterdir())


def test_a_file_alone_has_no_program(small, tmp_path):
    run, _, inputs = small
    with pytest.raises(ValueError, match="a program is of a network; give into="):
        sws.export(run.data, tmp_path / "net.pt2", example=inputs)


def test_onnx_without_its_libraries_says_how_to_get_them(small, tmp_path, monkeypatch):
    run, _, inputs = small
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ImportError, match=r"needs onnxscript; .* pip install 'pyro-sws\[onnx\]'"):
        sws.export(run, tmp_path / "net.onnx", example=inputs)


def test_exporting_leaves_the_network_and_the_generator_alone(small, tmp_path):
    run, net, inputs = small
    before, rng = {n: t.clone() for n, t in net.state_dict().items()}, torch.get_rng_state()
    sws.export(run, tmp_path / "net.pt2", example=inputs)
    assert all(torch.equal(before[name], t) for name, t in net.state_dict().items())
    assert net.training and torch.equal(rng, torch.get_rng_state())
